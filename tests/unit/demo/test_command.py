"""`affidavit demo` and `affidavit demo token`: what is wrong is said before anything starts."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ext_proc.cli import main
from ext_proc.demo import stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: stack.Stack) -> None:
        pytest.fail("something was started")

    monkeypatch.setattr(stack.Stack, "start", start)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://a", "http://a/b", "http://u:p@a", "http://a?x", "http://"]
)
def test_upstream_that_is_none(url: str, capsys: Said) -> None:
    assert main(["demo", "--upstream", url]) == 2
    assert capsys.readouterr().err.startswith("affidavit: --upstream: ")


def test_endpoints_that_cannot_be_written(tmp_path: Path, capsys: Said) -> None:
    for path in (tmp_path / "nothing" / "endpoints.json", tmp_path):
        assert main(["demo", "--keep", "--endpoints", str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"affidavit: --endpoints: {path}: ")


def test_endpoints_of_an_earlier_run_are_gone_before_anything_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the file must not find the old one."""
    path = tmp_path / "endpoints.json"
    path.write_text("{}")
    found: list[bool] = []

    def start(self: stack.Stack) -> None:
        found.append(path.exists())
        raise stack.ProgramError("as told")

    monkeypatch.setattr(stack.Stack, "start", start)
    assert main(["demo", "--keep", "--endpoints", str(path)]) == 1
    assert found == [False]
    assert list(tmp_path.iterdir()) == []


# Tokens ---------------------------------------------------------------------------------------------------------------


def _token(path: Path, *groups: str) -> int:
    return main(["demo", "token", "--subject", "ada", "--groups", *groups, "--endpoints", str(path)])


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", "7", "{}", '{"token_endpoint": 7}', '{"token_endpoint": null}', "\udcff"]
)
def test_file_that_is_no_endpoints_file(content: str, tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "endpoints.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert _token(path) == 2
    said = capsys.readouterr()
    assert said.err == f"affidavit: {path}: not the endpoints file of a demo\n"
    assert said.out == ""


def test_file_that_is_missing(tmp_path: Path, capsys: Said) -> None:
    assert _token(tmp_path / "nothing.json") == 2
    assert "No such file" in capsys.readouterr().err


@contextmanager
def _issuer(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """An issuer that gives exactly this answer, and what it was asked."""
    asked: list[dict[str, list[str]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))
            if status == 0:  # not HTTP at all
                self.wfile.write(body)
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/token", asked
        server.shutdown()


def _endpoints(tmp_path: Path, token_endpoint: str) -> Path:
    path = tmp_path / "endpoints.json"
    path.write_text(json.dumps({"token_endpoint": token_endpoint}))
    return path


def test_token(tmp_path: Path, capsys: Said) -> None:
    with _issuer(200, b'{"access_token": "a.b.c"}') as (url, asked):
        assert _token(_endpoints(tmp_path, url), "analysts", "readers") == 0
    assert capsys.readouterr().out == "a.b.c\n"
    [form] = asked
    assert (form["subject"], form["groups"]) == (["ada"], ["analysts readers"])


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (200, b""), (200, b"no json"), (200, b"[]"), (200, b"{}"), (400, b'{"error":"x"}'), (0, b"hello\r\n")],
)
def test_issuer_that_gives_no_token(status: int, body: bytes, tmp_path: Path, capsys: Said) -> None:
    with _issuer(status, body) as (url, _):
        assert _token(_endpoints(tmp_path, url)) == 2
    said = capsys.readouterr()
    assert said.err == f"affidavit: no token from {url}: does the demo still run?\n"
    assert said.out == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/token", "nonsense", "http://[", "file:///etc/passwd", ""])
def test_issuer_that_is_gone(url: str, tmp_path: Path, capsys: Said) -> None:
    assert _token(_endpoints(tmp_path, url)) == 2
    assert "does the demo still run?" in capsys.readouterr().err
