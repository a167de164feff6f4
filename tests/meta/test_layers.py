"""The layers of pyproject.toml are the folders of the package, and a tester that passes everything is caught."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
FACADES = {"cpu", "cuda", "distributed", "fx", "jit", "multiprocessing", "utils"}


def layers():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^layers = \[(.*?)^\]", text, re.S | re.M).group(1)
    # A name in brackets is a layer that may be absent.
    return [name.strip("()").removeprefix("flambeau.") for name in re.findall(r'"([^"]+)"', block)]


def test_every_folder_of_the_package_is_a_layer():
    folders = {path.parent.name for path in (ROOT / "flambeau").glob("*/__init__.py")}
    assert folders - FACADES <= set(layers())


def test_layers_stand_in_the_order_of_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    arrows = re.search(r"`(cli → [^`]*)`", text).group(1)
    assert [name.strip() for name in arrows.split("→")] == layers()
