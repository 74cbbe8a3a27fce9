"""Downloads get their name only when they are whole and right."""

import hashlib
import http.server
import threading

import pytest

from prevalent.runtime.download import download

CONTENT = bytes(range(256)) * 64


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /file, its first half at /short, a page at /page."""

    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        self.ranges.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        kinds = {"/page": "text/html", "/file": "application/zip", "/short": "application/zip"}
        if self.path not in kinds:
            self.send_error(404)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", kinds[self.path])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

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


@pytest.mark.parametrize(
    ("place", "reason"),
    [("/page", "web page"), ("/short", "ended after"), ("/none", "404")],
)
def test_a_bad_answer_leaves_no_file_and_names_the_way_by_hand(site, tmp_path, place, reason):
    with pytest.raises(OSError, match=f"{reason}.*fetch it by hand and put it at"):
        download(f"{site}{place}", tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_a_wrong_digest_is_refused(site, tmp_path):
    with pytest.raises(OSError, match="has md5"):
        download(f"{site}/file", tmp_path / "b.zip", md5="0" * 32)
    assert not (tmp_path / "b.zip").exists()


def test_the_next_mirror_is_tried(site, tmp_path):
    path = download(f"{site}/none", tmp_path / "b.zip", mirrors=[f"{site}/file"])
    assert path.read_bytes() == CONTENT
