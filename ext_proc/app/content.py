"""Where the rooms `protocols` (where text is) and `redaction` (what may pass) are joined into `ports.Content`.

Laws here: every channel that `protocols` finds is scanned, and what goes on is re-serialised from what was scanned.
What ends in a record in clear is checked first (`labels`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ext_proc import protocols, redaction
from ext_proc.app.labels import UNLISTED, Labels, finish_reason, public_path
from ext_proc.app.restoring import restorer_of, with_values
from ext_proc.app.streams import Maskers, StreamedAnswer
from ext_proc.errors import BadBody, UnsupportedContent
from ext_proc.model import Coverage, Inspection, Redaction, Refusal, ToolCall, Wanted
from ext_proc.phases.head import VARIABLE
from ext_proc.protocols import streaming
from ext_proc.protocols.reading import media_type
from ext_proc.redaction.tokens import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ext_proc.model import Connection, Edit, Headers, Operation, RedactionRule, Removal, Span
    from ext_proc.ports import AnswerStream
    from ext_proc.protocols import Channel, Document
    from ext_proc.protocols.document import Facts
    from ext_proc.redaction import Detector, Restorer

OPAQUE: Final = "opaque"


class _Scanned:
    """A document with the spans of each of its channels."""

    __slots__ = ("document", "spans", "text_bytes")

    def __init__(self, document: Document, detector: Detector) -> None:
        self.document = document
        channels = document.channels
        self.spans: list[Sequence[Span]] = [*detector.scan_all([(one.text, one.context) for one in channels])]
        for index, channel in enumerate(channels):
            if channel.cuts:
                self.spans[index] = redaction.merged([*self.spans[index], *_in_parts(channel, detector)])
        self.text_bytes = sum(len(one.text) if one.text.isascii() else len(one.text.encode()) for one in channels)

    @property
    def findings(self) -> dict[str, int]:
        return dict(sorted(Counter(span.entity for spans in self.spans for span in spans).items()))


class ContentGate:
    """`ports.Content`.

    Args:
        hash_key: key of the one-way pseudonyms (action ``hash``).
        detector: the rules; the built-in ones where nothing is said.
    """

    def __init__(self, hash_key: bytes, detector: Detector = redaction.BUILT_IN) -> None:
        self._detector = detector
        self._redactor = redaction.Redactor(hash_key, detector)
        self._maskers = Maskers(self._redactor, hash_key, detector)
        self._labels = Labels(detector)
        self._maskers.warm_up()

    def inspect(self, connection: Connection, method: str, path: str, headers: Headers, body: bytes) -> Inspection:
        """See `ports.Content.inspect`."""
        operation = protocols.operation_of(connection, method, path)
        self._refuse_hidden_text(path, headers)
        if operation.protocol == OPAQUE:
            return _opaque(operation)
        document = protocols.read_request(operation.protocol, headers, body)
        scanned = _Scanned(document, self._detector)
        if document.model is not None and self._labels.label(document.model) == UNLISTED:
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

    def wanted(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Wanted:
        """See `ports.Content.wanted`."""
        scanned: _Scanned = inspection.document
        found = (
            value
            for channel, spans in zip(scanned.document.channels, scanned.spans, strict=True)
            if spans
            for value in self._redactor.tokenised(channel.text, spans, rules, channel.context)
        )
        return Wanted(first_of(found), scanned.document.conversation)

    def redact_request(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Redaction:
        """See `ports.Content.redact_request`."""
        scanned: _Scanned = inspection.document
        return self._redacted(scanned, rules, minted=inspection.tokens.minted if inspection.tokens else {})

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
        restorer = restorer_of(inspection)
        made = replace(
            self._redacted(_Scanned(document, self._detector), rules, restorer=restorer),
            tainted_headers=self._labels.tainted(headers),
        )
        return self._described(made, inspection, document.facts, document.tool_calls())

    def open_stream(
        self, inspection: Inspection, rules: Sequence[RedactionRule], headers: Headers, limit_bytes: int
    ) -> AnswerStream:
        """See `ports.Content.open_stream`."""
        offered = inspection.document.document.tool_names
        restorer = restorer_of(inspection)
        reader = streaming.stream_reader(
            inspection.protocol,
            media_type(headers),
            self._maskers.of_pieces(rules, restorer),
            limits=streaming.Limits(total_bytes=limit_bytes),
            mask_whole=self._maskers.of_wholes(rules),
            offered=offered,
            restore=restorer.restored if restorer else None,
        )

        def describe(known: Redaction, learnt: streaming.Learnt) -> Redaction:
            known = replace(known, restored=restorer.counts if restorer else ())
            return self._described(known, inspection, learnt.facts, [call.as_released() for call in learnt.tool_calls])

        return StreamedAnswer(reader, self._labels.tainted(headers), describe)

    def refusal(self, connection: Connection | None, path: str, refusal: Refusal) -> tuple[str, bytes]:
        """See `ports.Content.refusal`."""
        plain = path.partition("?")[0]
        spoken = [o.protocol for o in connection.operations if o.path == plain] if connection else []
        return protocols.refusal_body(spoken[0] if spoken else "generic", refusal)

    def _redacted(
        self,
        scanned: _Scanned,
        rules: Sequence[RedactionRule],
        minted: Mapping[tuple[str, str], str] = redaction.NONE_MINTED,
        restorer: Restorer | None = None,
    ) -> Redaction:
        document = scanned.document
        edits: dict[int, Sequence[Edit]] = {}
        removals: list[Removal] = []
        blocked: set[str] = set()
        for index, (channel, spans) in enumerate(zip(document.channels, scanned.spans, strict=True)):
            if spans:
                path = public_path(channel.path)
                made = self._redactor.edits(path, channel.text, spans, rules, channel.context, minted)
                edits[index] = made.edits
                removals.extend(made.removals)
                blocked.update(made.blocked)
            if restorer is not None:
                edits[index] = with_values(channel.text, edits.get(index, ()), restorer)
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
            restored=restorer.counts if restorer else (),
        )

    def _described(self, made: Redaction, inspection: Inspection, facts: Facts, calls: Iterable[ToolCall]) -> Redaction:
        """With what the answer says of itself, as it may be on record."""
        offered, labels = inspection.document.document.tool_names, self._labels
        return replace(
            made,
            model_served=labels.versioned(facts.model_served, inspection.model),
            model_fingerprint=labels.versioned(facts.model_fingerprint, None),
            usage=facts.usage,
            finish_reasons=tuple(map(finish_reason, facts.finish_reasons)),
            tool_calls=tuple(ToolCall(labels.tool_name(call.name, offered), call.arguments_sha256) for call in calls),
        )

    def _refuse_hidden_text(self, path: str, headers: Headers) -> None:
        """Queries and headers travel unmasked, so personal data or a secret in them is refused."""
        query = path.partition("?")[2]
        said = [value for name, value in headers if name in VARIABLE]
        if not all(map(self._labels.is_clean, [query.encode(), *said] if query else said)):
            raise UnsupportedContent("data_in_query_or_header")


def _in_parts(channel: Channel, detector: Detector) -> list[Span]:
    """Spans of a channel's parts, each looked at by itself."""
    begins = (0, *channel.cuts[:-1])
    parts = [(channel.text[begin:end], channel.context) for begin, end in zip(begins, channel.cuts, strict=True)]
    return [
        replace(span, start=span.start + begin, end=span.end + begin)
        for begin, spans in zip(begins, detector.scan_all(parts), strict=True)
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
