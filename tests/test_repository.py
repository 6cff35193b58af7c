"""The rules of the house as failures: each holds over the repository, and each is shown able to fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .repository_rules import (
    MAX_BYTES,
    MAX_LINES,
    METHODS_PACKAGE,
    RESULT_KEYS,
    ROOT,
    absolute_paths,
    circles,
    core_looks_outward,
    core_room_edges,
    foreign_source,
    identical,
    imports_upward,
    incomplete_result,
    is_large,
    leaves_its_seam,
    leaves_own_project,
    names_a_method,
    oversized,
    prints,
    python_files,
    read,
    repository_files,
    too_long,
    unimported,
    unsafe_calls,
    uses_folder_name,
    violations,
)

FILE_RULES = [
    (core_looks_outward, ("refstream",), "refstream knows no method and no tool"),
    (imports_upward, ("refstream",), "import down the list RANKS only: move the shared part down"),
    (names_a_method, ("refstream",), "make the choice a config value or a registered type"),
    (leaves_own_project, ("projects",), "move what two projects share into refstream"),
    (uses_folder_name, (), f"import methods as {METHODS_PACKAGE}.<name>, or relatively inside a project"),
    (leaves_its_seam, ("refstream", "projects", "tools"), "go through the module that is its home"),
    (prints, ("refstream",), "use logging, or the console of the command line"),
    (unsafe_calls, (), "load tensors with weights_only or safetensors; run no code that came as data"),
]


@pytest.mark.parametrize(
    ("rule", "folders", "advice"), FILE_RULES, ids=[rule.__name__ for rule, _, _ in FILE_RULES]
)
def test_python_files_keep_the_rule(rule, folders, advice):
    found = violations(rule, [path for path in python_files(*folders) if path != "projects/__init__.py"])
    assert not found, f"{advice}:\n{found}"


def text_files() -> list[str]:
    kinds = (".py", ".sh", ".md", ".toml", ".txt", ".yml", ".cff", "Makefile", ".ci/run")
    return [
        path
        for path in repository_files()
        if path.endswith(kinds) and not is_large(path) and path != "LICENSE"
    ]


def test_files_are_short():
    found = violations(too_long, [path for path in text_files() if not path.endswith(".md")])
    assert not found, f"split these by what they do:\n{found}"


def test_no_absolute_paths():
    found = violations(absolute_paths, text_files())
    assert not found, f"use paths relative to the working folder, data/, pretrained/ or work_dirs/:\n{found}"


def test_no_third_party_source():
    found = violations(foreign_source, python_files())
    assert not found, f"use the installed package instead of a copy of its source:\n{found}"


def test_files_are_small():
    found = oversized({path: (ROOT / path).stat().st_size for path in repository_files()})
    assert not found, "keep big files out of git:\n" + "\n".join(found)


def test_no_identical_files():
    found = identical({path: (ROOT / path).read_bytes() for path in repository_files() if not is_large(path)})
    assert not found, "keep one of each and import it:\n" + "\n".join(found)


def test_rooms_make_no_circle():
    found = circles(core_room_edges())
    assert not found, "let one of each pair import the other, not both:\n" + "\n".join(found)


def test_every_module_is_imported():
    """A module that only its own tests import is dead; what refstream/testing holds is imported by tests.

    Modules to be run with ``python -m`` need not be imported.
    """
    every = {path: read(path) for path in python_files()}
    shipped = {path: text for path, text in every.items() if "tests" not in Path(path).parts}
    entries = ("__init__.py", "__main__.py")
    modules = {p: p.removesuffix(".py").replace("/", ".") for p in shipped if p.startswith("refstream/")}
    modules = {
        path: module
        for path, module in modules.items()
        if not path.endswith(entries) and '\nif __name__ == "__main__":' not in shipped[path]
    }
    fakes = {path: module for path, module in modules.items() if path.startswith("refstream/testing/")}
    found = unimported({p: m for p, m in modules.items() if p not in fakes}, shipped) + unimported(
        fakes, every
    )
    assert not found, "import these where they are used, or delete them:\n" + "\n".join(found)


CONFIGS = [p for p in repository_files() if re.match(r"projects/[^/]+/configs/(?!.*_base_/).*\.py$", p)]


def test_there_are_configs():
    assert CONFIGS, "no config found under projects/*/configs"


@pytest.mark.parametrize("path", CONFIGS)
def test_config_parses(path):
    from mmengine.config import Config

    assert len(Config.fromfile(ROOT / path)) > 0, f"{path} holds no setting"


def test_results_say_where_they_come_from():
    paths = [path for path in repository_files() if re.match(r"docs/results/[^/]+\.json$", path)]
    found = violations(incomplete_result, paths)
    assert not found, f"a result names {sorted(RESULT_KEYS)}:\n{found}"


# ---------------------------------------------------------------- the rules can fail

CORE = "refstream/models/x.py"
BROKEN = [
    (core_looks_outward, CORE, "from refstream_projects.a import B"),
    (core_looks_outward, CORE, "def f():\n    import projects.a"),
    (imports_upward, CORE, "from refstream.streaming.session import StreamSession"),
    (imports_upward, "refstream/checkpoints/x.py", "from ..models.mllm import chat"),
    (imports_upward, "refstream/video.py", "from . import engine"),
    (imports_upward, "refstream/attic/x.py", ""),
    (leaves_own_project, "projects/a/pipeline.py", "from refstream_projects.b import C"),
    (leaves_own_project, "projects/a/pipeline.py", "from ..b.heads import C"),
    (leaves_own_project, "projects/a/pipeline.py", "import tools.train"),
    (uses_folder_name, "tests/test_x.py", "from projects.a import B"),
    (leaves_its_seam, "refstream/streaming/x.py", "from transformers import Sam2Model"),
    (leaves_its_seam, "refstream/data/x.py", "import av"),
    (leaves_its_seam, "tools/x.py", "import cv2\ncv2.VideoCapture(0)"),
    (leaves_its_seam, "projects/a/x.py", "from mmengine.runner import Runner"),
    (leaves_its_seam, "refstream/evaluation/x.py", "from pycocotools import mask"),
    (prints, CORE, "print(1)"),
    (too_long, CORE, "x = 1\n" * (MAX_LINES + 1)),
    (absolute_paths, CORE, 'ROOT = "/' + 'home/me/data"'),
    (foreign_source, CORE, "# Copyright " + "(c) Somebody"),
    (unsafe_calls, CORE, "torch.load(p)"),
    (unsafe_calls, CORE, "torch.load(p, weights_only=False)"),
    (unsafe_calls, CORE, "pickle.load(f)"),
    (unsafe_calls, CORE, "AutoModel.from_pretrained(p, trust_remote_code=True)"),
    (unsafe_calls, CORE, "archive.extractall()"),
    (unsafe_calls, CORE, "eval(text)"),
    (unsafe_calls, CORE, "np.load(p, allow_pickle=True)"),
    (incomplete_result, "docs/results/x.json", '{"rows": []}'),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_rule_can_fail(rule, path, source):
    assert rule(path, source)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (imports_upward, "refstream/streaming/x.py", "from refstream.models import protocols"),
        (
            leaves_own_project,
            "projects/a/configs/x.py",
            "from ....configs._base_.runtime import *\nfrom ..heads import H",
        ),
        (leaves_its_seam, "refstream/video.py", "import av"),
        (absolute_paths, CORE, 'URL = "https://example.org/data/x"  # see tests/data/x'),
        (unsafe_calls, CORE, "model.eval()\ntorch.load(p, weights_only=True)"),
    ],
)
def test_rule_lets_good_code_pass(rule, path, source):
    assert not rule(path, source)


def test_rules_over_many_files_can_fail():
    assert names_a_method(CORE, 'if name == "wonder_net":\n    pass', ("wondernet",))
    assert names_a_method(CORE, 'TABLE = {"WonderNetPipeline": 1}', ("wondernet",))
    assert not names_a_method(
        CORE, '"""As in WonderNet."""\nHELP = "e.g. wondernet or another"', ("wondernet",)
    )
    assert not names_a_method(CORE, "class StreamOfDraws:\n    pass\nStreamOfDraws", ("streamo",))
    assert unimported({CORE: "refstream.models.x"}, {CORE: "import refstream.models.x"}) == [CORE]
    assert not unimported({CORE: "refstream.models.x"}, {"refstream/models/__init__.py": "from .x import A"})
    assert identical({"a": b"x" * 64, "b": b"x" * 64, "c": b"y" * 64}) == ["a = b"]
    assert circles({"models": {"data"}, "data": {"models"}, "video": set()}) == ["data <-> models"]
    assert oversized({"a.bin": MAX_BYTES + 1}) == [f"a.bin: {MAX_BYTES + 1} bytes"]
    assert oversized({"pretrained/tiny/model.safetensors": 99_000_000})
