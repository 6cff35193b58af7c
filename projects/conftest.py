"""One name per method: pytest would import a test's folder as ``projects.<name>``, a second copy of it.

This points that name at the canonical package ``refstream_projects.<name>``: nothing is registered twice.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

for _init in sorted(Path(__file__).parent.glob("*/__init__.py")):
    _name = _init.parent.name
    sys.modules[f"projects.{_name}"] = importlib.import_module(f"refstream_projects.{_name}")
