"""`affidavit demo` and `affidavit demo token`: what is wrong is said before anything starts."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ext_proc.cli import main
from ext_proc.demo import programs, servers, stack
from tests.fakes.policy import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


def test_policy_that_opa_refuses_is_said_first(tmp_path: Path, capsys: Said) -> None:
    policy = tmp_path / "policy"
    shutil.copytree(ROOT / "opa", policy)
    (policy / "inference" / "broken.rego").write_text("package inference\n\nx := nothing\n")

    assert main(["demo", "--keep", "--policy", str(policy)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"affidavit: --policy {policy}: opa build: ")
    assert "broken.rego:3: rego_unsafe_var_error: var nothing is unsafe" in said.err
    assert said.out == ""


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


def _written_by_a_demo(path: Path, pid: int, *, config_is_there: bool) -> str:
    config = path.with_name("config.yaml")
    if config_is_there:
        config.touch()
    path.write_text(json.dumps({"config": str(config), "pids": {"supervisor": pid}}))
    return path.read_text()


def test_endpoints_of_a_demo_that_runs_stay_its_own(tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "endpoints.json"
    before = _written_by_a_demo(path, os.getpid(), config_is_there=True)
    assert main(["demo", "--keep", "--endpoints", str(path)]) == 2
    said = capsys.readouterr().err
    assert said == f"affidavit: --endpoints: {path}: belongs to a demo that runs; stop it or name another file\n"
    assert path.read_text() == before


def _fails(self: stack.Stack) -> None:
    raise stack.ProgramError("as told")


@pytest.mark.parametrize("is_alive", [True, False])
def test_endpoints_of_a_demo_that_ended_are_free(
    is_alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed and left its file; another process may have the id by now, or its folder may still be there."""
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    path = tmp_path / "endpoints.json"
    _written_by_a_demo(path, os.getpid() if is_alive else ended.pid, config_is_there=not is_alive)
    monkeypatch.setattr(stack.Stack, "start", _fails)
    assert main(["demo", "--keep", "--endpoints", str(path)]) == 1
    assert not path.exists()


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Demos are ready at once, without anything started, and put their files below this folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(stack.Stack, "start", lambda self: None)
    monkeypatch.setattr(stack.Stack, "endpoints", lambda self: {"config": str(self.config), "secret_key": "k"})
    monkeypatch.setattr(stack.Stack, "gateway", "http://127.0.0.1:1")
    monkeypatch.setattr(stack.Stack, "console", "http://127.0.0.1:2")
    return tmp_path


def _left(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("affidavit-*")]


def _signal_when_it_waits(signum: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: only then is somebody there to heed it, and a test that fails earlier takes no others with it."""
    wait = stack.sleep

    def sleep(seconds: float) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signum)).start()
        wait(seconds)

    monkeypatch.setattr(stack, "sleep", sleep)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_kept_demo_that_is_stopped_leaves_nothing(
    signum: signal.Signals, ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = ready / "endpoints.json"
    _signal_when_it_waits(signum, monkeypatch)
    assert main(["demo", "--keep", "--endpoints", str(path)]) == 0
    assert capfd.readouterr().out.endswith("Ctrl-C stops everything\n\nstopping …\n")
    assert not path.exists()  # it holds S3 keys
    assert _left(ready) == []


def test_kept_demo_leaves_anothers_endpoints_file(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ready / "endpoints.json"

    def sleep(_: float) -> None:
        path.write_text('{"config": "/another"}')
        raise KeyboardInterrupt

    monkeypatch.setattr(stack, "sleep", sleep)
    assert main(["demo", "--keep", "--endpoints", str(path)]) == 0
    assert path.read_text() == '{"config": "/another"}'


def test_kept_demo_says_what_ended(ready: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """A demo without its Envoy went on saying where the gateway is."""
    envoy = programs.start("envoy", ["/bin/false"], ready)
    envoy.process.wait()
    monkeypatch.setattr(stack.Stack, "start", lambda self: self.programs.update(envoy=envoy))
    monkeypatch.setattr(stack, "_LOOK_SECONDS", 0.01)
    assert main(["demo", "--keep"]) == 1
    assert "envoy ended with status 1" in capsys.readouterr().err


def _tells(monkeypatch: pytest.MonkeyPatch, tell: Callable[[stack.Stack], int]) -> None:
    monkeypatch.setattr("ext_proc.demo.story.tell_story", tell)


def test_story_that_ends_well_says_how_to_go_on(ready: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    _tells(monkeypatch, lambda _: 0)
    assert main(["demo"]) == 0
    next_ = 'next: .venv/bin/affidavit demo --keep --endpoints /tmp/demo.json   (README, "A tour")\n'
    assert capsys.readouterr().out.endswith(f"\n{next_}")
    assert _left(ready) == []


def test_story_that_fails_keeps_its_files(ready: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    _tells(monkeypatch, lambda _: 1)
    assert main(["demo"]) == 1
    said = capsys.readouterr().out
    [folder] = _left(ready)
    assert said.endswith(f"files and logs: {ready / folder}\n")
    assert "next: " not in said


def test_story_that_is_broken_off_leaves_nothing(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def tell(_: stack.Stack) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
        return 1

    _tells(monkeypatch, tell)
    assert main(["demo"]) == 130
    assert "stopping …" in capfd.readouterr().out
    assert _left(ready) == []


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
    assert f"{path}: not the endpoints file of a demo" in said.err
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


def test_policy_goes_with_keep(tmp_path: Path, capsys: Said) -> None:
    assert main(["demo", "--policy", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("affidavit: --policy: goes with --keep")


def test_policy_that_is_no_policy_folder(tmp_path: Path, capsys: Said) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        assert main(["demo", "--keep", "--policy", str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"affidavit: --policy: {path}: a folder like opa/ is wanted")


def test_policy_is_the_one_that_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []
    monkeypatch.setattr(stack.Stack, "start", lambda self: built.append(self._options.policy))
    monkeypatch.setattr(stack, "_run", lambda *_, **__: 0)
    monkeypatch.setattr(stack.Stack, "stop", lambda _: None)
    (tmp_path / "system").mkdir()
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "system" / "authz.rego").write_text("package system.authz\n\nallow if true\n")
    assert main(["demo", "--keep", "--policy", str(tmp_path)]) == 0
    assert main(["demo", "--keep"]) == 0
    assert built == [tmp_path, servers.POLICY_SOURCES]


def test_bundle_is_of_the_policy_that_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(servers.POLICY_SOURCES, other)
    (other / "data.json").write_text((other / "data.json").read_text().replace("analysts", "others"))
    ours = servers.build_bundle(tmp_path / "ours.tar.gz")
    theirs = servers.build_bundle(tmp_path / "theirs.tar.gz", other)
    assert ours.revision != theirs.revision
