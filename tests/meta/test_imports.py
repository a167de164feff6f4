"""Importing flambeau is cheap: NumPy and ml_dtypes, and nothing that is heavy or only sometimes needed."""

import json
import subprocess
import sys

HEAVY = {
    "PIL", "cupy", "llvmlite", "matplotlib", "multiprocessing.context", "rich", "scipy", "torch", "typer",
    "flambeau.cli", "flambeau.vision",
}  # fmt: skip


def modules_loaded_by(statement):
    """Names of the modules in `sys.modules` of a fresh interpreter that ran the statement."""
    program = f"import sys, json\n{statement}\nprint(json.dumps(list(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return set(json.loads(shown))


def test_importing_flambeau_loads_nothing_heavy():
    loaded = modules_loaded_by("import flambeau") - modules_loaded_by("import numpy, ml_dtypes")
    assert not loaded & HEAVY


def test_the_command_line_shows_help_without_loading_pictures():
    loaded = modules_loaded_by("import flambeau.cli.main")
    assert not loaded & {"PIL", "matplotlib", "scipy", "torch"}


def test_the_oracle_is_never_imported():
    """PyTorch is named in no import statement of the package."""
    import ast
    import pathlib

    package = pathlib.Path(__file__).parents[2] / "flambeau"
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module)
            assert not [n for n in names if n.split(".")[0] in {"torch", "torchvision"}], path
