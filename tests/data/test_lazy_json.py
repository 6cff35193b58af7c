"""Places of values, found without parsing; broken files are refused."""

from __future__ import annotations

import json
import tracemalloc
from multiprocessing.reduction import ForkingPickler

import pytest

from refstream.data.lazy_json import LazyJson
from refstream.errors import UserError

CONTENT = {
    "": {"a": [1, -2.5e3, "x"], 'b\\"{': "}]\\", "ü": None},
    "list": [[], {}, "s", 3, True, [{"k": "[{"}]],
    "scalar": 1,
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_every_value_is_found(indent, ascii_only, tmp_path):
    path = tmp_path / "f.json"
    path.write_text(
        "\n " + json.dumps(CONTENT, indent=indent, ensure_ascii=ascii_only) + " \n", encoding="utf-8"
    )
    file = ForkingPickler.loads(ForkingPickler.dumps(LazyJson(path)))
    assert file.value(file.root) == CONTENT
    top = dict(file.items(file.root))
    assert {key: file.value(span) for key, span in top.items()} == CONTENT
    assert [file.kind(span) for span in top.values()] == ["object", "array", "scalar"]
    assert {key: file.value(span) for key, span in file.items(top[""])} == CONTENT[""]
    assert [file.value(span) for span in file.elements(top["list"])] == CONTENT["list"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot be read"),
        ('{"a": 1', "expected ',' or '}'"),
        ('{"a": [1, {"b": 2}', "does not end"),
        ('{"a": 1,}', "nothing follows the comma"),
        ('{"a" 1}', "expected a key"),
        ('{"a": }', "expected a value"),
        ('{"a": 1} x', "something follows the end"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ("[1]", "expected an object"),
        ('{"a": nul}', "Expecting value"),
    ],
)
def test_what_is_not_json_is_refused(text, problem, tmp_path):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        read_all(path)
    assert str(path) in str(caught.value)


def read_all(path):
    file = LazyJson(path)
    return {key: file.value(span) for key, span in file.items(file.root)}


def test_memory_does_not_grow_with_the_values(tmp_path):
    path = tmp_path / "f.json"
    path.write_text(json.dumps({str(i): {"counts": "x" * 200_000} for i in range(100)}))  # 20 MB
    tracemalloc.start()
    file = LazyJson(path)
    spans = dict(file.items(file.root))
    assert len(file.value(spans["57"])["counts"]) == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_file_that_changes_is_refused(tmp_path):
    path = tmp_path / "f.json"
    path.write_text('{"a": 1, "b": 2}')
    file = LazyJson(path)
    spans = dict(file.items(file.root))
    pickled = ForkingPickler.dumps(file)
    assert file.value(spans["b"]) == 2
    path.write_text("{}")
    with pytest.raises(UserError, match=r"f\.json was changed while it was being read"):
        file.value(spans["b"])
    with pytest.raises(UserError, match="was changed"):
        ForkingPickler.loads(pickled)
    path.unlink()
    with pytest.raises(UserError, match="was changed"):
        file.value(spans["b"])
