"""The rules of the house: each is a function from a file, or from all files, to problems in words."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
MAX_BYTES = 500_000
# Folders of binary cases and weights, each with a cap in bytes on all that it holds.
LARGE_FOLDERS = {"tests/golden/": 10 * 2**20, "pretrained/tiny/": 18_000_000}
RESULT_KEYS = {"command", "commit", "seeds", "machine", "rows"}
METHODS_PACKAGE = "refstream_projects"

# Rooms of the core, lowest first: a room imports those of its own rank or below, and never in a circle.
RANKS = (
    {
        "structures",
        "errors",
        "files",
        "images",
        "video",
        "video_writer",
        "registry",
        "resources",
        "stream_records",
    },
    {"checkpoints"},
    {"models", "data", "synthetic"},
    {"streaming"},
    {"evaluation"},
    {"engine", "cli", "testing", "__main__"},
)
RANK_OF = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}

VIDEO_HOMES = ("refstream/video.py", "refstream/video_")
# Third-party seams: a pattern over dotted imports, and the only places that may match it.
SEAMS = (
    (r"^sam2(\.|$)|^transformers\.(Sam2|models\.sam2)", ("refstream/models/segmenter/",)),
    (r"^transformers\.(InternVL|models\.internvl)", ("refstream/models/mllm/",)),
    (r"^transformers\.(Qwen2_5|models\.qwen2_5)", ("refstream/models/mllm/",)),
    (r"^mmengine\.(runner|_strategy|Runner|Flexible)|^(xtuner|deepspeed)(\.|$)", ("refstream/engine/",)),
    (r"^(av|decord|imageio|moviepy)(\.|$)|^cv2\.VideoCapture", VIDEO_HOMES),
    (r"^pycocotools(\.|$)", ("refstream/data/rle.py", "refstream/evaluation/metrics/coco_ap.py")),
)
ABSOLUTE_PATH = re.compile(r"(?<![\w./})*>~-])/(home|root|work|mnt|tmp|Users|opt|data|workspace|scratch)/\w")
FOREIGN_HEADER = re.compile(
    r"^\W*(Copyright|All rights reserved)(?!.*RefStream)", re.MULTILINE | re.IGNORECASE
)
UNSAFE_FLAGS = {("weights_only", False), ("trust_remote_code", True), ("allow_pickle", True), ("shell", True)}


# ---------------------------------------------------------------- files


@cache
def repository_files() -> tuple[str, ...]:
    """Files that git tracks or would track, relative to the root, sorted."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return tuple(sorted({path for path in listed if path and (ROOT / path).is_file()}))


def is_large(path: str) -> bool:
    return path.startswith(tuple(LARGE_FOLDERS))


def python_files(*folders: str) -> list[str]:
    """Python files under the given folders, or all; never an empty list by accident."""
    prefixes = tuple(f"{folder}/" for folder in folders) or ("",)
    found = [path for path in repository_files() if path.endswith(".py") and path.startswith(prefixes)]
    assert found, f"no Python file found under {folders}"
    return found


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def violations(rule: Callable[[str, str], list[str]], paths: list[str]) -> str:
    """One line per problem, ready to be an assertion's message."""
    return "\n".join(f"{path}: {problem}" for path in paths for problem in rule(path, read(path)))


# ---------------------------------------------------------------- reading imports


def dotted_names(path: str, source: str) -> Iterator[str]:
    """Every name that a file imports, absolute: ``from a import b`` gives a and a.b."""
    package = list(Path(path).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            if node.level and (module == "projects" or module.startswith("projects.")):
                module = METHODS_PACKAGE + module.removeprefix("projects")
            if module:
                yield module
            yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"cv2", "transformers"}:
            yield ast.unparse(node)


def room_of(name: str) -> str | None:
    """The room of a dotted name or a path under refstream, None for the package itself and other packages."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    return parts[1] if parts[0] == "refstream" and len(parts) > 1 and parts[1] != "__init__" else None


def rooms_imported(path: str, source: str) -> set[str]:
    """Rooms of the core that a file imports from."""
    rooms = {room_of(name) for name in dotted_names(path, source)}
    return {room for room in rooms if room is not None}


def core_room_edges() -> dict[str, set[str]]:
    """Which room of the core imports which others."""
    edges: dict[str, set[str]] = defaultdict(set)
    for path in python_files("refstream"):
        if (room := room_of(path)) is not None:
            edges[room] |= rooms_imported(path, read(path)) - {room}
    return edges


# ---------------------------------------------------------------- the rules


def core_looks_outward(path: str, source: str) -> list[str]:
    outward = {METHODS_PACKAGE, "projects", "tools", "tests", "configs"}
    return [f"imports {name}" for name in dotted_names(path, source) if name.split(".")[0] in outward]


def imports_upward(path: str, source: str) -> list[str]:
    room = room_of(path)
    if room is None:
        return []
    if room not in RANK_OF:
        return [f"the room {room!r} has no rank"]
    targets = rooms_imported(path, source) & set(RANK_OF)
    return [f"{room} imports {target}" for target in sorted(targets) if RANK_OF[target] > RANK_OF[room]]


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Pairs of rooms that reach each other."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            fresh = edges.get(todo.pop(), set()) - seen
            seen |= fresh
            todo.extend(fresh)
        return seen

    reached = {room: reach(room) for room in edges}
    return sorted(f"{a} <-> {b}" for a in edges for b in reached[a] if a < b and a in reached.get(b, set()))


def leaves_own_project(path: str, source: str) -> list[str]:
    own = Path(path).parts[1]
    problems = []
    for name in dotted_names(path, source):
        top, _, rest = name.partition(".")
        if top in {"tools", "tests"} or (top == METHODS_PACKAGE and rest.split(".")[0] not in {own, ""}):
            problems.append(f"imports {name}")
    return problems


def uses_folder_name(path: str, source: str) -> list[str]:
    names = {name for name in dotted_names(path, source) if name.split(".")[0] == "projects"}
    return [f"imports {name}" for name in sorted(names)]


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the string nodes that stand alone as statements."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def names_a_method(path: str, source: str, methods: tuple[str, ...] | None = None) -> list[str]:
    methods = method_folders() if methods is None else methods
    tree = ast.parse(source)
    skip = docstrings(tree)
    problems = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip:
            word = node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            word = node.id if isinstance(node, ast.Name) else node.attr
        else:
            continue
        is_word = not re.search(r"\s", word)  # prose, as in a help text, may name a method
        if is_word and any(spells(word, method) for method in methods):
            problems.append(f"line {node.lineno}: {word!r}")
    return problems


def spells(name: str, method: str) -> bool:
    """Whether neighbouring words of a name, joined, are the method's: StreamOfDraws holds no "streamo"."""
    words = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    joined = ("".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
    return method in joined


def method_folders() -> tuple[str, ...]:
    matches = (re.match(r"projects/([^_/][^/]*)/__init__\.py$", path) for path in repository_files())
    return tuple(sorted(match[1] for match in matches if match))


def leaves_its_seam(path: str, source: str) -> list[str]:
    return [
        f"imports {name}, whose home is {' or '.join(homes)}"
        for pattern, homes in SEAMS
        for name in sorted(set(dotted_names(path, source)))
        if re.search(pattern, name) and not path.startswith(homes)
    ]


def too_long(path: str, source: str) -> list[str]:
    lines = source.count("\n")
    return [f"{lines} lines, at most {MAX_LINES}"] if lines > MAX_LINES else []


def absolute_paths(path: str, source: str) -> list[str]:
    return [
        f"line {number}: {line.strip()[:80]}"
        for number, line in enumerate(source.splitlines(), 1)
        if ABSOLUTE_PATH.search(line)
    ]


def foreign_source(path: str, source: str) -> list[str]:
    return ["carries a foreign copyright line"] if FOREIGN_HEADER.search(source) else []


def prints(path: str, source: str) -> list[str]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [f"line {c.lineno}" for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


def unsafe_calls(path: str, source: str) -> list[str]:
    problems = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        flags = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        if name in {"eval", "exec", "pickle.load", "pickle.loads"} or name.endswith(".extractall"):
            problems.append(f"line {call.lineno}: {name}(")
        if name == "torch.load" and flags.get("weights_only") is not True:
            problems.append(f"line {call.lineno}: torch.load without weights_only=True")
        problems += [f"line {call.lineno}: {k}={v}" for k, v in flags.items() if (k, v) in UNSAFE_FLAGS]
    return problems


def unimported(modules: dict[str, str], users: dict[str, str]) -> list[str]:
    """Paths among ``modules`` that no file among ``users`` (path -> source) imports or names in a string."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for path, source in users.items():
        strings = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
        named = {text for text in strings if isinstance(text, str) and text.startswith("refstream")}
        for name in {*dotted_names(path, source), *named}:
            wanted[name].add(path)
    return sorted(path for path, module in modules.items() if not wanted[module] - {path})


def identical(contents: dict[str, bytes]) -> list[str]:
    """Groups of files with equal content; files below 64 bytes do not count."""
    groups = defaultdict(list)
    for path, content in contents.items():
        if len(content) >= 64:
            groups[hashlib.sha256(content).hexdigest()].append(path)
    return [" = ".join(paths) for paths in groups.values() if len(paths) > 1]


def oversized(sizes: dict[str, int]) -> list[str]:
    """Files over the cap, and large folders over theirs."""
    big = (path for path, size in sizes.items() if size > MAX_BYTES and not is_large(path))
    problems = [f"{path}: {sizes[path]} bytes" for path in big]
    for folder, cap in LARGE_FOLDERS.items():
        total = sum(size for path, size in sizes.items() if path.startswith(folder))
        problems += [f"{folder}: {total} bytes, at most {cap}"] if total > cap else []
    return problems


def incomplete_result(path: str, source: str) -> list[str]:
    missing = sorted(RESULT_KEYS - set(json.loads(source)))
    return [f"lacks {missing}"] if missing else []
