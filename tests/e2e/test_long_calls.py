"""Calls that are long on a gateway where nothing else happens: Envoy itself must outlive them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from tests.e2e.conftest import CHAT, operations, running_gateway
from tests.e2e.upstream import Pause, Upstream, chunk, head, plain

if TYPE_CHECKING:
    from pathlib import Path

LONGER_SECONDS: Final = 53
"""Than Envoy by itself keeps a client of gRPC that nobody asks for (50 s)."""
STREAM: Final = "/v1/stream"
ANSWER: Final = json.dumps({"model": "demo-1", "choices": [{"message": {"content": "late"}}]}).encode()
EVENT: Final = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "late "}}]}


def test_envoy_outlives_long_calls(tmp_path: Path):
    """It ends the gate's call in order, through a client that must still be there: it crashed where it was not."""
    event = chunk(f"data: {json.dumps(EVENT)}\n\n".encode())
    upstream = Upstream(
        {
            CHAT: (Pause(LONGER_SECONDS), plain(ANSWER)),
            STREAM: (
                head("text/event-stream", "transfer-encoding: chunked\r\n"),
                event,
                Pause(LONGER_SECONDS),
                event,
                chunk(b"data: [DONE]\n\n") + chunk(b""),
            ),
        }
    )
    with running_gateway(tmp_path, upstream, operations=operations(CHAT, STREAM)) as gateway:
        envoy = gateway.stack.pids()["envoy"]
        with ThreadPoolExecutor(4) as callers:
            whole = [callers.submit(gateway.chat) for _ in range(2)]
            streams = [callers.submit(gateway.chat, path=STREAM, stream=True) for _ in range(2)]
            assert [one.result().status for one in whole] == [200, 200]
            assert all(b"[DONE]" in one.result().body for one in streams)
        upstream.answers[CHAT] = (plain(ANSWER),)
        assert gateway.chat().status == 200, "Envoy serves on"
        assert gateway.stack.pids()["envoy"] == envoy
