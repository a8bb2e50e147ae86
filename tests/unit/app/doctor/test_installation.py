"""`ext_proc.app.doctor.installation`: what is not so is said in a sentence; nothing passes that is not locked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from ext_proc.app.doctor import installation
from ext_proc.app.doctor.installation import Call, Caller, NotSo
from ext_proc.config import load
from ext_proc.errors import ConfigError
from ext_proc.evidence.prove import NotFound
from ext_proc.evidence.versions import Lock, Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Door:
    """A gateway and an issuer in one: says what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {"x-affidavit-exchange": "e-1"}, b"{}"
        self.sent: list[tuple[str, str, bytes]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                door.sent.append((self.path, self.headers.get("authorization", ""), self.rfile.read(length)))
                self.send_response(door.status)
                for name, value in door.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(door.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    thread = Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_call_is_one_of_a_callers(door: Door) -> None:
    assert Call(f"{door.url}/v1/chat/completions", '{"a": 1}').made("secret") == "e-1"
    assert door.sent == [("/v1/chat/completions", "Bearer secret", b'{"a": 1}')]


def test_refusal_is_told(door: Door) -> None:
    door.status, door.body = 403, b'{"error": "denied"}'
    with pytest.raises(NotSo, match=r'answered with 403: \{"error": "denied"\}'):
        Call(f"{door.url}/x", "{}").made("t")


def test_another_server_is_no_gateway(door: Door) -> None:
    door.headers = {}
    with pytest.raises(NotSo, match="has no x-affidavit-exchange: is this the gateway"):
        Call(f"{door.url}/x", "{}").made("t")


def test_nobody_there() -> None:
    with pytest.raises(NotSo, match="refused"):
        Call("http://127.0.0.1:1/x", "{}").made("t")


def test_token_of_an_issuer(door: Door, tmp_path: Path) -> None:
    (tmp_path / "client_id").write_text("tester\n")
    (tmp_path / "client_secret").write_text("s3cret\n")
    door.body = b'{"access_token": "made"}'
    caller = Caller(token_endpoint=f"{door.url}/token", client_dir=tmp_path, form=("groups=analysts",))
    assert caller.token() == "made"
    [(path, _, form)] = door.sent
    assert path == "/token"
    assert parse_qs(form.decode()) == {
        "grant_type": ["client_credentials"], "groups": ["analysts"], "client_id": ["tester"], "client_secret": ["s3cret"]
    }  # fmt: skip


@pytest.mark.parametrize(
    "caller",
    [
        Caller(),
        Caller(token_endpoint="http://127.0.0.1:1/token"),
        Caller(token_endpoint="http://127.0.0.1:1/token", form=("nonsense",)),
    ],
)
def test_no_token(caller: Caller, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        caller.token()


def test_token_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no token: "):
        Caller(token_file=tmp_path / "none").token()


# The records -----------------------------------------------------------------------------------------------------


def _proof(*kinds: str) -> dict[str, Any]:
    origin = "affidavit/gw-0-0/20261126T000000000000-0123abcd"
    leaves = [json.dumps({"kind": kind, "origin": origin}) for kind in kinds]
    return {"proofs": [{"leaf": leaf, "index": number} for number, leaf in enumerate(leaves)]}


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_POLL_SECONDS", 0.01)


@pytest.mark.usefixtures("_hasty")
def test_record_is_waited_for_until_its_outcome_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [NotFound("not yet"), _proof("inference.intent"), _proof(*installation.KINDS)]

    def prove(*_: Any, **__: Any) -> Any:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(installation, "prove", prove)
    assert len(installation._proof(None, "e-1", NOW, 60)["proofs"]) == 2  # type: ignore[arg-type]
    assert answers == []


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize(
    ("found", "why"),
    [(NotFound("no record of e-1"), "no record of e-1"), (_proof("inference.intent"), "inference.outcome is missing")],
)
def test_record_that_never_comes(found: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(*_: Any, **__: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(installation, "prove", prove)
    with pytest.raises(NotSo, match=f"exchange e-1 is not on record after 0.1 s: {why}"):
        installation._proof(None, "e-1", NOW, 0.1)  # type: ignore[arg-type]


class Locks:
    """A store whose objects are locked so."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def download(self, *_: Any) -> Lock:
        return self._lock


def _until(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    from tests.unit.test_config import VALID

    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(VALID))

    class Name:
        first, last = 0, 9

    version = Version("v1/events/a", "1", True, False, 5, NOW)
    monkeypatch.setattr(installation, "objects_of", lambda *_: [(Name(), version)])
    return list(installation._locked(load(path)[0], Locks(lock), _proof(*installation.KINDS)))  # type: ignore[arg-type]


def test_locked_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until = NOW + timedelta(days=400)
    assert _until(Lock("COMPLIANCE", until), tmp_path, monkeypatch) == [until, until]


@pytest.mark.parametrize(
    "lock",
    [
        Lock(),
        Lock("COMPLIANCE"),
        Lock("GOVERNANCE", NOW + timedelta(days=400)),
        Lock("COMPLIANCE", NOW + timedelta(days=30)),
        Lock(is_held=True),
    ],
)
def test_not_locked_so(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotSo, match="v1/events/a is not locked for 400 days"):
        _until(lock, tmp_path, monkeypatch)
