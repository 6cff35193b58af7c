"""The options of every command. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path


def segment(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream segment``."""
    parser.description = """\
Segment what the expressions mean, frame by frame.

Writes into --out:
  overlay.mp4        the video with coloured masks; below each frame P_i (the mask's predicted IoU), P_c (its
                     consistency with the frame before), whether and why the MLLM looked, and the latency
  masks/ID/*.png     one 0/255 picture per frame and expression
  events.jsonl       one line per frame and expression, masks as COCO RLE
  contact_sheet.png  about twelve frames at a glance
  summary.json       fps, latencies, MLLM calls per frame, ...
"""
    parser.epilog = """\
examples:
  refstream segment --video clip.mp4 --expression "the red circle"
  refstream segment --video frames/ --expression "the dog" --expression "the man on the left" --max-side 720
  refstream segment --video 0 --expression "the cup" --max-frames 300            (camera 0, 300 frames)
  refstream segment --video rtsp://host/stream --expression "the van" --model pretrained/my_model
  refstream segment --video clip.mp4 --expression "the cat" --gate every_k:5     (a look at every 5th frame)
"""
    parser.add_argument(
        "--video",
        required=True,
        metavar="SOURCE",
        help="video file, folder of frames, picture, camera number, or rtsp:// or http:// address",
    )
    parser.add_argument(
        "--expression",
        required=True,
        action="append",
        metavar="TEXT",
        help="what to look for, in words; repeat it to look for several things at once",
    )
    _out(parser, "outputs/segment/<name of the video>")
    _model(parser)
    _stream(parser)


def demo(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream demo``."""
    parser.description = """\
Without --video: render a clip of MiniRVOS as mp4, read that file back, segment it and score it.
With --video and --expression: the same as `refstream segment`.
"""
    parser.add_argument("--video", metavar="SOURCE", help="your own; see `refstream segment --help`")
    parser.add_argument("--expression", action="append", metavar="TEXT", help="what to look for; repeatable")
    parser.add_argument(
        "--clip", type=_count, default=37, metavar="N", help="clip of the MiniRVOS test split, default 37"
    )
    _out(parser, "outputs/demo")
    _model(parser)
    _stream(parser)


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream eval``."""
    parser.description = """\
Run a model on a benchmark and score it. What is finished stays: the same command goes on where it was killed.

Writes into --out:
  result.json     figures, floors, settings, what was missing; the same in every run
  items.csv       one line per expression
  speed.json      FPS, latencies, MLLM calls per frame
  report.html     tables, curves, best and worst cases as pictures; opens without a server
  model/, ...     masks and scores of each expression, from which an interrupted run goes on
"""
    parser.epilog = """\
examples:
  refstream eval pretrained/tiny --benchmark minirvos --floors
  refstream eval pretrained/tiny --benchmark minirvos --seed 7 --clips 20 --out outputs/eval/seed7
  refstream eval MODEL --benchmark revos --data data/video_datas/revos --published
  bash tools/dist.sh test MODEL 8 --benchmark mevis        (eight GPUs)
"""
    parser.add_argument("model", type=Path, metavar="MODEL", help="model folder")
    parser.add_argument("--benchmark", default="minirvos", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="its folder; default: see data/README.md")
    parser.add_argument("--split", metavar="S", help="official name; default: the one that papers score")
    parser.add_argument("--protocol", metavar="P", help="default: the benchmark's first")
    parser.add_argument("--compat", metavar="C", help="reproduce known defects of public code; default: none")
    parser.add_argument("--floors", action="store_true", help="also score what needs no understanding")
    parser.add_argument(
        "--curve",
        metavar="C",
        help="also J&F against FPS over thresholds tau1/tau2 of the gate, such as 0.9/0.4,0.7/0.1, or over "
        "that many values of tau1; the encoders run once",
    )
    parser.add_argument("--published", action="store_true", help="show the papers' figures beside")
    parser.add_argument("--max-videos", type=_positive, metavar="N", help="the first N only; no result then")
    _out(parser, "outputs/eval/<model>-<benchmark>-<split>")
    parser.add_argument("--publish", type=Path, metavar="FILE", help="also write all figures into one JSON")
    parser.add_argument("--fresh", action="store_true", help="begin anew: remove what --out has of a run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    group = parser.add_argument_group("speed and memory")
    group.add_argument(
        "--per-stream", type=_positive, metavar="N", help="most expressions that share a stream, default 8"
    )
    add_jobs(group)
    add_launcher(group)
    from refstream.cli.stream_arguments import add_streams

    add_streams(parser)
    group = parser.add_argument_group("benchmarks answered in words")
    group.add_argument("--qa-fps", type=float, default=1.0, metavar="R", help="frames a second, default 1")
    group.add_argument("--qa-frames", type=_positive, default=64, metavar="N", help="at most, default 64")
    group = parser.add_argument_group("minirvos")
    group.add_argument("--seed", type=_count, help="of the clips drawn, and of --gate random; default 0")
    group.add_argument("--clips", type=_positive, metavar="N", help="default 50; of streams: 300")
    group.add_argument("--frames", type=_positive, metavar="T", help="per clip, default 24")
    group.add_argument("--world", choices=["rich", "plain"], help="default rich")
    add_device(parser)
    _gate(parser)


def score(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream score``."""
    from refstream.cli import scoring_arguments

    scoring_arguments.add_score(parser)


def submit(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream submit``."""
    from refstream.cli import scoring_arguments

    scoring_arguments.add_submit(parser)


def watch(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream watch``."""
    from refstream.cli import watch_arguments

    watch_arguments.add_watch(parser)


def train(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream train``."""
    parser.description = "Train what a config describes; the result is a model folder in the work directory."
    parser.epilog = """\
examples:
  refstream train projects/METHOD/configs/NAME.py
  refstream train CONFIG --dry-run                         (what it would train, on what, in what memory)
  refstream train CONFIG --cfg-options train_cfg.max_iters=10 --work-dir work_dirs/try
  bash tools/dist.sh train CONFIG 4 --deepspeed zero2        (four GPUs)
"""
    parser.add_argument("config", metavar="CONFIG", help="config file")
    parser.add_argument("--work-dir", metavar="FOLDER", help="default: work_dirs/<name of the config>")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="FOLDER",
        help="go on from the last good checkpoint of the work directory, or from the one named",
    )
    parser.add_argument(
        "--deepspeed",
        metavar="NAME",
        help="divide states among processes: zero1, zero2, zero3 (also as deepspeed_zero2), or fsdp",
    )
    parser.add_argument("--dry-run", action="store_true", help="train nothing; print what would be done")
    parser.add_argument("--xtuner", action="store_true", help="let XTuner's own training script do it")
    add_launcher(parser)
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="replace values of the config")


def convert(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream convert``."""
    parser.description = """\
Save released weights (Sa2VA family), another RefStream folder, or what a config trained as a model folder
that `refstream.load` and every other command take.
"""
    parser.epilog = """\
examples:
  refstream convert pretrained/Sa2VA-1B pretrained/sa2va_1b
  refstream convert projects/streamingrvos/configs/tiny_stage2.py work_dirs/tiny_stage2 --save-path out
  refstream convert CONFIG.py work_dirs/x/iter_00000500 --save-path out --layout sa2va
"""
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder with config.json, or CONFIG.py")
    parser.add_argument(
        "out",
        type=Path,
        nargs="?",
        metavar="OUT",
        help="new folder; after CONFIG.py: its checkpoint (iter_NNN, a .pth file, or the work directory)",
    )
    parser.add_argument(
        "--save-path", type=Path, metavar="P", help="new folder, as OUT; needed after CONFIG.py"
    )
    parser.add_argument(
        "--layout",
        choices=["refstream", "sa2va"],
        default="refstream",
        help="sa2va: keys and config.json of Sa2VA's released models; default refstream",
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="for the page: what `refstream eval --publish` wrote"
    )
    parser.add_argument("--licence", metavar="TEXT", help="for the page: of the trained weights")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        default="bfloat16",
        help="of the stored weights, default bfloat16",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing")


def bench(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream bench``."""
    parser.description = """\
Milliseconds per frame of RefStream and of a re-enactment of the released loop: same process, same weights,
same frames, alternating rounds, medians.
"""
    parser.epilog = """\
examples:
  refstream bench stream --out outputs/bench/bench_stream.json
  refstream bench real --random-init internvl2_5-4b+sam2.1-large --device cuda     (needs a GPU)
"""
    parser.add_argument(
        "what", choices=["stream", "real"], help="a model's stream; random weights of real size"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="stream: default random weights at 1/100 of the 1B model's cost",
    )
    parser.add_argument("--random-init", metavar="SIZES", help="real: default internvl2_5-1b+sam2.1-large")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--frames", type=_positive, default=10, metavar="T", help="per round, default 10")
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--size", type=_size, default=(480, 854), metavar="HxW", help="default: 480x854")
    parser.add_argument("--quiet", action="store_true", help="no table")
    add_device(parser)


def data(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream data``."""
    from refstream.cli import data_arguments

    data_arguments.add(parser)


def _out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {default}")


def _model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a RefStream folder or a released Sa2VA-family export; default: the embedded tiny model, "
        "which knows coloured shapes only",
    )
    which.add_argument(
        "--random-init",
        metavar="SIZES",
        help="no weights: random ones of a real size, such as internvl2_5-1b+sam2.1-large",
    )
    add_device(group)
    _gate(group)
    group.add_argument("--seed", type=_count, default=0, help="of everything random, default 0")


def add_device(group: argparse._ActionsContainer) -> None:
    """Where and in which numbers a model runs."""
    group.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    group.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of the weights; auto: bfloat16 on a GPU, else float32",
    )


def add_launcher(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="set by tools/dist.sh and tools/slurm.sh",
    )
    # torch.distributed.launch passes it; the environment says the same
    group.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)


def add_jobs(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="processes that score; 0: this one alone; default: one per core, none for little work",
    )
    group.add_argument(
        "--item-timeout",
        type=above_zero,
        default=900.0,
        metavar="S",
        help="for scoring one video with --jobs, default 900; a process that needs longer is ended",
    )


def _gate(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--gate",
        metavar="GATE",
        help="when the MLLM looks again: omcp (mask unsure or jumped), always, first, every_k:K, random:P, "
        "lagged; default: the model's own",
    )
    group.add_argument("--tau1", type=float, help="omcp: lowest P_i that is trusted")
    group.add_argument("--tau2", type=float, help="omcp: lowest P_c that is trusted")


def _stream(parser: argparse.ArgumentParser) -> None:
    add_limits(parser.add_argument_group("video"), rate="--fps")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes, no table")


def add_limits(group: argparse._ActionsContainer, *, rate: str) -> None:
    """How much of a video is read and how; ``rate`` is the option of a folder's frame rate."""
    group.add_argument("--max-frames", type=_positive, metavar="N", help="stop after N frames")
    group.add_argument("--max-side", type=_positive, metavar="PX", help="shrink frames to this longer side")
    group.add_argument(rate, type=float, metavar="FPS", help="rate of a folder of frames, default 24")
    group.add_argument(
        "--on-error",
        choices=["raise", "skip"],
        default="raise",
        help="damaged frames: stop with what there is (raise), or leave them out (skip)",
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {value}")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"must be HxW, such as 480x854, got {text!r}")
    return _positive(height), _positive(width)


def _positive(text: str) -> int:
    """A whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value
