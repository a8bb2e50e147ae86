"""Names through real Envoy, with a real recogniser: what the model sees, what the caller gets, what is on record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from ext_proc.demo.stack import Stack, StackOptions
from tests.e2e.conftest import CHAT, Gateway
from tests.e2e.harness import LoopThread
from tests.e2e.test_streaming import ended, said, split, sse
from tests.e2e.upstream import Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.upstream import Answer

pytest.importorskip("spacy", reason="the optional extra `ner` is not installed")

NAME: Final = "Barack Obama"
TEXT: Final = f"My friend {NAME} lives there. He wrote to ada@example.net yesterday."
STREAMED: Final = "/v1/streamed"


def answers() -> dict[str, Answer]:
    body = {"model": "demo", "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}}]}
    pieces = [said(0, content=piece) for piece in split(TEXT, 5)]
    return {CHAT: (plain(json.dumps(body).encode()),), STREAMED: sse(*pieces, ended(0))}


@pytest.fixture(scope="module")
def naming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, upstream, loop = tmp_path_factory.mktemp("names"), Upstream(answers()), LoopThread()
    try:
        loop.run(upstream.start())
        redaction = {"hash_key_file": str(folder / "keys" / "hash-key"), "ner": {"adapter": "spacy"}}
        connection: dict[str, Any] = {
            "ner": {"streams": "sentence"},
            "operations": [{"path": path, "protocol": "openai.chat"} for path in (CHAT, STREAMED)],
        }
        options = StackOptions(
            upstream=f"http://127.0.0.1:{upstream.port}",
            workers=1,
            changes={"redaction": redaction},
            connection=connection,
        )
        stack = Stack(folder, options)
        stack.start()
        try:
            yield Gateway(stack, upstream, stack.token("ada", ["analysts"]))
        finally:
            stack.stop()
    finally:
        loop.run(upstream.stop())
        loop.stop()


def test_a_name_is_masked_on_its_way_to_the_model_and_back(naming: Gateway) -> None:
    reply = naming.chat(f"Tell me about {NAME}, please.")
    assert reply.status == 200
    sent = json.loads(naming.upstream.received[-1].body)["messages"][0]["content"]
    assert NAME not in sent and "[PERSON]" in sent
    content = json.loads(reply.body)["choices"][0]["message"]["content"]
    assert NAME not in content and "[PERSON]" in content and "[EMAIL]" in content
    redaction = naming.outcome(reply)["response_redaction"]
    assert {one["entity"] for one in redaction["removed"]} == {"EMAIL", "PERSON"}
    assert (redaction["ner"]["mode"], redaction["ner"]["status"]) == ("whole", "complete")


def test_a_name_in_a_stream_is_held_to_the_end_of_its_sentence(naming: Gateway) -> None:
    reply = naming.chat("hello", path=STREAMED, stream=True)
    assert reply.status == 200
    events = [line[6:] for line in reply.body.decode().split("\n") if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for one in events for choice in json.loads(one)["choices"])
    assert NAME not in text and text.startswith("My friend [PERSON] lives there.") and "[EMAIL]" in text
    redaction = naming.outcome(reply)["response_redaction"]
    assert (redaction["ner"]["mode"], redaction["ner"]["status"]) == ("sentence", "complete")
