from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refstream.data import rle
from refstream.errors import UserError
from refstream.evaluation.benchmark import Altered
from refstream.evaluation.ledger import FolderLedger, MemoryLedger
from refstream.evaluation.results import Speed
from refstream.evaluation.run import RunPredictions, plan, run_model, segment_clip


def texts(video):
    return [expression.text for expression in video.expressions]


def test_segment_clip(two_squares, colour_pipeline, buffering_pipeline):
    (video,) = two_squares.videos
    masks = segment_clip(colour_pipeline, two_squares.frames, texts(video), video.fps)
    np.testing.assert_array_equal(masks[:2], two_squares.masks)
    np.testing.assert_array_equal(masks[2], two_squares.masks.any(0))
    again = segment_clip(buffering_pipeline, two_squares.frames, texts(video), video.fps)
    np.testing.assert_array_equal(again, masks)


def test_pipelines_that_leave_out_or_misfit_masks_are_refused(two_squares, colour_pipeline):
    answer = colour_pipeline.answer
    colour_pipeline.answer = lambda s, frame, x: replace(answer(s, frame, x), mask=None)
    with pytest.raises(ValueError, match="gave no mask for 'the red square' in frame 0"):
        segment_clip(colour_pipeline, two_squares.frames, ["the red square"], 10.0)
    colour_pipeline.answer = lambda s, frame, x: replace(
        answer(s, frame, x), mask=np.zeros((2, 2), dtype=bool)
    )
    with pytest.raises(ValueError, match=r"mask of \(2, 2\) for frames of \(40, 60\)"):
        segment_clip(colour_pipeline, two_squares.frames, ["the red square"], 10.0)


def test_records_hold_masks_and_calls(two_squares, colour_pipeline):
    masks, costs, steps = MemoryLedger(), MemoryLedger(), []
    run_model(colour_pipeline, two_squares, masks, costs, progress=lambda *step: steps.append(step))
    assert steps == [(1, 1)]
    assert masks.done() == {"only/0", "only/1", "only/2"}
    record = masks.read("only/1")
    assert record["frames"] == ["00000", "00001", "00002"]
    assert record["size"] == [40, 60]
    np.testing.assert_array_equal(rle.decode_clip(record["masks"], (40, 60)), two_squares.masks[1])
    speed = Speed.of(costs)
    assert speed.mllm_calls_per_frame == pytest.approx(2 / 3)
    assert speed.expressions_per_stream == 3
    assert speed.fps > 0
    assert 0 < speed.latency_ms_p50 <= speed.latency_ms_p95
    assert speed.first_mask_ms_p50 > 0
    assert Speed.of(MemoryLedger()) is None


def say(pipeline, *boxes):
    """The pipeline says these boxes, one list per frame."""
    answer = pipeline.answer
    pipeline.answer = lambda s, f, x: replace(answer(s, f, x), extra={"boxes": boxes[f.index]})
    return pipeline


def test_records_hold_the_boxes_that_were_prompts(two_squares, colour_pipeline):
    """One box, two of which the box around them is kept, none."""
    masks = MemoryLedger()
    two = [[0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.25, 0.9]]
    run_model(say(colour_pipeline, [two[0]], two, []), two_squares, masks, MemoryLedger())
    assert masks.read("only/1")["prompts"] == [two[0], [0.1, 0.1, 0.3, 0.9], None]
    (video,) = two_squares.videos
    found = RunPredictions(masks).read(video, video.expressions[1], (40, 60)).prompts
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:2], [two[0], [0.1, 0.1, 0.3, 0.9]])
    assert np.isnan(found[2]).all()


def test_boxes_that_serve_again_unspoken_are_no_prompts(two_squares, colour_pipeline):
    masks, answer, box = MemoryLedger(), colour_pipeline.answer, [0.1, 0.2, 0.3, 0.4]
    colour_pipeline.answer = lambda s, f, x: replace(
        answer(s, f, x), extra={"boxes": [box], "unspoken": f.index == 1}
    )
    run_model(colour_pipeline, two_squares, masks, MemoryLedger())
    assert masks.read("only/1")["prompts"] == [box, None, box]


def test_records_of_pipelines_without_boxes_have_no_such_key(two_squares, colour_pipeline):
    for pipeline in (colour_pipeline, say(colour_pipeline, [], [], [])):
        masks = MemoryLedger()
        run_model(pipeline, two_squares, masks, MemoryLedger())
        assert set(masks.read("only/1")) == {
            *("item", "video", "expression", "text", "frames", "size", "masks", "confidence", "called")
        }
        (video,) = two_squares.videos
        assert RunPredictions(masks).read(video, video.expressions[1], (40, 60)).prompts is None


def test_prompts_of_frames_that_are_not_scored_are_left_out(two_squares, colour_pipeline):
    (video,) = two_squares.videos
    one = Altered(two_squares, [replace(video, scored=(2,))])
    masks, boxes = MemoryLedger(), [[[t / 10, 0.0, 0.9, 1.0]] for t in range(3)]
    run_model(say(colour_pipeline, *boxes), one, masks, MemoryLedger())
    assert masks.read("only/1")["prompts"] == [[0.2, 0.0, 0.9, 1.0]]


@pytest.mark.parametrize("box", [[0, 0, 1], [0, 0, 1.5, 1], [0, 0, float("nan"), 1], [-0.1, 0, 1, 1]])
def test_boxes_that_are_none_are_refused(two_squares, colour_pipeline, box):
    with pytest.raises(ValueError, match=r"ColourPipeline gave the boxes .*; expected x0, y0, x1, y1"):
        run_model(say(colour_pipeline, *[[box]] * 3), two_squares, MemoryLedger(), MemoryLedger())


def test_buffering_pipelines_answer_late_but_the_same(two_squares, colour_pipeline, buffering_pipeline):
    ledgers = [MemoryLedger(), MemoryLedger()]
    costs = MemoryLedger()
    run_model(colour_pipeline, two_squares, ledgers[0], MemoryLedger())
    run_model(buffering_pipeline, two_squares, ledgers[1], costs)
    assert ledgers[0].read("only/2") == ledgers[1].read("only/2")
    cost = costs.read("only/0")
    assert cost["first_mask_ms"] == pytest.approx(cost["seconds"] * 1000)


def test_only_some_frames_are_scored(two_squares, colour_pipeline):
    (video,) = two_squares.videos
    one = Altered(two_squares, [replace(video, scored=(2,))])
    masks = MemoryLedger()
    run_model(colour_pipeline, one, masks, MemoryLedger())
    record = masks.read("only/1")
    assert record["frames"] == ["00002"]
    np.testing.assert_array_equal(rle.decode_clip(record["masks"])[0], two_squares.masks[1, 2])


def test_what_is_done_is_not_done_again(two_squares, colour_pipeline, tmp_path):
    masks = FolderLedger(tmp_path / "run", {"a": 1})
    costs = FolderLedger(tmp_path / "costs", {"a": 1})
    run_model(colour_pipeline, two_squares, masks, costs, per_stream=2)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "items").iterdir()}
    masks.path("only/2").unlink()
    run_model(colour_pipeline, two_squares, masks, costs, per_stream=2)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "items").iterdir()}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"only%2F2.json"}


def test_plan_divides_the_expressions_of_a_video(two_squares):
    jobs = plan(two_squares, per_stream=2)
    assert [[e.id for e in job.expressions] for job in jobs] == [["0", "1"], ["2"]]
    assert [job.name for job in jobs] == ["only/0", "only/2"]
    with pytest.raises(UserError, match="at least one expression"):
        plan(two_squares, per_stream=0)


def test_a_frame_that_cannot_be_read_is_named(two_squares, colour_pipeline):
    (video,) = two_squares.videos
    longer = Altered(two_squares, [replace(video, frames=(*video.frames, "00003"))])
    with pytest.raises(UserError, match="only: 3 frames could be read, 4 are listed"):
        run_model(colour_pipeline, longer, MemoryLedger(), MemoryLedger())


def test_a_video_that_cannot_be_read_does_not_keep_the_others_from_being_run(two_squares, colour_pipeline):
    (video,) = two_squares.videos
    broken = replace(video, id="broken", frames=(*video.frames, "00003"))
    masks = MemoryLedger()
    with pytest.raises(UserError, match=r"running: 1 of 2 items failed, .* broken/0: broken: 3 frames"):
        run_model(colour_pipeline, Altered(two_squares, [broken, video]), masks, MemoryLedger())
    assert masks.done() == {"only/0", "only/1", "only/2"}


def test_an_expression_without_words_is_run_as_the_object(two_squares, colour_pipeline, caplog):
    (video,) = two_squares.videos
    words = replace(video, expressions=(replace(video.expressions[0], text=" "),))
    masks = MemoryLedger()
    run_model(colour_pipeline, Altered(two_squares, [words]), masks, MemoryLedger())
    assert "1 expressions have no words, such as only/0; 'the object' is asked" in caplog.text
    found = RunPredictions(masks).read(words, words.expressions[0], (40, 60))
    np.testing.assert_array_equal(found.masks, two_squares.masks.any(0))


def test_predictions_of_a_run(two_squares, colour_pipeline, tmp_path):
    run_model(colour_pipeline, two_squares, FolderLedger(tmp_path / "run"), MemoryLedger())
    predictions = RunPredictions(tmp_path / "run")
    (video,) = two_squares.videos
    found = predictions.read(video, video.expressions[0], (40, 60))
    np.testing.assert_array_equal(found.masks, two_squares.masks[0])
    assert found.confidence.shape == (3,)
    assert predictions.read(video, replace(video.expressions[0], id="9"), (40, 60)) is None
    with pytest.raises(UserError, match=r"3 frames of \(40, 60\), the truth 3 of \(80, 60\)"):
        predictions.read(video, video.expressions[0], (80, 60))
    with pytest.raises(UserError, match="only/0 are for 'the red square', not for 'the green one'"):
        predictions.read(video, replace(video.expressions[0], text="the green one"), (40, 60))
    FolderLedger(tmp_path / "run", must_exist=True).write("only/0", {"item": "only/0", "masks": []})
    with pytest.raises(UserError, match="record of only/0 lacks confidence, frames, size, text; delete its"):
        predictions.read(video, video.expressions[0], (40, 60))
    with pytest.raises(UserError, match="no folder of a run"):
        RunPredictions(tmp_path)
