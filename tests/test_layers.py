"""The architecture: imports go downward only, importing does nothing, and `soban --help` is there at once."""

import ast
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "soban"
# Lowest first: each may import what stands above it in this list.
LAYERS = (
    "messages", "base", "ops", "weights", "hub", "models", "packing", "text", "engine", "resources", "loading", "talk",
    "model", "convert", "learn", "measure", "serve", "cli",
)  # fmt: skip
HEIGHT = {name: height for height, name in enumerate(LAYERS)}
OUTSIDE = {"__init__", "__main__"}  # the public face and the entry point
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    """The package of soban that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The names of soban's packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add("a relative import")
        elif isinstance(node, ast.ImportFrom) and node.module == "soban":
            found |= {alias.name for alias in node.names if alias.name in HEIGHT}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("soban."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("soban.")}
    return found


def test_imports_go_downward_only() -> None:
    for path in FILES:
        if (own := layer(path)) in OUTSIDE:
            continue
        assert own in HEIGHT, f"{own} has no place among the layers"
        upward = {name for name in imported(path) if name not in HEIGHT or HEIGHT[name] > HEIGHT[own]}
        assert not upward, path


def module(path: Path) -> str:
    """A file's name as it is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """The modules that each module imports, also within functions and for types alone; not the package's own face."""
    modules = {module(path): path for path in FILES if path.parent != PACKAGE or path.stem not in OUTSIDE}
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {
                    f"{node.module}.{alias.name}" for alias in node.names
                }  # modules of a package, or what is in it
                edges[name] |= {full if full in modules else node.module for full in names}
            elif isinstance(node, ast.Import):
                edges[name] |= {alias.name for alias in node.names}
        edges[name] &= modules.keys() - {name}
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; none where there is no such circle."""
    done: set[str] = set()

    def searched(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := searched(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := searched(name, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]
    edges = graph()
    assert "soban.engine.engine" in edges["soban.model.scoring"] and "soban.talk.dialogue" not in edges["soban.model"]
    assert not circle(edges)


def test_families_do_not_import_each_other() -> None:
    shared = {"__init__", "config", "decoder", "family", "plan", "rope"}
    families = {path.stem: path for path in (PACKAGE / "models").glob("*.py") if path.stem not in shared}
    assert {"llama", "gemma2"} <= families.keys()
    for name, path in families.items():
        text = path.read_text(encoding="utf-8")
        assert not [other for other in families if other != name and f"soban.models.{other}" in text]


def test_torch_and_transformers_are_imported_in_learn_only() -> None:
    for path in FILES:
        if layer(path) != "learn":
            text = ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
            words = ("import torch", "from torch", "transformers import")
            assert not [word for word in words if word in text], path


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout


def test_importing_soban_starts_no_thread_and_loads_nothing_heavy() -> None:
    heavy = "('numpy', 'torch', 'transformers', 'tokenizers', 'jinja2', 'huggingface_hub', 'rich')"
    code = f"import sys, threading, soban; print(threading.active_count(), [m for m in {heavy} if m in sys.modules])"
    assert python(code) == "1 []\n"


def test_loading_and_the_command_bring_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, soban.model, soban.cli.run, soban.cli.train; print(sys.modules.keys() & {'torch', 'transformers'})"
    )
    assert python(code) == "set()\n"


def test_the_help_is_there_at_once() -> None:
    code = (
        "import sys, time; sys.argv = ['soban', '--help']; from soban.__main__ import main; main();"
        "print(time.process_time())"  # since the interpreter began, whatever else the machine does
    )
    seconds = min(float(python(code).splitlines()[-1]) for _ in range(3))
    print(f"soban --help: {1000 * seconds:.0f} ms")
    assert seconds < 3 * 0.150  # the aim is 150 ms; a slow machine gets three times that
