"""The lists are complete: every example is in the README, tested and in the gallery, whose pictures are small."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
WITHOUT_PICTURE = {"shapes", "hdf5_dataset"}
GALLERY = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_listed_explained_and_tested(name):
    assert f"({name}.py)" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert f'"{name}"' in tests or f"{name}.py" in tests


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in WITHOUT_PICTURE])
def test_every_script_says_what_to_expect_and_is_in_the_gallery(name):
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    assert all(f"\n{part}: " in docstring for part in ("Shows", "Data", "Run", "Expect"))
    assert f"python examples/{name}.py" in GALLERY
    assert f"](gallery/{name}" in GALLERY


def test_the_pictures_of_the_gallery_are_there_and_small():
    shown = set(re.findall(r"\]\(gallery/([^)]+)\)", GALLERY))
    files = {path.name: path for path in (ROOT / "docs" / "gallery").iterdir()}
    assert shown == set(files)
    for path in files.values():
        assert path.stat().st_size < 150_000, f"{path.name} has {path.stat().st_size} bytes"
        assert path.read_bytes().startswith(b"\x89PNG")
