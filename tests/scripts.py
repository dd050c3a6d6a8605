"""The scripts of scripts/ as modules, for their tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "scripts"


def script(name: str) -> ModuleType:
    if str(FOLDER) not in sys.path:  # where scripts find each other
        sys.path.append(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"{name}_script", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
