"""`flambeau.hub`: files by address, and hubconf.py."""

import hashlib
import os
import pathlib
import urllib.error

import pytest

import flambeau as torch
from flambeau import hub

HUBCONF = '''
"""Entry points."""
dependencies = ["numpy", "torch"{more}]
from neighbour import SIZE

def net(width, bias=True):
    """A layer of SIZE inputs."""
    from flambeau import nn
    return nn.Linear(SIZE, width, bias=bias)

def _hidden():
    pass
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A hub folder of the test's own."""
    monkeypatch.setattr(hub, "_chosen", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def address(tmp_path):
    """A state dict behind an address, its SHA-256 in the name as PyTorch publishes it."""
    path = tmp_path / "small.pth"
    torch.save({"weight": torch.arange(3.0)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(tmp_path / f"small-{digest[:8]}.pth").as_uri()


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    (place / "hubconf.py").write_text(HUBCONF.format(more=""), encoding="utf-8")
    (place / "neighbour.py").write_text("SIZE = 5", encoding="utf-8")
    return place


def test_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "_chosen", None)
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.get_dir() == str(tmp_path / ".cache" / "torch" / "hub")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert hub.get_dir() == os.path.join("/x", "torch", "hub")
    monkeypatch.setenv("TORCH_HOME", "/t")
    assert hub.get_dir() == os.path.join("/t", "hub")
    hub.set_dir(tmp_path)
    assert torch.hub.get_dir() == str(tmp_path)


def test_state_dict_is_fetched_once(folder, address, tmp_path):
    state = hub.load_state_dict_from_url(address, progress=False, check_hash=True)
    assert state["weight"].tolist() == [0.0, 1.0, 2.0]
    name = pathlib.PurePosixPath(address).name
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [name]
    (tmp_path / name).unlink()  # the source is gone, the copy stays
    assert list(hub.load_state_dict_from_url(address)) == ["weight"]


def test_file_that_is_there_is_used_unchecked(folder):
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"mine": torch.ones(1)}, folder / "checkpoints" / "net-00000000.pth")
    assert list(hub.load_state_dict_from_url("https://nowhere.invalid/net-00000000.pth", check_hash=True)) == ["mine"]


def test_wrong_hash_leaves_nothing_behind(folder, address):
    with pytest.raises(RuntimeError, match="invalid hash"):
        hub.download_url_to_file(address, str(folder / "x.pth"), hash_prefix="0000000000", progress=False)
    assert list(folder.iterdir()) == []


def test_without_an_answer_the_error_says_what_to_do(folder, tmp_path):
    url = (tmp_path / "absent-12345678.pth").as_uri()
    with pytest.raises(urllib.error.URLError) as caught:
        hub.load_state_dict_from_url(url, progress=False)
    assert url in str(caught.value) and str(folder / "checkpoints" / "absent-12345678.pth") in str(caught.value)
    assert list((folder / "checkpoints").iterdir()) == []


def test_entry_points_of_a_local_folder(repository):
    net = hub.load(repository, "net", 2, source="local", bias=False)
    assert net.weight.shape == (2, 5) and net.bias is None
    assert hub.list(repository, source="local") == ["net"]
    assert hub.help(repository, "net", source="local") == "A layer of SIZE inputs."
    with pytest.raises(RuntimeError, match="no entry point 'other'"):
        hub.load(repository, "other", source="local")


def test_missing_dependency_is_named(repository):
    (repository / "hubconf.py").write_text(HUBCONF.format(more=', "no_such_package"'), encoding="utf-8")
    with pytest.raises(RuntimeError, match="not installed: no_such_package"):
        hub.load(repository, "net", 2, source="local")


def test_github_repository_is_read_from_the_hub_folder(folder, repository):
    with pytest.raises(RuntimeError, match="owner_repo_main"):
        hub.load("owner/repo", "net", 2)
    folder.mkdir()
    repository.rename(folder / "owner_repo_v1")
    assert hub.load("owner/repo:v1", "net", 2).weight.shape == (2, 5)
    with pytest.raises(ValueError, match="owner/repo"):
        hub.load("repo", "net")
    with pytest.raises(ValueError, match="unknown source"):
        hub.load("owner/repo", "net", source="elsewhere")
