"""Mask dictionaries whose keys are a running number over the expressions (Ref-DAVIS17, Ref-YouTube-VOS).

They know no ids of the expressions file, so one that was counted in another order gives wrong masks without a
sign: everything that could give it away is compared when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refstream.data.datasets.mask_table import MaskTable
from refstream.data.datasets.reading import expect
from refstream.data.datasets.ref_youtube_vos import check_counted, counted_annotations
from refstream.errors import UserError


def checked_count(table: MaskTable, records: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(video, expression id) -> key of the dictionary, counted over both sorted as text.

    Raises:
        UserError: If the dictionary was not counted over these expressions in this order, as far as that can
            be seen: number of keys, of frames, and equal masks for equal ``obj_id``.
    """
    counted = counted_annotations(records)
    for (video, key), annotation in counted.items():
        form = table.forms.get(annotation)
        frames = expect(records[video].get("frames"), list, f"video {video!r}, key 'frames'")
        if form is not None and len(table.forms) == len(counted) and form.num_frames != len(frames):
            raise UserError(
                f"{table.path}: annotation {annotation} has {form.num_frames} masks, but expression "
                f"{video}/{key}, to which the running number belongs, {len(frames)} frames; the keys must "
                "count sorted videos and expression ids sorted as text (0, 1, 10, 2). Build it again with "
                "`refstream data prepare mask_dict`, or read the pictures in its place (masks='pictures')"
            )
    try:
        check_counted(table, counted, records)
    except UserError as error:
        raise UserError(
            f"{error}. In an evaluation: build it again with `refstream data prepare mask_dict`, or set "
            "masks='pictures'"
        ) from error
    return counted
