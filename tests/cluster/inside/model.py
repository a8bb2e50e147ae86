"""A model's service that says who asked it what: ``model.py PORT KEY``. Chat as OpenAI has it, whole or streamed.

The answer repeats the last message. A message that begins with ``slow N`` takes N seconds (streamed: an event each
tenth of one). Whoever does not show the key gets 401: that the gate puts it in is part of what is tried.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

PIECE_SECONDS = 0.1


async def chat(request: web.Request) -> web.StreamResponse:
    """One answer."""
    if request.headers.get("authorization") != f"Bearer {sys.argv[2]}":
        return web.json_response({"error": {"message": "who are you?"}}, status=401)
    asked = await request.json()
    text = str(asked["messages"][-1]["content"])
    words = text.split()
    seconds = float(words[1]) if words[:1] == ["slow"] else 0.0
    if asked.get("stream"):
        return await _streamed(request, text, seconds)
    await asyncio.sleep(seconds)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return web.json_response(_of("chat.completion", choice) | {"usage": {"prompt_tokens": 1, "completion_tokens": 1}})


async def _streamed(request: web.Request, text: str, seconds: float) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for at in range(max(1, int(seconds / PIECE_SECONDS))):
        await _send(answer, {"index": 0, "delta": {"content": text if at == 0 else f" {at}"}, "finish_reason": None})
        await asyncio.sleep(PIECE_SECONDS if seconds else 0)
    await _send(answer, {"index": 0, "delta": {}, "finish_reason": "stop"})
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def _send(answer: web.StreamResponse, choice: dict[str, Any]) -> None:
    await answer.write(f"data: {json.dumps(_of('chat.completion.chunk', choice))}\n\n".encode())


def _of(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "demo", "choices": [choice]}


async def health(_: web.Request) -> web.Response:
    """It answers."""
    return web.json_response({"status": "ok"})


app = web.Application()
app.router.add_post("/v1/chat/completions", chat)
app.router.add_get("/health", health)
web.run_app(app, host="0.0.0.0", port=int(sys.argv[1]), print=None, access_log=None)
