"""Two answers to one request, compared field by field: what `replay` has to say. Pure."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ext_proc.errors import GateError
from ext_proc.protocols import read_request, read_response

if TYPE_CHECKING:
    from ext_proc.protocols import Document

_JSON: Final = (("content-type", b"application/json"),)
_BODY_MAX_BYTES: Final = 256 << 20
_NEW_EACH_TIME: Final = ("id", "created", "system_fingerprint", "request_id", "service_tier", "created_at")
"""Keys that providers fill anew for each answer: that they differ says nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status (None: not recorded), media type and body."""

    status: int | None
    content_type: str
    body: bytes

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that both answers say."""

    name: str
    recorded: Any
    replayed: Any

    @property
    def is_same(self) -> bool:
        """Do they say the same?"""
        return bool(self.recorded == self.replayed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out.

    ``identical``: byte for byte. ``same``: every field that is compared. ``different``: at least one is not.
    ``determinism``: what can be expected at all, in words.
    """

    verdict: Literal["identical", "same", "different"]
    fields: tuple[Field, ...]
    text_diff: tuple[str, ...]
    determinism: str

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        told = asdict(self)
        told["fields"] = [{**asdict(one), "is_same": one.is_same} for one in self.fields]
        return told


def compare(protocol: str, request: bytes, recorded: Answer, replayed: Answer) -> Comparison:
    """Compare two answers to ``request``."""
    old, new = _read(protocol, recorded), _read(protocol, replayed)
    fields = [Field("content_type", _kind(recorded), _kind(replayed))]
    if recorded.status is not None:
        fields.insert(0, Field("status", recorded.status, replayed.status))
    if old is not None and new is not None:
        fields += [Field(name, _said(old)[name], _said(new)[name]) for name in _said(old)]
        texts = _text(old), _text(new)
    else:
        fields.append(Field("readable", old is not None, new is not None))
        texts = recorded.body.decode(errors="replace"), replayed.body.decode(errors="replace")
    diff = tuple(
        difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), "recorded", "replayed", lineterm="", n=2)
    )
    is_same = all(one.is_same for one in fields) and texts[0] == texts[1]
    is_identical = is_same and recorded.body == replayed.body
    return Comparison(
        verdict="identical" if is_identical else "same" if is_same else "different",
        fields=tuple(fields),
        text_diff=diff,
        determinism=determinism(protocol, request),
    )


def determinism(protocol: str, request: bytes) -> str:
    """What a second answer may be expected to say, in words."""
    try:
        told = json.loads(request)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return "The request cannot be read, so nothing can be said about what a second answer should be."
    temperature, seed = told.get("temperature"), told.get("seed")
    if protocol.endswith("embeddings"):
        return "Embeddings of one model version should agree up to rounding; these are compared exactly."
    steady = ["temperature 0"] if temperature == 0 else []
    steady += [f"seed {seed}"] if seed is not None else []
    if steady:
        return (
            f"The request asks for {' and '.join(steady)}: one version of one model on the same hardware should mostly "
            "answer alike, but no provider promises it: a difference alone does not show that the record is wrong."
        )
    how = f"temperature {temperature}" if temperature is not None else "the provider's default temperature"
    return f"The request has {how} and no seed: answers are drawn anew each time, so a difference is expected."


def _said(document: Document) -> dict[str, Any]:
    facts = document.facts
    return {
        "model": facts.model_served,
        "finish_reasons": list(facts.finish_reasons),
        "input_tokens": facts.usage.input_tokens,
        "output_tokens": facts.usage.output_tokens,
        "tool_calls": [{"name": one.name, "arguments_sha256": one.arguments_sha256} for one in document.tool_calls()],
    }


def _text(document: Document) -> str:
    """All text of the answer but what is new each time; a stream's fragments are joined already."""
    lines: list[str] = []
    for channel in document.channels:
        is_noise = channel.kind in ("key", "number") or channel.context in _NEW_EACH_TIME
        if not is_noise and not channel.path.startswith("/events/"):
            lines.append(f"{channel.path}: {channel.text}" if "\n" not in channel.text else channel.path)
            if "\n" in channel.text:
                lines += channel.text.splitlines()
    return "\n".join(lines)


def _read(protocol: str, answer: Answer) -> Document | None:
    try:
        nothing = read_request("generic", _JSON, b"{}")
        headers = (("content-type", answer.content_type.encode("latin-1", "replace")),)
        return read_response(protocol, nothing, answer.status or 200, headers, answer.body, _BODY_MAX_BYTES)
    except GateError:
        return None


def _kind(answer: Answer) -> str:
    return answer.content_type.partition(";")[0].strip().lower()
