"""Draw what was found: coloured masks, and a caption strip that says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from refstream.structures import Frame, StreamEvent

# Eight colours that stay apart for most kinds of colour blindness (Okabe and Ito 2008, reordered).
PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (255, 255, 255),
)
_INK, _PAPER = (235, 235, 235), (24, 24, 24)


def blend_masks(image: np.ndarray, masks: Sequence[np.ndarray | None], *, alpha: float = 0.5) -> np.ndarray:
    """Colour each mask and outline it.

    Args:
        image: (H, W, 3) uint8 RGB, left as it is.
        masks: One (H, W) bool per query, or None; the i-th gets the i-th colour of ``PALETTE`` (cyclic).
        alpha: Weight of the colour, in [0, 1].
    """
    out = image.copy()
    for number, mask in enumerate(masks):
        if mask is None or not mask.any():
            continue
        if mask.shape != image.shape[:2]:
            raise ValueError(f"mask of shape {mask.shape} does not fit an image of shape {image.shape}")
        colour = np.array(PALETTE[number % len(PALETTE)], dtype=np.float32)
        out[mask] = np.round(out[mask] * (1 - alpha) + colour * alpha).astype(np.uint8)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(
            out, contours, -1, tuple(int(c) for c in colour), max(1, min(image.shape[:2]) // 300)
        )
    return out


def caption(event: StreamEvent | None) -> str:
    """The reasons of an event in one short line."""
    if event is None:
        return "no answer"
    parts = []
    if event.pred_iou is not None:
        parts.append(f"P_i {event.pred_iou:.2f}")
    if event.consistency is not None:
        parts.append(f"P_c {event.consistency:.2f}")
    parts.append(("MLLM" if event.invoked_mllm else "reuse") + (f" ({event.reason})" if event.reason else ""))
    parts.append(f"{event.latency_ms:.0f} ms")
    return " | ".join(parts)


class OverlayCanvas:
    """Draws frames of one stream, all to the same size.

    Args:
        expressions: Query id -> expression, in order of colour; masks of other queries are not drawn.
        min_width: Narrower frames are enlarged by a whole factor, so that the text can be read.
        max_width: Wider frames are shrunk.
    """

    def __init__(
        self, expressions: Mapping[str, str], *, min_width: int = 480, max_width: int = 1920
    ) -> None:
        if not expressions:
            raise ValueError("an overlay needs at least one query, got none")
        self.expressions = dict(expressions)
        self.min_width, self.max_width = min_width, max_width

    def draw(self, frame: Frame, events: Sequence[StreamEvent]) -> np.ndarray:
        """(H', W', 3) uint8 RGB: the frame with its masks, and below it a line or two per query."""
        by_query = {event.query_id: event for event in events}
        masks = [by_query[i].mask if i in by_query else None for i in self.expressions]
        picture = self._blend(frame.image, masks)
        return np.concatenate([picture, self._strip(frame, by_query, picture.shape[1])], axis=0)

    def _blend(self, image: np.ndarray, masks: Sequence[np.ndarray | None]) -> np.ndarray:
        """Scale to a readable width, then colour: fine outlines, and no work on pixels that nobody sees."""
        height, width = image.shape[:2]
        size, how = (width, height), cv2.INTER_AREA
        if width < self.min_width:
            factor = -(-self.min_width // width)
            if height * factor <= 2 * self.max_width:  # else it is a strip a few pixels wide
                size, how = (width * factor, height * factor), cv2.INTER_NEAREST
        elif width > self.max_width:
            size = (self.max_width, max(1, round(height * self.max_width / width)))
        if size == (width, height):
            return blend_masks(image, masks)
        picture = np.asarray(cv2.resize(image, size, interpolation=how), dtype=np.uint8)
        return blend_masks(picture, [_resize_mask(mask, size, image.shape) for mask in masks])

    def _strip(self, frame: Frame, by_query: Mapping[str, StreamEvent], width: int) -> np.ndarray:
        font = _font(max(12, min(28, width // 40)))
        line = round(font.size * 1.5)
        strip = Image.new("RGB", (width, line * (2 * len(self.expressions)) + line // 2), _PAPER)
        pen = ImageDraw.Draw(strip)
        stamp = f"frame {frame.index}  {frame.time_s:.2f} s"
        stamp_left = width - line // 4 - pen.textlength(stamp, font=font)
        for number, (query_id, expression) in enumerate(self.expressions.items()):
            top = line // 4 + 2 * line * number
            colour = PALETTE[number % len(PALETTE)]
            pen.rectangle(
                (line // 4, top + line // 6, line // 4 + line // 2, top + line // 6 + line // 2), colour
            )
            room = (stamp_left if number == 0 else width) - 1.5 * line
            pen.text((line, top), _shorten(pen, expression, font, room), _INK, font)
            pen.text(
                (line, top + line),
                _shorten(pen, caption(by_query.get(query_id)), font, width - line),
                colour,
                font,
            )
        if stamp_left > 4 * line:
            pen.text((stamp_left, line // 4), stamp, _INK, font)
        return np.asarray(strip)


class ContactSheet:
    """Keeps about ``num_tiles`` pictures spread evenly over a stream of unknown length, in bounded memory.

    Every ``stride``-th picture is kept; when twice as many as wanted have gathered, every other one goes and
    the stride doubles.

    Args:
        num_tiles: Pictures on the sheet, at most.
        tile_width: Their width in pixels.
    """

    def __init__(self, num_tiles: int = 12, tile_width: int = 480) -> None:
        if num_tiles < 1 or tile_width < 1:
            raise ValueError(f"num_tiles and tile_width must be positive, got {num_tiles} and {tile_width}")
        self.num_tiles, self.tile_width = num_tiles, tile_width
        self._kept: list[np.ndarray] = []
        self._stride, self._seen = 1, 0

    def add(self, picture: np.ndarray) -> None:
        """Offer the next (H, W, 3) uint8 picture; all must have one size."""
        if self._seen % self._stride == 0:
            height = max(1, round(picture.shape[0] * self.tile_width / picture.shape[1]))
            tile = cv2.resize(picture, (self.tile_width, height), interpolation=cv2.INTER_AREA)
            self._kept.append(np.asarray(tile, dtype=np.uint8))
            if len(self._kept) >= 2 * self.num_tiles:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._seen += 1

    def render(self) -> np.ndarray:
        """(H, W, 3) uint8: the grid, as near to square as whole rows allow.

        Raises:
            ValueError: nothing was added.
        """
        if not self._kept:
            raise ValueError("a contact sheet needs at least one picture, got none")
        count = min(len(self._kept), self.num_tiles)
        chosen = [self._kept[i] for i in np.round(np.linspace(0, len(self._kept) - 1, count)).astype(int)]
        height, width = chosen[0].shape[:2]
        aspect = height / width
        columns = min(count, max(1, round((count * aspect) ** 0.5)))
        rows = -(-count // columns)
        sheet = np.full((rows * (height + 4) + 4, columns * (width + 4) + 4, 3), _PAPER, dtype=np.uint8)
        for i, tile in enumerate(chosen):
            top, left = 4 + (i // columns) * (height + 4), 4 + (i % columns) * (width + 4)
            sheet[top : top + height, left : left + width] = tile
        return sheet


def contact_sheet(
    frames: Sequence[Frame],
    events: Sequence[Sequence[StreamEvent]],
    expressions: Mapping[str, str],
    num_tiles: int = 12,
) -> np.ndarray:
    """Grid of overlaid frames, (H, W, 3) uint8.

    Args:
        frames: T frames of one size.
        events: Their T lists of events.
        expressions: Query id -> expression.
        num_tiles: At most so many, spread evenly.
    """
    canvas, sheet = OverlayCanvas(expressions), ContactSheet(num_tiles)
    for frame, found in zip(frames, events, strict=True):
        sheet.add(canvas.draw(frame, found))
    return sheet.render()


def _resize_mask(
    mask: np.ndarray | None, size: tuple[int, int], image_shape: tuple[int, ...]
) -> np.ndarray | None:
    """(H, W) bool -> (size[1], size[0]) bool, nearest neighbour."""
    if mask is None:
        return None
    if mask.shape != image_shape[:2]:
        raise ValueError(f"mask of shape {mask.shape} does not fit an image of shape {image_shape}")
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), dtype=bool)


def outline_mask(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A copy of an (H, W, 3) uint8 image with the outline of an (H, W) bool mask, one or two pixels wide."""
    out = image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, contours, -1, colour, max(1, min(image.shape[:2]) // 200))
    return out


def text_strip(text: str, width: int) -> np.ndarray:
    """(h, width, 3) uint8: one line of light text on dark ground, shortened where it does not fit."""
    font = _font(max(12, min(28, width // 40)))
    strip = Image.new("RGB", (width, round(font.size * 1.5)), _PAPER)
    pen = ImageDraw.Draw(strip)
    left = font.size // 2
    pen.text((left, font.size // 5), _shorten(pen, text, font, width - 2 * left), _INK, font)
    return np.asarray(strip)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _shorten(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """One line that fits ``width`` pixels, cut with an ellipsis if it must be."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:500]).split())
    if pen.textlength(text, font=font) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if pen.textlength(text[:middle] + "...", font=font) <= width else (low, middle - 1)
        )
    return text[:low] + "..." if low else ""
