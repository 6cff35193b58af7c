"""Config files: reading them, overriding values, and refusing mistakes before anything is built.

Top-level names are what the Runner takes; a file may have variables of its own beside them, that nothing else
reads. Every dictionary with a ``type`` is checked against the constructor of that type.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import FlexibleRunner, Runner
from torch import Tensor

import refstream.registry
from refstream.engine.sources import missing_weights
from refstream.errors import UserError
from refstream.registry import DATASETS, import_methods

REQUIRED = ("model", "train_dataloader", "optim_wrapper", "train_cfg")
# read by mmengine and by XTuner's training script beside the Runner's own arguments
FURTHER = ("custom_imports", "framework", "model_wrapper_cfg", "runner_type", "strategy")
# taken out by mmengine before a type is built
SETTINGS = (
    "type",
    "_scope_",
    "_delete_",
    "constructor",
    "convert_to_iter_based",
    "paramwise_cfg",
    "priority",
)
# sizes of a model, DeepSpeed's own JSON, or names of registries of their own: checked by whoever reads them
OPAQUE = ("config", "memory", "anchors")
FOLDERS = ("root", "annotations", "images")  # arguments of datasets that name files


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and check it.

    Args:
        path: A ``.py`` config (configs are code: run only your own).
        overrides: Dotted keys that replace values (``{"train_cfg.max_iters": 10}``); every key must exist, or
            be an argument of the type that it is given to.

    Raises:
        FileNotFoundError: If there is no such file.
        UserError: For an unknown key, a value of a wrong type, or a config that misses a part.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no config at {path}; configs lie under projects/<method>/configs")
    config = Config.fromfile(str(path))
    register_all()
    for key in overrides or {}:
        check_override(config.to_dict(), key)
    config.merge_from_dict(dict(overrides or {}))
    missing = [key for key in REQUIRED if key not in config]
    if missing:
        raise UserError(f"{path} lacks {missing}; a training config needs {list(REQUIRED)}")
    problems = [*unread_names(config), *wrong_keys(config.to_dict())]
    if problems:
        raise UserError(f"{path}: " + "; ".join(problems))
    return config


def register_all() -> None:
    """Import whatever registers a type that a training config may name."""
    importlib.import_module("refstream.engine.train")
    import_methods()


def require_files(config: Mapping[str, Any]) -> None:
    """Refuse a config whose weights or data are not there.

    Raises:
        FileNotFoundError: Naming everything that is missing, and where to get it.
    """
    missing = missing_files(config)
    if missing:
        raise FileNotFoundError("missing: " + "; ".join(missing))


def missing_files(config: Mapping[str, Any]) -> list[str]:
    """One line per file or folder that the config names and that is not there, with where to get it."""
    keys = {
        key: config["model"][key] for key in ("init_from", "sources", "tokenizer") if key in config["model"]
    }
    lines = missing_weights(**keys)
    for _, node in typed(config["train_dataloader"]):
        if DATASETS.get(node["type"]) is not None:
            paths = [str(node[key]) for key in FOLDERS if isinstance(node.get(key), str)]
            lines += [f"{path} (see data/README.md)" for path in paths if not Path(path).exists()]
    return list(dict.fromkeys(lines))


# ---------------------------------------------------------------- names


@cache
def runner_names() -> frozenset[str]:
    """Top-level names that have an effect."""
    signatures = (inspect.signature(kind.__init__) for kind in (Runner, FlexibleRunner))
    names = {name for signature in signatures for name in signature.parameters} - {"self", "cfg"}
    return frozenset({*names, *FURTHER})


def unread_names(config: Mapping[str, Any]) -> Iterator[str]:
    """Top-level names that look like settings and that nothing reads: misspelt ones, and typed blocks."""
    known = runner_names()
    for name, value in config.items():
        if name in known or name.startswith("_"):
            continue
        near = nearest(name, known)
        blocks = value if isinstance(value, list | tuple) else [value]
        if near or any(isinstance(block, Mapping) and "type" in block for block in blocks):
            yield f"nothing reads {name!r}{near}; the Runner takes {sorted(known)}"


def check_override(config: Mapping[str, Any], key: str) -> None:
    """Refuse an override that would have no effect.

    Raises:
        UserError: If the dotted key does not lead to a value, or leads to a variable that is used no more.
    """
    first = key.split(".")[0]
    if first not in runner_names():
        what = "is a variable of the config file, already used" if first in config else "does not exist"
        near = nearest(first, runner_names())
        raise UserError(f"override {key!r}: {first!r} {what}{near}; override the setting itself")
    node: Any = config
    for name in key.split("."):
        if isinstance(node, list | tuple) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            known = set(node) if isinstance(node, Mapping) else set()
            arguments = arguments_of(node["type"]) if "type" in known else {}
            if arguments is not None and name not in arguments:
                names = sorted(known | set(arguments))
                raise UserError(
                    f"override {key!r}: there is no key {name!r}{nearest(name, names)}; known are {names}"
                )
            node = {}


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """``" (did you mean ...?)"``, or nothing if no known name is near."""
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    return f" (did you mean {found[0]!r}?)" if found else ""


# ---------------------------------------------------------------- types


def typed(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every dictionary with a ``type`` that is a name, with the dotted path to it."""
    if isinstance(node, Mapping):
        if isinstance(node.get("type"), str):
            yield path, node
        for key, value in node.items():
            if key not in OPAQUE:
                yield from typed(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from typed(value, f"{path}.{i}")


def wrong_keys(config: Mapping[str, Any]) -> Iterator[str]:
    """One line per unregistered type, unknown key and value of a wrong type."""
    read = {name: value for name, value in config.items() if name in runner_names()}
    for path, node in typed(read):
        if find_type(node["type"]) is None:
            yield f"{path}: no class is registered as {node['type']!r}{nearest(node['type'], all_types())}"
            continue
        arguments = arguments_of(node["type"])
        for key, value in node.items():
            if arguments is None or key in SETTINGS:
                continue
            if key not in arguments:
                names = sorted(arguments)
                yield f"{path}: {node['type']} takes no {key!r}{nearest(key, names)}; it takes {names}"
            elif key in ("begin", "end") and node.get("convert_to_iter_based"):
                continue  # parts of an epoch, that mmengine converts
            elif not accepts(arguments[key], value):
                yield f"{path}.{key}: expected {_name(arguments[key])}, got {value!r}"


@cache
def registries() -> tuple[Registry, ...]:
    """RefStream's registries, then mmengine's."""
    modules = (refstream.registry, mmengine.registry)
    return tuple(
        value for module in modules for value in vars(module).values() if isinstance(value, Registry)
    )


def find_type(name: str) -> Any:
    """The class or function registered under a name, in any registry; None if there is none."""
    return next((found for registry in registries() if (found := registry.get(name)) is not None), None)


def all_types() -> set[str]:
    """Every registered name."""
    return {name for registry in registries() for name in registry.module_dict}


@cache
def arguments_of(name: str) -> dict[str, Any] | None:
    """Names and annotations of what a registered type takes; None if it takes anything.

    A constructor with ``**kwargs`` takes what its base class takes.
    """
    kind = find_type(name)
    bases: Sequence[Any] = kind.__mro__ if inspect.isclass(kind) else ()
    constructors = [base.__init__ for base in bases] or [kind]
    arguments: dict[str, Any] = {}
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters.values()
        hints = _hints(constructor)
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                optional = parameter.default is None
                hint = hints.get(parameter.name, Any)
                arguments.setdefault(parameter.name, hint | None if optional and hint is not Any else hint)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            arguments.pop("self", None)
            return arguments
    return None


def _hints(constructor: Any) -> dict[str, Any]:
    """Annotations that can be resolved; none where a name in them is not there at run time."""
    try:
        return typing.get_type_hints(constructor)
    except (NameError, TypeError, AttributeError):
        return {}


def accepts(hint: Any, value: Any) -> bool:
    """Whether a config's value may stand for an argument of this annotation; True where it is not simple."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(part, value) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint in (str, Path):
        return isinstance(value, str | Path)
    if hint is Tensor:  # a config cannot hold one
        return False
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        pairs = zip(parts, value, strict=False) if isinstance(value, list | tuple) else ()
        return (
            isinstance(value, list | tuple) and len(value) == len(parts) and all(accepts(*p) for p in pairs)
        )
    if hint in (list, tuple, Sequence) or origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(accepts(parts[0], v) for v in value if parts)
    if hint in (dict, Mapping) or origin in (dict, Mapping):
        return isinstance(value, Mapping)
    return True


def _name(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")
