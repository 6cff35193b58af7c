"""MeViS as written: form, masks, no-target sentences, and the split without truth."""

from __future__ import annotations

from refstream.data.layouts import write_layout

from .reading import assert_frames, load, truth, union


def test_masks_and_words(tmp_path, source):
    report = write_layout("mevis", source, tmp_path)
    assert (report.split, report.clips, report.expressions, report.left_out) == ("train", 3, 17, {})
    videos = load(tmp_path / "train" / "meta_expressions.json")["videos"]
    mask_dict = load(tmp_path / "train" / "mask_dict.json")
    assert len(mask_dict) == 15
    assert all(key == str(int(key)) for key in mask_dict)
    for number, clip in enumerate(source[i] for i in range(3)):
        video = videos[clip.id]
        assert video["vid_id"] == number
        assert video["frames"] == ["00000", "00001", "00002"]
        assert_frames(tmp_path / "train" / "JPEGImages" / clip.id, clip, video["frames"])
        assert list(video["expressions"]) == [str(i) for i in range(len(clip.expressions))]
        for written, said in zip(video["expressions"].values(), clip.expressions, strict=True):
            assert written["exp"] == said.text
            assert written["obj_id"] == list(said.object_ids)
            codes = [mask_dict[str(anno_id)] for anno_id in written["anno_id"]]
            assert (union(codes, clip.object_masks.shape[1:]) == truth(clip, said.object_ids)).all()


def test_invisible_frames_are_null(tmp_path, source):
    write_layout("mevis", source, tmp_path)
    mask_dict = load(tmp_path / "train" / "mask_dict.json")
    assert [code is None for code in mask_dict["2"]] == [True, False, False]  # it enters
    assert mask_dict["4"] == [None, None, None]  # it is never seen


def test_the_absent_target_has_no_annotation(tmp_path, source):
    write_layout("mevis", source, tmp_path, split="valid_u")
    videos = load(tmp_path / "valid_u" / "meta_expressions.json")["videos"]
    assert videos["train_clip_a"]["expressions"] == {"0": {"exp": "the ghost", "obj_id": [], "anno_id": []}}


def test_valid_has_words_only(tmp_path, source):
    write_layout("mevis", source, tmp_path, split="valid")
    assert sorted(p.name for p in (tmp_path / "valid").iterdir()) == ["JPEGImages", "meta_expressions.json"]
    for video in load(tmp_path / "valid" / "meta_expressions.json")["videos"].values():
        assert {tuple(e) for e in video["expressions"].values()} == {("exp",)}
