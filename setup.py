"""Package RefStream: the core, the methods under ``projects/`` and the tiny model under ``pretrained/tiny``.

The folder ``projects/`` becomes the package ``refstream_projects``. Every ``projects/<name>/__init__.py``
whose name does not begin with an underscore is a method and becomes an entry point of ``refstream.methods``:
a new method changes nothing outside its own folder. After adding one, ``make install`` records it.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
METHODS_PACKAGE = "refstream_projects"
TINY_PACKAGE = "refstream.pretrained.tiny"  # refstream/pretrained/tiny in site-packages

RUNTIME = [
    "torch>=2.11",
    "torchvision>=0.26",
    "transformers>=5.17,<6",
    "tokenizers>=0.22",
    "safetensors>=0.5",
    "accelerate>=1.10",
    "peft>=0.19",
    "mmengine>=0.10.7,<0.11",
    "numpy>=2.0",
    "scipy>=1.13",
    "opencv-python>=4.10",
    "pillow>=11",
    "av>=14",
    "pycocotools>=2.0.8",
    "psutil>=5.9",
    "rich>=13.7",
    "pebble>=5.1",
    "h5py>=3.12",
    "jinja2>=3.1",
    "markupsafe>=2.1",
]
EXTRAS = {
    "train": [
        "deepspeed>=0.18",
        "tensorboard>=2.18",
        "datasets>=4.0",
        "requests>=2.32",
        "scikit-image>=0.25",
    ],
    # hydra-core and iopath are what the sam2 package, the parity oracle of the tests, needs at run time.
    "dev": ["pytest>=8.4", "ruff>=0.14", "mypy>=1.18", "hydra-core>=1.3", "iopath>=0.1.10"],
}


def method_folders() -> list[Path]:
    """Folders of the methods, sorted by name."""
    found = (ROOT / "projects").glob("[!_]*/__init__.py")
    return sorted(path.parent for path in found)


def packages() -> list[str]:
    """All packages: the core's, the methods' without their tests and configs, and the tiny model's data."""
    inside = find_packages("projects", exclude=["_*", "*.tests", "*.tests.*", "*.configs", "*.configs.*"])
    methods = [METHODS_PACKAGE, *(f"{METHODS_PACKAGE}.{name}" for name in inside)]
    tiny = [TINY_PACKAGE] if (ROOT / "pretrained" / "tiny").is_dir() else []
    return [*find_packages(".", include=["refstream", "refstream.*"]), *methods, *tiny]


def version() -> str:
    """What ``refstream/__init__.py`` says."""
    source = (ROOT / "refstream" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    if match is None:
        raise ValueError('refstream/__init__.py must hold a line such as __version__ = "0.1.0"')
    return match[1]


def readme() -> str:
    """The long description."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class BuildPackages(build_py):
    """Leaves pytest's conftest.py out of the wheel."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, file) of each module that ships."""
        found = super().find_package_modules(package, package_dir)
        return [entry for entry in found if entry[1] != "conftest"]


setup(
    name="refstream",
    version=version(),
    description="Say what to look for, and masks stream out: referring video segmentation, frame by frame.",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="The RefStream Authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=packages(),
    package_dir={"refstream": "refstream", METHODS_PACKAGE: "projects", TINY_PACKAGE: "pretrained/tiny"},
    package_data={
        TINY_PACKAGE: ["*", "**/*"],
        "refstream": ["py.typed"],
        "refstream.evaluation": ["published.json"],
        "refstream.evaluation.report": ["templates/*.j2"],
    },
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    cmdclass={"build_py": BuildPackages},
    entry_points={
        "console_scripts": ["refstream = refstream.cli:main"],
        "refstream.methods": [f"{path.name} = {METHODS_PACKAGE}.{path.name}" for path in method_folders()],
    },
)
