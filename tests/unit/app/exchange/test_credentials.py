"""`ext_proc.app.exchange.credentials`: read when it changes, refused when it is no credential, shown to nobody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import structlog

from ext_proc.app.exchange.credentials import CREDENTIAL_MAX_BYTES, LOOK_SECONDS, FileCredentials
from ext_proc.errors import CredentialUnavailable
from ext_proc.model import Connection, Credential

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = "sk-planted-0123456789"


class Clock:
    """Seconds that only grow when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credential"
    path.write_text(PLANTED + "\n")
    return path


def _connection(file: Path | None, header: str = "authorization", prefix: str = "Bearer ") -> Connection:
    credential = None if file is None else Credential(header, str(file), prefix)
    return Connection("model", (), credential, 1, 1)


def test_credential_with_its_prefix(file: Path, clock: Clock) -> None:
    found = FileCredentials(clock).reveal(_connection(file))
    assert {name: secret.reveal() for name, secret in found.items()} == {"authorization": f"Bearer {PLANTED}"}


def test_other_header_without_prefix(file: Path, clock: Clock) -> None:
    found = FileCredentials(clock).reveal(_connection(file, "x-api-key", ""))
    assert {name: secret.reveal() for name, secret in found.items()} == {"x-api-key": PLANTED}


def test_connection_without_credential(clock: Clock) -> None:
    assert FileCredentials(clock).reveal(_connection(None)) == {}


def _revealed(credentials: FileCredentials, file: Path) -> str:
    return credentials.reveal(_connection(file))["authorization"].reveal()


def test_file_is_not_read_for_every_call(file: Path, clock: Clock) -> None:
    credentials = FileCredentials(clock)
    first = credentials.reveal(_connection(file))
    clock.now += LOOK_SECONDS + 1
    assert credentials.reveal(_connection(file)) is first


@pytest.mark.parametrize("way", ["written over", "moved over", "same size, same second"])
def test_rotation(file: Path, clock: Clock, way: str) -> None:
    credentials = FileCredentials(clock)
    assert _revealed(credentials, file) == f"Bearer {PLANTED}"
    other = PLANTED[::-1]
    before = file.stat()
    if way == "written over":
        file.write_text(other + " and more".replace(" ", "-"))
        other += "-and-more"
    else:  # as Kubernetes does: a new file under the old name
        beside = file.with_name("beside")
        beside.write_text(other + "\n")
        if way == "same size, same second":
            os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
        beside.replace(file)
    assert _revealed(credentials, file) == f"Bearer {PLANTED}"  # not looked at yet
    clock.now += LOOK_SECONDS
    assert _revealed(credentials, file) == f"Bearer {other}"


def test_file_that_is_gone_is_not_remembered(file: Path, clock: Clock) -> None:
    """Who takes the file away takes the access away."""
    credentials = FileCredentials(clock)
    credentials.reveal(_connection(file))
    file.unlink()
    clock.now += LOOK_SECONDS
    for _ in range(2):
        with pytest.raises(CredentialUnavailable, match="unreadable"):
            credentials.reveal(_connection(file))
    file.write_text(PLANTED)
    assert _revealed(credentials, file) == f"Bearer {PLANTED}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n\t\n",
        b"two\nlines",
        b"a\r\nx-evil: 1",
        b"a\x00b",
        "pässword".encode(),
        b"\xff\xfe",
        b"a" * (CREDENTIAL_MAX_BYTES + 1),
    ],
    ids=["empty", "blank", "lines", "header", "zero", "not ascii", "not text", "too large"],
)
def test_malformed(file: Path, clock: Clock, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(CredentialUnavailable, match="malformed"):
        FileCredentials(clock).reveal(_connection(file))


def test_largest(file: Path, clock: Clock) -> None:
    file.write_bytes(b"a" * CREDENTIAL_MAX_BYTES)
    assert len(_revealed(FileCredentials(clock), file)) == len("Bearer ") + CREDENTIAL_MAX_BYTES


def test_malformed_rotation_is_an_error_and_the_old_one_ends(file: Path, clock: Clock) -> None:
    credentials = FileCredentials(clock)
    credentials.reveal(_connection(file))
    file.write_text("two\nlines")
    clock.now += LOOK_SECONDS
    with pytest.raises(CredentialUnavailable, match="malformed"):
        credentials.reveal(_connection(file))


def test_unreadable(file: Path, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(CredentialUnavailable, match="unreadable"):
        FileCredentials(clock).reveal(_connection(tmp_path))  # a folder


def test_never_in_a_repr_or_an_error(file: Path, clock: Clock) -> None:
    credentials = FileCredentials(clock)
    found = credentials.reveal(_connection(file))
    shown = [repr(found), str(found), f"{found}", repr(credentials), repr(credentials._kept), str(_connection(file))]
    file.write_bytes(PLANTED.encode() + b"\n" + PLANTED.encode())
    clock.now += LOOK_SECONDS
    with pytest.raises(CredentialUnavailable) as refused:
        credentials.reveal(_connection(file))
    shown += [repr(refused.value), str(refused.value), refused.value.detail, refused.value.client_text]
    assert not [text for text in shown if PLANTED in text]


def test_never_in_a_log_line(file: Path, clock: Clock) -> None:
    """Not even where somebody logs it by mistake, in any of the ways in which one logs."""
    found = FileCredentials(clock).reveal(_connection(file))
    lines: list[str] = []
    log = structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
    )
    lines.extend((log.info("event", found=found), log.info("event", secret=found["authorization"])))
    lines.append(log.info("event %s", found))
    assert "redacted" in lines[0]
    assert not [line for line in lines if PLANTED in line]
