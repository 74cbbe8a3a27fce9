"""Downloads get their name only when they are whole and right."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from optimus.runtime.download import download, extract

CONTENT = bytes(range(256)) * 64


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /file."""

    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        self.ranges.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if self.path != "/file":
            self.send_error(404)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    Handler.ranges.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_file_is_fetched_once_and_checked(site, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    for _ in range(2):
        path = download(f"{site}/file", tmp_path / "a" / "b.zip", sha256=digest)
    assert path.read_bytes() == CONTENT
    assert Handler.ranges == [None]


def test_a_partial_file_is_continued(site, tmp_path):
    (tmp_path / "b.zip.partial").write_bytes(CONTENT[:100])
    assert download(f"{site}/file", tmp_path / "b.zip").read_bytes() == CONTENT
    assert Handler.ranges == ["bytes=100-"]


def test_the_next_mirror_is_tried(site, tmp_path):
    path = download(f"{site}/none", tmp_path / "b.zip", mirrors=[f"{site}/file"])
    assert path.read_bytes() == CONTENT


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = 2 if member.isfile() else 0
            archive.addfile(member, io.BytesIO(b"ok") if member.isfile() else None)
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def test_both_kinds_unpack(tmp_path):
    made = make_zip(tmp_path / "a.zip", {"x/1.txt": "one"})
    assert (extract(made, tmp_path / "zip") / "x" / "1.txt").read_text() == "one"
    made = make_tar(tmp_path / "a.tar.gz", member("x", tarfile.DIRTYPE), member("x/1.txt"))
    assert (extract(made, tmp_path / "tar") / "x" / "1.txt").read_text() == "ok"


def test_what_is_no_archive_is_named(tmp_path):
    (tmp_path / "a.zip").write_text("<html>quota exceeded</html>")
    with pytest.raises(ValueError, match="no zip or tar archive"):
        extract(tmp_path / "a.zip", tmp_path / "out")
