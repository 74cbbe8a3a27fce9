"""Bad answers leave no file under the final name, and the message says what else to do."""

import http.server
import threading

import pytest

from fqgan.runtime.download import download

CONTENT = bytes(range(256)) * 64


class Handler(http.server.BaseHTTPRequestHandler):
    """/file is right, /short ends early, /page is a page about a quota, the rest has a status."""

    def do_GET(self):
        if self.path[1:].isdigit():
            self.send_error(int(self.path[1:]))
            return
        page = self.path == "/page"
        body = b"<html>quota exceeded</html>" if page else CONTENT
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if page else "application/zip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    ("place", "reason"),
    [("page", "web page"), ("short", "ended after"), ("404", "404"), ("403", "403")],
)
def test_a_bad_answer_leaves_no_file_and_names_the_way_by_hand(site, tmp_path, place, reason):
    with pytest.raises(OSError, match=f"{reason}.*fetch it by hand and put it at") as raised:
        download(f"{site}/{place}", tmp_path / "b.zip", mirrors=[f"{site}/404"])
    assert not (tmp_path / "b.zip").exists()
    assert f"{site}/{place}" in str(raised.value)
    assert f"{site}/404" in str(raised.value), "the mirrors are named as well"


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_digest_is_refused(site, tmp_path, kind):
    with pytest.raises(OSError, match=f"has {kind}"):
        download(f"{site}/file", tmp_path / "b.zip", **{kind: "0" * 32})
    assert not (tmp_path / "b.zip").exists()
