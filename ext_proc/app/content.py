"""Where the rooms `protocols` (where text is) and `redaction` (what may pass) are joined into `ports.Content`.

Laws here: every channel that `protocols` finds is scanned, and what goes on is re-serialised from what was scanned.
Labels that end in a record in clear (model names, tool names, finish reasons) are checked first: what does not look
like one, or in which a rule hits, is recorded as ``unlisted``, and so is what a label of its kind cannot be: a finish
reason that no API has, a tool that the caller never offered.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from ext_proc import protocols, redaction
from ext_proc.errors import BadBody, UnsupportedContent
from ext_proc.model import Coverage, Inspection, Redaction, Refusal, ToolCall
from ext_proc.phases.head import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import Connection, Edit, Headers, Operation, RedactionRule, Removal, Span
    from ext_proc.protocols import Channel, Document

OPAQUE: Final = "opaque"
UNLISTED: Final = "unlisted"

# Of OpenAI's and Anthropic's API references, and of what serves models behind them.
FINISH_REASONS: Final = frozenset(
    {
        "abort", "compaction", "content_filter", "end_turn", "error", "function_call", "length", "max_tokens",
        "model_context_window_exceeded", "pause_turn", "refusal", "stop", "stop_sequence", "tool_calls", "tool_use",
    }
)  # fmt: skip
_CACHED_MAX_BYTES: Final = 256
"""Longer values are not kept: 4,096 of them would be a caller's to choose."""
# What an upstream calls its model and its build: short, and with a digit (gpt-4o-2024-08-06, fp_44709d6fcb).
_VERSIONED: Final = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}")
_TOOL_NAME_MAX: Final = 64
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
# Keys that protocols use: anything else in a channel's path is caller's text and is recorded as ``*``.
_PATH_PART: Final = re.compile(r"[a-z_]{1,32}|[0-9]{1,6}|\+?[a-z]{1,16}")


class _Scanned:
    """A document with the spans of each of its channels."""

    __slots__ = ("document", "spans", "text_bytes")

    def __init__(self, document: Document) -> None:
        self.document = document
        channels = document.channels
        self.spans: list[Sequence[Span]] = [*redaction.scan_all([(one.text, one.context) for one in channels])]
        for index, channel in enumerate(channels):
            if channel.cuts:
                self.spans[index] = redaction.merged([*self.spans[index], *_in_parts(channel)])
        self.text_bytes = sum(len(one.text) if one.text.isascii() else len(one.text.encode()) for one in channels)

    @property
    def findings(self) -> dict[str, int]:
        return dict(sorted(Counter(span.entity for spans in self.spans for span in spans).items()))


class ContentGate:
    """`ports.Content`.

    Args:
        hash_key: key of the one-way pseudonyms (action ``hash``).
    """

    def __init__(self, hash_key: bytes) -> None:
        self._redactor = redaction.Redactor(hash_key)

    def inspect(self, connection: Connection, method: str, path: str, headers: Headers, body: bytes) -> Inspection:
        """See `ports.Content.inspect`."""
        operation = protocols.operation_of(connection, method, path)
        _refuse_hidden_text(path, headers)
        if operation.protocol == OPAQUE:
            return _opaque(operation)
        document = protocols.read_request(operation.protocol, headers, body)
        scanned = _Scanned(document)
        if document.model is not None and _label(document.model) == UNLISTED:
            raise BadBody("model_name")
        return Inspection(
            protocol=operation.protocol,
            operation=document.operation,
            model=document.model,
            is_stream=document.is_stream,
            parameters=document.parameters,
            findings=scanned.findings,
            text_bytes=scanned.text_bytes,
            document=scanned,
        )

    def redact_request(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Redaction:
        """See `ports.Content.redact_request`."""
        scanned: _Scanned = inspection.document
        return self._redacted(scanned, rules)

    def redact_response(
        self,
        inspection: Inspection,
        rules: Sequence[RedactionRule],
        status: int,
        headers: Headers,
        body: bytes,
        limit_bytes: int,
    ) -> Redaction:
        """See `ports.Content.redact_response`."""
        request: _Scanned = inspection.document
        document = protocols.read_response(inspection.protocol, request.document, status, headers, body, limit_bytes)
        made = self._redacted(_Scanned(document), rules)
        offered = request.document.tool_names
        return replace(
            made,
            tainted_headers=_tainted(headers),
            model_served=_versioned(document.facts.model_served, inspection.model),
            model_fingerprint=_versioned(document.facts.model_fingerprint, None),
            usage=document.facts.usage,
            finish_reasons=tuple(r if r in FINISH_REASONS else UNLISTED for r in document.facts.finish_reasons),
            tool_calls=tuple(
                ToolCall(_tool_name(call.name, offered), call.arguments_sha256) for call in document.tool_calls()
            ),
        )

    def refusal(self, connection: Connection | None, path: str, refusal: Refusal) -> tuple[str, bytes]:
        """See `ports.Content.refusal`."""
        plain = path.partition("?")[0]
        spoken = [o.protocol for o in connection.operations if o.path == plain] if connection else []
        return protocols.refusal_body(spoken[0] if spoken else "generic", refusal)

    def _redacted(self, scanned: _Scanned, rules: Sequence[RedactionRule]) -> Redaction:
        document = scanned.document
        edits: dict[int, Sequence[Edit]] = {}
        removals: list[Removal] = []
        blocked: set[str] = set()
        for index, (channel, spans) in enumerate(zip(document.channels, scanned.spans, strict=True)):
            if spans:
                path = _public_path(channel.path)
                made = self._redactor.edits(path, channel.text, spans, rules, channel.context)
                edits[index] = made.edits
                removals.extend(made.removals)
                blocked.update(made.blocked)
        body = document.rewritten(edits)
        return Redaction(
            body=body,
            decoded=document.decoded,
            removals=tuple(removals),
            coverage=Coverage(
                channel_count=len(document.channels),
                scanned_bytes=scanned.text_bytes,
                structure_bytes=document.structure_bytes,
                forwarded_bytes=len(body),
            ),
            blocked=tuple(sorted(blocked)),
        )


def _in_parts(channel: Channel) -> list[Span]:
    """Spans of a channel's parts, each looked at by itself."""
    begins = (0, *channel.cuts[:-1])
    parts = [(channel.text[begin:end], channel.context) for begin, end in zip(begins, channel.cuts, strict=True)]
    return [
        replace(span, start=span.start + begin, end=span.end + begin)
        for begin, spans in zip(begins, redaction.scan_all(parts), strict=True)
        for span in spans
    ]


def _opaque(operation: Operation) -> Inspection:
    return Inspection(
        protocol=OPAQUE,
        operation=operation.protocol,
        model=None,
        is_stream=True,
        parameters={},
        findings={},
        text_bytes=0,
    )


def _refuse_hidden_text(path: str, headers: Headers) -> None:
    """Queries and headers travel unmasked, so personal data or a secret in them is refused."""
    query = path.partition("?")[2]
    if (query and not _is_clean(query.encode())) or not all(_is_clean(v) for name, v in headers if name in VARIABLE):
        raise UnsupportedContent("data_in_query_or_header")


def _tainted(headers: Headers) -> tuple[str, ...]:
    """Names of the fields that hold what a body would be masked for; mostly one look at all of them says none."""
    said = [(name, value) for name, value in headers if not name.startswith(":")]
    if not redaction.scan(unquote_plus(b"\n".join(value for _, value in said).decode("latin-1"))):
        return ()
    return tuple(sorted({name for name, value in said if not _is_clean(value)}))


def _is_clean(said: bytes) -> bool:
    """Nothing to mask in it."""
    return _is_clean_kept(said) if len(said) <= _CACHED_MAX_BYTES else _is_clean_looked(said)


def _is_clean_looked(said: bytes) -> bool:
    return not redaction.scan(unquote_plus(said.decode("latin-1")))


_is_clean_kept = lru_cache(maxsize=4096)(_is_clean_looked)


@lru_cache(maxsize=4096)
def _is_clean_label(text: str) -> bool:
    return not redaction.scan(text)


def _label(text: str) -> str:
    """The text if it looks like a label; the form first: it bounds what is kept."""
    return text if _LABEL.fullmatch(text) and _is_clean_label(text) else UNLISTED


def _versioned(said: str | None, requested: str | None) -> str | None:
    """What an upstream says of itself: what it was asked for, or what looks like a version."""
    if said is None or said == requested:
        return said
    return _label(said) if _VERSIONED.fullmatch(said) else UNLISTED


def _tool_name(name: str, offered: frozenset[str]) -> str:
    return _label(name) if name in offered and len(name) <= _TOOL_NAME_MAX else UNLISTED


def _public_path(path: str) -> str:
    return "/".join(part if not part or _PATH_PART.fullmatch(part) else "*" for part in path.split("/"))
