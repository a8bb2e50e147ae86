"""Values in disguise, in pieces: the real masker behind the reader, over every provider's events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.protocols.streaming import Masked
from ext_proc.redaction import Redactor, StreamRedactor, scan
from tests.unit.protocols.streams import chunk, events_of, joined, read, sse, tool

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = yaml.safe_load((Path(__file__).parents[1] / "redaction" / "evasions.yaml").read_text(encoding="utf-8"))
REDACTOR = Redactor(b"k" * 32)


def decoded(case: dict[str, Any]) -> str:
    text: str = case["text"].replace("¦", "")
    return str(json.loads(f'"{text}"')) if case.get("wire") else text


CASES = [
    pytest.param(decoded(case), case["entity"], id=f"{group['group']}-{index}")
    for group in GROUPS
    for index, case in enumerate(group["cases"])
]


def masker(path: str, context: str) -> StreamRedactor:
    return StreamRedactor((), path=path, context=context)


def mask_whole(path: str, context: str, text: str) -> Masked:
    made = REDACTOR.edits(path, text, scan(text, context), (), context)
    parts: list[str] = []
    at = 0
    for edit in made.edits:
        parts += (text[at : edit.start], edit.replacement)
        at = edit.end
    return Masked("".join(parts) + text[at:], made.removals, made.blocked)


def released(protocol: str, events: list[Any]) -> list[Any]:
    out = read(sse(*events), protocol, make=masker, mask_whole=mask_whole)
    assert out.refused is None
    return events_of(out.data)


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def chat(text: str, size: int) -> str:
    made = released(
        "openai.chat", [*(chunk({"content": piece}) for piece in cut(text, size)), chunk({}, finish="stop")]
    )
    return joined(made)["0/content"]


def chat_arguments(text: str, size: int) -> str:
    pieces = cut(json.dumps({"note": text}), size)
    said = joined(released("openai.chat", [*map(tool, pieces), chunk({}, finish="tool_calls")]))["0/tool/0"]
    return str(json.loads(said)["note"])


def messages(text: str, size: int) -> str:
    events = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        for piece in cut(text, size)
    ]
    made = released("anthropic.messages", [*events, {"type": "content_block_stop", "index": 0}])
    return "".join(event["delta"]["text"] for event in made[:-1])


def messages_arguments(text: str, size: int) -> str:
    events = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in cut(json.dumps({"note": text}, ensure_ascii=False), size)
    ]
    made = released("anthropic.messages", [*events, {"type": "content_block_stop", "index": 0}])
    return str(json.loads("".join(event["delta"]["partial_json"] for event in made[:-1]))["note"])


def responses(text: str, size: int) -> str:
    place = {"output_index": 0, "content_index": 0}
    events = [{"type": "response.output_text.delta", **place, "delta": piece} for piece in cut(text, size)]
    done = {"type": "response.output_text.done", **place, "text": text}
    last = {
        "type": "response.completed",
        "response": {"output": [{"content": [{"type": "output_text", "text": text}]}]},
    }
    made = released("openai.responses", [*events, done, last])
    said = "".join(event["delta"] for event in made[:-2])
    assert made[-2]["text"] == said
    assert made[-1]["response"]["output"][0]["content"][0]["text"] == said
    return said


def generic(text: str, size: int) -> str:
    return "".join(event["t"] for event in released("generic", [{"t": piece} for piece in cut(text, size)]))


@pytest.mark.parametrize(("through", "size"), [(chat, 1), (chat, 5), (messages, 3), (responses, 2), (generic, 4)])
@pytest.mark.parametrize(("text", "entity"), CASES)
def test_a_text_in_pieces_is_the_whole_text_masked(
    text: str, entity: str, through: Callable[[str, int], str], size: int
) -> None:
    said = through(text, size)
    assert said == mask_whole("", "", text).text
    assert f"[{entity}" in said


@pytest.mark.parametrize(("through", "size"), [(chat_arguments, 1), (messages_arguments, 4)])
@pytest.mark.parametrize(("text", "entity"), CASES)
def test_arguments_in_pieces(text: str, entity: str, through: Callable[[str, int], str], size: int) -> None:
    said = through(text, size)
    assert said != text
    assert entity not in {span.entity for span in scan(said)}


def test_a_short_value_under_a_telling_key() -> None:
    """What its key says counts, whole and in pieces."""
    (event,) = released("openai.chat", [{"error": {"password": "abc", "n": "abc"}}])
    assert event == {"error": {"password": "[SECRET_PASSWORD]", "n": "abc"}}
    said = joined(released("openai.chat", [tool('{"password":"a'), tool('bc"}'), chunk({}, finish="stop")]))["0/tool/0"]
    assert json.loads(said) == {"password": "[SECRET_PASSWORD]"}
