"""`flambeau.hub`: files by address, and hubconf.py."""

import hashlib
import os
import pathlib
import urllib.error
import zipfile

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
    folder.mkdir()
    repository.rename(folder / "owner_repo_v1")
    assert hub.load("owner/repo:v1", "net", 2).weight.shape == (2, 5)
    with pytest.raises(ValueError, match="owner/repo"):
        hub.load("repo", "net")
    with pytest.raises(ValueError, match="unknown source"):
        hub.load("owner/repo", "net", source="elsewhere")


@pytest.fixture
def github(tmp_path, repository, monkeypatch):
    """A folder in GitHub's place, with an archive of the repository's branch `main`; answers what was fetched."""
    place = tmp_path / "github" / "owner" / "repo" / "zipball"
    place.mkdir(parents=True)
    with zipfile.ZipFile(place / "main", "w") as archive:
        for file in repository.iterdir():
            archive.write(file, f"owner-repo-1a2b3c/{file.name}")
    monkeypatch.setattr(hub, "_REPOSITORIES", (tmp_path / "github").as_uri() + "/")
    return place


def test_a_repository_is_fetched_once_when_trusted(folder, github, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(RuntimeError, match="Untrusted repository owner/repo"):
        hub.load("owner/repo", "net", 2, verbose=False)
    assert not folder.exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert hub.load("owner/repo", "net", 2, verbose=False).weight.shape == (2, 5)
    assert (folder / "trusted_list").read_text(encoding="utf-8") == "owner_repo_main\n"
    assert sorted(path.name for path in folder.iterdir()) == ["owner_repo_main", "trusted_list"]
    (github / "main").unlink()  # the source is gone, the copy stays, and nobody is asked again
    monkeypatch.setattr("builtins.input", None)
    assert hub.list("owner/repo", verbose=False) == ["net"]
    assert hub.help("owner/repo", "net") == "A layer of SIZE inputs."
    with pytest.raises(urllib.error.URLError, match=r"put that file at .*owner_repo_main\.zip"):
        hub.load("owner/repo", "net", 2, force_reload=True, verbose=False)


def test_trust_in_all_its_forms(folder, github, monkeypatch):
    def nobody(question):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    with pytest.raises(RuntimeError, match="pass trust_repo=True"):
        hub.list("owner/repo:main")
    monkeypatch.setattr("builtins.input", lambda question: "perhaps")
    with pytest.raises(ValueError, match="Unrecognized response 'perhaps'"):
        hub.list("owner/repo:main")
    with pytest.warns(UserWarning, match="untrusted repository, owner/repo"):
        assert hub.list("owner/repo:main", trust_repo=None, verbose=False) == ["net"]
    assert not (folder / "trusted_list").exists()
    with pytest.raises(ValueError, match="Unrecognized"):  # False asks although the folder is there
        hub.list("owner/repo:main", trust_repo=False)
    assert hub.list("owner/repo:main", trust_repo=True, force_reload=True, verbose=False) == ["net"]


def test_an_archive_put_in_its_place_is_unpacked(folder, github):
    folder.mkdir()
    (github / "main").rename(folder / "owner_repo_v2.zip")
    assert hub.load("owner/repo:v2", "net", 2, trust_repo=True).weight.shape == (2, 5)
    assert not (folder / "owner_repo_v2.zip").exists()


@pytest.mark.parametrize("names, message", [
    (["top/hubconf.py", "../outside.py"], "outside its folder"), (["/hubconf.py"], "outside its folder"),
    (["hubconf.py"], "should hold one folder"), (None, "no zip archive"), (["top/bomb"], "unpacks to more than"),
])
def test_unsound_archives_are_refused(folder, github, monkeypatch, names, message):
    (github / "main").unlink()
    if names is None:
        (github / "main").write_text("no archive", encoding="utf-8")
    else:
        with zipfile.ZipFile(github / "main", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, "x = 1\n")
    if "bomb" in str(names):
        monkeypatch.setattr(hub, "_UNPACKED_TIMES", 0)
        monkeypatch.setattr(hub, "_UNPACKED_MORE", 3)
    with pytest.raises(RuntimeError, match=message):
        hub.load("owner/repo", "net", trust_repo=True, verbose=False)
    assert [path.name for path in folder.iterdir()] == ["trusted_list"]
