"""Downloads that resume and name what failed; archives that are not trusted."""

import bz2
import gzip
import http.server
import io
import lzma
import tarfile
import threading
import urllib.error
import zipfile

import pytest

from flambeau.vision.datasets import utils

CONTENT = bytes(range(256)) * 40


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, parts of it if asked; `/cut` ends early, `/whole` knows no parts."""

    asked: list = []

    def do_GET(self):
        start = self.headers.get("Range")
        self.asked.append((self.path, start))
        first = 0 if start is None or self.path == "/whole" else int(start.removeprefix("bytes=").rstrip("-"))
        if first >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.end_headers()
        self.wfile.write(CONTENT[first : 1000 if self.path == "/cut" else None])

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    Server.asked = []
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


@pytest.fixture
def md5(tmp_path):
    file = tmp_path / "reference"
    file.write_bytes(CONTENT)
    return utils.calculate_md5(file)


def test_download_checks_the_sum_and_happens_once(server, tmp_path, md5):
    for _ in range(2):
        utils.download_url(f"{server}/data.bin", tmp_path / "new", md5=md5)
    assert (tmp_path / "new" / "data.bin").read_bytes() == CONTENT
    assert Server.asked == [("/data.bin", None)]
    with pytest.raises(RuntimeError, match=f"has MD5 {md5}, expected 000"):
        utils.download_url(f"{server}/data.bin", tmp_path, "other", md5="000")
    assert not list(tmp_path.glob("other*"))


def test_a_download_goes_on_where_it_ended(server, tmp_path, md5):
    with pytest.raises(urllib.error.URLError, match=r"could not download .*/cut to .*data"):
        utils.download_url(f"{server}/cut", tmp_path, "data", md5)
    assert (tmp_path / "data.part").read_bytes() == CONTENT[:1000] and not (tmp_path / "data").exists()
    utils.download_url(f"{server}/file", tmp_path, "data", md5)
    assert (tmp_path / "data").read_bytes() == CONTENT and Server.asked[-1] == ("/file", "bytes=1000-")


@pytest.mark.parametrize("path", ["whole", "file"])
def test_a_download_starts_again_where_it_cannot_go_on(server, tmp_path, md5, path):
    (tmp_path / "data.part").write_bytes(b"x" * (10 if path == "whole" else 10**5))
    utils.download_url(f"{server}/{path}", tmp_path, "data", md5)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_an_unreachable_server_is_an_error_with_url_and_target(tmp_path):
    url = (tmp_path / "nothing" / "data.tgz").as_uri()
    with pytest.raises(urllib.error.URLError, match=rf"could not download {url} to .*data.tgz.*put the file there"):
        utils.download_url(url, tmp_path)


def tar(path, *members, mode="w:gz"):
    """Write a tar file of (name, bytes), or of prepared members."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_archives_of_all_kinds_are_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/one.txt", "zip")
    tar(tmp_path / "b.tar.gz", ("folder/two.txt", b"tar"), link("folder/again.txt", "two.txt"))
    tar(tmp_path / "c.tar", ("three.txt", b"plain"), mode="w")
    out = tmp_path / "out"
    for name in ("a.zip", "b.tar.gz", "c.tar"):
        assert utils.extract_archive(tmp_path / name, out) == str(out)
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.txt")}
    assert found == {
        "folder/one.txt": "zip",
        "folder/two.txt": "tar",
        "folder/again.txt": "tar",
        "three.txt": "plain",
    }
    for suffix, module in ((".gz", gzip), (".bz2", bz2), (".xz", lzma)):
        (tmp_path / f"values{suffix}").write_bytes(module.compress(b"values"))
        result = utils.extract_archive(tmp_path / f"values{suffix}", remove_finished=True)
        assert result == str(tmp_path / "values") and (tmp_path / "values").read_bytes() == b"values"
        assert not (tmp_path / f"values{suffix}").exists()
    with pytest.raises(RuntimeError, match=r"Unknown compression or archive type: 'values'"):
        utils.extract_archive(tmp_path / "values")


@pytest.mark.parametrize(
    "member",
    [
        ("../escaped.txt", b"x"),
        ("/tmp/flambeau_escaped.txt", b"x"),
        link("inside", "../../reference"),
        link("inside", "/etc/passwd"),
        link("inside", "inside"),
        link("inside", "/etc/passwd", tarfile.LNKTYPE),
        link("device", "", tarfile.CHRTYPE),
    ],
)
def test_a_tar_file_cannot_leave_its_folder(tmp_path, member):
    out = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError, match="not safe to unpack"):
        utils.extract_archive(tar(tmp_path / "bad.tgz", member), out)
    assert not list(out.rglob("*")) and not (tmp_path / "deep" / "escaped.txt").exists()


def test_a_zip_file_cannot_leave_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../escaped.txt", "x")
    with pytest.raises(RuntimeError, match="not safe to unpack"):
        utils.extract_archive(tmp_path / "bad.zip", tmp_path / "out")
    assert not (tmp_path / "escaped.txt").exists()


def test_a_link_in_the_folder_does_not_lead_out_of_it(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(RuntimeError, match="not safe to unpack"):
        utils.extract_archive(tar(tmp_path / "bad.tgz", ("link/escaped.txt", b"x")), tmp_path / "out")


def test_a_bomb_is_stopped_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "ALWAYS_ALLOWED", 1 << 20)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(RuntimeError, match="over 100 times its own size"):
        utils.extract_archive(tmp_path / "bomb.gz")
    assert not (tmp_path / "bomb").exists()


def test_names_of_files_and_folders(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "b.txt").touch()
    assert utils.list_dir(tmp_path) == ["folder"]
    assert utils.list_files(tmp_path, ".png") == ["a.png"]
    assert utils.list_files(tmp_path, ".png", prefix=True) == [str(tmp_path / "a.png")]
    with pytest.raises(ValueError, match="Expected type str for argument split"):
        utils.verify_str_arg(3, "split")
