"""Pickled annotations without execution: the one place that reads and writes pickles.

RefCOCO's ``refs(unc).p`` and the ``mask_dict.pkl`` of Ref-DAVIS17 and Ref-YouTube-VOS are pickles, and a
pickle is a program: it may call any function that it names. Here the names are looked up in the table below
and nowhere else, nothing is imported on behalf of the file, and the constructors of the table check what they
are given.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refstream.errors import UserError
from refstream.files import atomic_write_bytes

PLAIN_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,6})")


class PickleError(UserError):
    """An annotation pickle that is damaged, or holds more than plain data."""


class _Constructor:
    """What the file gets in place of a class or function: it can be called, and nothing else.

    As it has no attributes and refuses a state, a file cannot change it for the files that come later.
    """

    __slots__ = ("_build", "_name")

    def __init__(self, name: str, build: Callable[..., Any]) -> None:
        self._name, self._build = name, build

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it wants to change {self._name}")


class _Dtype:
    """A numpy dtype that is still to be told its byte order."""

    __slots__ = ("plain",)

    def __init__(self, code: str, *flags: Any) -> None:
        if not isinstance(code, str) or not PLAIN_DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"it holds a numpy dtype that is not plain: {str(code)[:40]!r}")
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, inner = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in inner):
            raise pickle.UnpicklingError("it holds a numpy dtype that is not plain")
        self.plain = self.plain.newbyteorder(order)


class PlainArray(np.ndarray):
    """An array as it comes out of a pickle: its state is checked before numpy sees it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:  # type: ignore[override]
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("it holds a numpy array without a plain dtype")
        super().__setstate__((1, tuple(map(int, shape)), dtype.plain, bool(fortran), _raw(data)))  # type: ignore[arg-type]


def _raw(data: Any) -> bytes:
    """The bytes of an array; Python 2 has them as text."""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"it holds an array made of {type(data).__name__}, expected bytes")
    return bytes(data)


def _array(*args: Any) -> PlainArray:
    """An empty array, to be filled by its state."""
    return PlainArray((0,), np.uint8)


def _scalar(dtype: _Dtype, data: Any = b"") -> Any:
    if dtype.plain.itemsize == 0:
        return dtype.plain.type()
    (value,) = np.frombuffer(_raw(data), dtype.plain)
    return value


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    return np.frombuffer(_raw(data), dtype.plain).reshape(tuple(map(int, shape)), order=order).copy(order)  # type: ignore[arg-type, call-overload]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocols below 3 store bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _bytes() -> bytes:
    return b""


def _bytearray(data: Any = b"", *encoding: str) -> bytearray:
    return bytearray(_encode(data, *encoding) if isinstance(data, str) else _raw(data))


def _table() -> dict[tuple[str, str], _Constructor]:
    names: dict[str, Callable[..., Any]] = {
        "_codecs.encode": _encode,
        "collections.OrderedDict": dict,
        "numpy.dtype": _Dtype,
        "numpy.ndarray": _array,
    }
    for module in ("builtins", "__builtin__"):
        plain: dict[str, Callable[..., Any]] = {"set": set, "frozenset": frozenset, "complex": complex}
        plain |= {"bytes": _bytes, "bytearray": _bytearray}
        names |= {f"{module}.{name}": build for name, build in plain.items()}
    for module in ("numpy.core", "numpy._core"):
        names[f"{module}.multiarray._reconstruct"] = _array
        names[f"{module}.multiarray.scalar"] = _scalar
        names[f"{module}.numeric._frombuffer"] = _from_buffer
    return {
        (name.rpartition(".")[0], name.rpartition(".")[2]): _Constructor(name, build)
        for name, build in names.items()
    }


CONSTRUCTORS = _table()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return CONSTRUCTORS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants {module}.{name}") from None


def load_plain_pickle(path: str | Path) -> Any:
    """Load a pickle of plain data, never executing what it names.

    Allowed are None, bools, numbers, text, bytes, lists, tuples, dicts, sets, and numpy scalars and arrays of
    booleans, numbers and text; ordered dicts come back as dicts, most arrays as ``PlainArray``. Pickles of
    Python 2 load, with their byte strings read as latin1.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        PickleError: If the file is damaged, or names any class or function beyond these.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; see data/README.md for where it belongs")
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises anything
        raise PickleError(
            f"{path} is damaged or holds more than plain data, and was not loaded: pickles can run code "
            f"({type(error).__name__}: {error}); fetch it again from the authors of the dataset"
        ) from error


def dump_plain_pickle(path: str | Path, content: Any) -> None:
    """Write plain data as a pickle, atomically; protocol 2, as the official files, so Python 2 reads it too.

    Args:
        path: The file; parents are made.
        content: None, bools, ints, floats and text, in lists, tuples and dicts; nothing else, so that the
            file names no class and loads with the strictest reader.

    Raises:
        TypeError: If the content holds anything else.
        OutputError: If the file cannot be written.
    """
    todo = [content]
    while todo:
        value = todo.pop()
        if type(value) is dict:
            todo += [*value.keys(), *value.values()]
        elif type(value) in (list, tuple):
            todo += value
        elif not (value is None or type(value) in (bool, int, float, str)):
            raise TypeError(
                f"a plain pickle holds numbers, text and containers only, got {type(value).__name__}"
            )
    atomic_write_bytes(path, pickle.dumps(content, protocol=2))
