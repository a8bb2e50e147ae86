"""What is no HTTP: answered, one line of ours in the log, and never a traceback."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from ext_proc import telemetry
from ext_proc.console.garbage import ServerLog

if TYPE_CHECKING:
    from tests.fakes.console_desk import Desk

_CHUNKED = b"POST /logout HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
GARBAGE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no method": b"GARBAGE\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "header": b"GET /me HTTP/1.1\r\nHost: x\r\nSecret-Word here\r\n\r\n",
    "length": b"GET /me HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "chunk": _CHUNKED + b"zz-secret-word\r\n\r\n",
    "later chunk": _CHUNKED + b"4\r\na=b&\r\nzz-secret-word\r\n\r\n",
    "long": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "address": b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "markup": b"GET /me HTTP/1.1\r\n<script>: 1\r\n\r\n",
}


async def _sent(desk: Desk, bytes_sent: bytes) -> bytes:
    host, _, port = desk.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(bytes_sent)
    try:
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", list(GARBAGE))
async def test_it_is_one_line_and_no_traceback(
    desk: Desk, name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.set_up_logging()

    assert await _sent(desk, GARBAGE[name]) in {b"HTTP/1.0 400 Bad Request\r\n", b"HTTP/1.1 400 Bad Request\r\n"}

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["event"], line["level"]) for line in lines} == {("console_not_http", "info")}
    assert all(re.fullmatch("[A-Za-z]+", line["kind"]) for line in lines), "nothing of what was sent"
    assert caplog.records == []
    assert (await desk.browser().get("/health")).status == 200


async def test_packed_body_is_no_form(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.set_up_logging()
    packed = {"content-type": "application/x-www-form-urlencoded", "content-encoding": "gzip"}
    answer = await desk.browser()._ask("POST", "/logout", {"data": b"\x1f\x8b\xff", "headers": packed})

    assert answer.status in {400, 401} and capsys.readouterr().err == ""


def test_what_is_not_theirs_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.set_up_logging()
    try:
        raise KeyError("ours")
    except KeyError as error:
        ServerLog().exception("Unhandled exception", exc_info=error)
    [line] = capsys.readouterr().err.splitlines()

    assert (json.loads(line)["event"], json.loads(line)["level"]) == ("console_bug", "error")
    assert "Traceback" in json.loads(line)["exception"]
