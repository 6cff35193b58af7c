"""Annotation pickles load; whatever would run code does not, and leaves no trace."""

from __future__ import annotations

import collections
import copyreg
import functools
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.data import pickles
from refstream.data.pickles import PickleError, load_plain_pickle

REFS = [
    {
        "ref_id": 0,
        "ann_id": 1719310,
        "file_name": "COCO_train2014_000000581857_16.jpg",
        "split": "train",
        "sent_ids": [0, 1],
        "sentences": [{"raw": "THE LADY", "sent": "the lady", "tokens": ["the", "lady"], "sent_id": 0}],
    }
]
# What Python 2.7 writes for [{'sent': 'caf\xc3\xa9', u'id': 3L, 'x': {1, 2}}], protocol 2 and protocol 0.
PYTHON2 = [
    b"\x80\x02]q\x01}q\x02(U\x04sentq\x03U\x05caf\xc3\xa9q\x04X\x02\x00\x00\x00idq\x05\x8a\x01\x03"
    b"U\x01xq\x06c__builtin__\nset\nq\x07]q\x08(K\x01K\x02e\x85q\tRq\nua.",
    b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9'\np3\nsVid\np4\nL3L\nsS'x'\np5\nc__builtin__\nset\np6\n"
    b"((lp7\nI1\naI2\natp8\nRp9\nsa.",
]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "annotations.p"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(tmp_path: Path, protocol: int) -> None:
    content = {
        "refs": REFS,
        "mask": {"7": [{"size": [480, 854], "counts": b"0\xff\x80"}, None]},
        3: (1.5, -7, 2**80, True, 1 + 2j),
        "sets": [{1, 2}, frozenset({"a"}), bytearray(b"\x00\xff"), b""],
    }
    assert load_plain_pickle(written(tmp_path, pickle.dumps(content, protocol))) == content
    ordered = collections.OrderedDict(b=1, a=2)
    assert list(load_plain_pickle(written(tmp_path, pickle.dumps(ordered, protocol)))) == ["b", "a"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["?", "i1", "<i4", ">u2", "f2", "f8", "c16", "S3", "U4"])
def test_numpy_comes_back(tmp_path: Path, protocol: int, dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    content = {"c": values, "f": np.asfortranarray(values), "scalar": values[1, 2], "none": values[:0]}
    loaded = load_plain_pickle(written(tmp_path, pickle.dumps(content, protocol)))
    for name, value in content.items():
        assert loaded[name].dtype.newbyteorder("=") == value.dtype.newbyteorder(
            "="
        )  # numpy makes some native
        np.testing.assert_array_equal(loaded[name], value)
    assert isinstance(loaded["scalar"], np.generic)


@pytest.mark.parametrize("content", PYTHON2)
def test_python_2_loads_as_latin1(tmp_path: Path, content: bytes) -> None:
    (row,) = load_plain_pickle(written(tmp_path, content))
    assert row == {"sent": "caf\xc3\xa9", "id": 3, "x": {1, 2}}


def test_python_2_arrays_load(tmp_path: Path) -> None:
    # numpy.array([1, 258], '>i2') as Python 2.7 with numpy 1.16 writes it, protocol 2
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02i2K\x00K\x01\x87Rq\x05(K\x03U\x01>NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x01\x01\x02tb."
    )
    np.testing.assert_array_equal(load_plain_pickle(written(tmp_path, content)), [1, 258])


# ---------------------------------------------------------------- hostile files


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.recipe = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.recipe


class Restored:
    """Pickles with a state that its class would act on."""

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()

    def __getstate__(self) -> dict[str, str]:
        return self.__dict__


def by_name(module: str, name: str, argument: str) -> bytes:
    """GLOBAL, one text argument, REDUCE: the smallest program."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def hostile(mark: Path) -> dict[str, bytes]:
    command, code = f"touch {mark}", f"open({str(mark)!r}, 'w').close()"
    call = Call(os.system, command)
    restored = Restored()
    restored.__dict__["path"] = str(mark)
    objects = np.array([1, call], dtype=object)
    plain = {"refs": [{**REFS[0], "sentences": call}]}
    return {
        "os.system": pickle.dumps(call),
        "posix.system": by_name("posix", "system", command),
        "protocol 0": pickle.dumps(call, 0),
        "protocol 5": pickle.dumps(call, 5),
        "nested in annotations": pickle.dumps(plain),
        "as a key": pickle.dumps({Call(os.system, command): 1}),
        "object array": pickle.dumps(objects),
        "object array, protocol 5": pickle.dumps(objects, 5),
        "eval": pickle.dumps(Call(eval, code)),
        "exec of Python 2": by_name("__builtin__", "execfile", str(mark)),
        "exec": pickle.dumps(Call(exec, code)),
        "open": pickle.dumps(Call(open, str(mark), "w")),
        "partial": pickle.dumps(Call(functools.partial(os.system, command))),
        "os by name": by_name("os", "system", command),
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0eos.path.exists\x93\x8c\x01x\x85R.",
        "copyreg": pickle.dumps(Call(copyreg._reconstructor, Path, object, None)),  # type: ignore[attr-defined]
        "class with a state": pickle.dumps(restored),
        "subprocess": by_name("subprocess", "getoutput", command),
        "runpy": by_name("runpy", "run_path", str(mark)),
        "import": by_name("builtins", "__import__", "antigravity"),
        "numpy loader": by_name("numpy", "load", str(mark)),
        "numpy subprocess": by_name("numpy.f2py.crackfortran", "myeval", code),
    }


NAMES = sorted(hostile(Path("mark")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_executed(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "executed"
    with pytest.raises(PickleError, match=r"annotations\.p .*plain data"):
        load_plain_pickle(written(tmp_path, hostile(mark)[name]))
    assert not mark.exists()


def test_the_extension_registry_is_no_way_around(tmp_path: Path) -> None:
    copyreg.add_extension(os.getcwd.__module__, "getcwd", 240)
    try:
        content = pickle.dumps(Call(os.getcwd), 2)
        assert b"getcwd" not in content
        with pytest.raises(PickleError, match=r"it wants \w+\.getcwd"):
            load_plain_pickle(written(tmp_path, content))
    finally:
        copyreg.remove_extension(os.getcwd.__module__, "getcwd", 240)


def test_the_hostile_files_are_dangerous(tmp_path: Path) -> None:
    """With the standard loader most leave their file, so the test above could fail."""
    dangerous = {"os.system", "posix.system", "nested in annotations", "as a key", "object array", "eval"}
    dangerous |= {"exec", "open", "partial", "class with a state", "subprocess"}
    load = getattr(pickle, "loads")  # noqa: B009
    for name in dangerous:
        mark = tmp_path / name.replace(" ", "_")
        load(hostile(mark)[name])
        assert mark.exists(), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOFError"),
        (pickle.dumps(REFS)[:-20], "damaged"),
        (b"\x00" * 40, "damaged"),
        (b"<!DOCTYPE html><html>", "damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "damaged"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b".", "damaged"),
        (b"cnumpy\ndtype\n(VO8\ntR.", "not plain"),
        (b"cnumpy\ndtype\n(Vi4,O\ntR.", "not plain"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "encodes text"),
        (b"c__builtin__\nbytearray\n(I99999999999\ntR.", "made of int"),
        (
            b"c__builtin__\nset\n(N(dVadd\nI1\nstb.",
            "wants to change __builtin__.set",
        ),
        (b"P1\n.", "persistent"),
    ],
)
def test_damaged_and_tricky_files_say_so(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(PickleError, match=message):
        load_plain_pickle(written(tmp_path, content))


def test_an_array_must_fit_its_bytes(tmp_path: Path) -> None:
    content = pickle.dumps(np.arange(4, dtype="<i4"), 2)
    shape = content.replace(b"K\x04\x85", b"K\x7f\x85")
    assert shape != content
    with pytest.raises(PickleError):
        load_plain_pickle(written(tmp_path, shape))


def test_the_table_names_no_loader_of_code() -> None:
    modules = {module for module, _ in pickles.CONSTRUCTORS}
    assert modules <= {
        "_codecs",
        "builtins",
        "__builtin__",
        "collections",
        "numpy",
        *(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric")),
    }


def test_a_missing_file_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data/README\.md"):
        load_plain_pickle(tmp_path / "refs(unc).p")
