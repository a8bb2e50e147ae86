"""What is counted as not being text: everything that is not known to be."""

from __future__ import annotations

from typing import Any

import pytest

from ext_proc.protocols.parts import count_media

URL = "https://host.example/x.png"
PACKED = "iVBORw0KGgo" * 120
PICTURE = {"type": "image_url", "image_url": {"url": URL}}
TEXT = {"type": "text", "text": "x"}
USED = {"type": "tool_use", "id": "t", "name": "f", "input": {"type": "image", "image_url": {"url": "x"}}}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


TEXTS: dict[str, Any] = {
    "text": said("x"),
    "nothing": said(None),
    "text parts": said([TEXT, {"type": "refusal", "refusal": "no"}, {"type": "input_text", "text": "x"}]),
    "cached": said([{**TEXT, "cache_control": {"type": "ephemeral"}, "citations": [{"type": "char_location"}]}]),
    "tools": said([USED, {"type": "tool_result", "tool_use_id": "t", "is_error": False, "content": [TEXT]}]),
    "tool result as text": said([{"type": "tool_result", "tool_use_id": "t", "content": "x"}]),
    "thinking": said([{"type": "thinking", "thinking": "x", "signature": PACKED}, {"type": "redacted_thinking", "data": PACKED}]),
    "search result": said([{"type": "search_result", "source": URL, "title": "x", "content": [TEXT], "citations": {"enabled": True}}]),
    "system": {"system": [TEXT], "messages": []},
    "prompt": {"prompt": ["x", "y"]},
    "tokens": {"prompt": [[1, 2], [3]]},
    "input": {"input": ["x"], "encoding_format": "base64"},
    "prediction": {"prediction": {"type": "content", "content": [TEXT]}},
    "an answer of the official client, sent back": said("x", refusal=None, annotations=[], audio=None, function_call=None, tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]),
    "a citation, sent back": said("x", annotations=[{"type": "url_citation", "url_citation": {"url": URL}}]),
    "reasoning": said("x", reasoning_content="x", reasoning_details=[{"type": "reasoning.text", "text": "x"}]),
    "schemas": {"tools": [{"type": "function", "function": {"parameters": {"type": "object", "properties": {"image": {"type": "string"}}}}}], "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
    "settings": {"thinking": {"type": "enabled"}, "tool_choice": {"type": "auto"}, "metadata": {"image": "x"}, "grammar": "x" * 5000},
    "a field nobody knows": {"whatever": {"type": "object", "deep": [[{"er": "x"}]], "flag": True, "n": 5}},
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str) -> None:
    assert count_media(TEXTS[name]) == 0


MEDIA: dict[str, Any] = {
    **{f"type {kind}": said([{"type": kind, kind: {"url": URL}}]) for kind in ("image_url", "input_audio", "file", "video_url", "audio_url", "input_image", "input_video", "image", "image_embeds", "image_url ", " text", "Text", "container_upload", "document", "Image", "")},
    "no type": said([{"image_url": {"url": URL}}]),
    "type in capitals": said([{"Type": "image_url", "image_url": {"url": URL}}]),
    "both types": said([{**TEXT, "Type": "image_url"}]),
    "type that is no text": said([{"type": ["text"], "text": "x"}, {"type": {"a": 1}}, {"type": None}]),
    "beside a text": said([{**TEXT, "image_url": {"url": URL}}]),
    "beside a text, as text": said([{**TEXT, "image_url": URL}]),
    "inside a text": said([{"type": "text", "text": PICTURE}]),
    "content is an object": said(PICTURE),
    "content is an object without a type": said({"url": URL}),
    "a list in the list": said([[[PICTURE]]]),
    "in a tool result": said([{"type": "tool_result", "tool_use_id": "t", "content": [PICTURE]}]),
    "in a tool result, an object": said([{"type": "tool_result", "tool_use_id": "t", "content": PICTURE}]),
    "two levels deep": said([{"type": "tool_result", "content": [{"type": "tool_result", "content": [PICTURE]}]}]),
    "in a search result": said([{"type": "search_result", "content": [PICTURE]}]),
    "in thinking": said([{"type": "thinking", "thinking": [PICTURE]}]),
    "system": {"system": [PICTURE], "messages": []},
    "system is an object": {"system": PICTURE},
    "input": {"input": [PICTURE]},
    "input of embeddings": {"input": [{"content": [PICTURE]}]},
    "input is an object": {"input": {"image": PACKED}},
    "prompt is an object": {"prompt": {"prompt_string": "x", "multimodal_data": [PACKED]}},
    "messages is an object": {"messages": {"0": {"role": "user", "content": "x"}}},
    "a part for a message": {"messages": [PICTURE]},
    "a list for a message": {"messages": [[PICTURE]]},
    "content in capitals": {"messages": [{"role": "user", "Content": [PICTURE]}]},
    "images of a message": said("x", images=[PACKED]),
    "image of a message": said("x", image=URL),
    "audio of a message": said("x", audio={"id": "a"}),
    "picture of a message, as text": said("x", extra=f"data:image/png;base64,{PACKED}"),
    "tool call of another kind": said("x", tool_calls=[PICTURE]),
    "image_data": {"prompt": "x", "image_data": [{"data": "x", "id": 1}]},
    "images": {"prompt": "x", "Images": ["x"]},
    "sound wanted": {"audio": {"voice": "x"}},
    "packed somewhere": {"prompt": "x", "whatever": [{"data": PACKED}]},
    "data URL somewhere": {"whatever": {"deep": ["data:image/png;base64,AAAA"]}},
    "typed somewhere": {"whatever": [{"Type ": "image_url"}]},
    "contents": {"contents": [{"parts": [{"inline_data": {"data": "x"}}]}]},
    "a list for a body": [{"type": "image_url"}],
}  # fmt: skip


@pytest.mark.parametrize("name", MEDIA)
def test_media(name: str) -> None:
    assert count_media(MEDIA[name]) > 0


def test_each_counts() -> None:
    assert count_media(said([PICTURE, TEXT, PICTURE, {"type": "tool_result", "content": [PICTURE, TEXT]}])) == 3
