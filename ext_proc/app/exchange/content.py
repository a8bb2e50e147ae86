"""Where the rooms `protocols` (where text is) and `redaction` (what may pass) are joined into `ports.Content`.

Laws here: every channel that `protocols` finds is scanned, and what goes on is re-serialised from what was scanned.
What ends in a record in clear is checked first (`labels`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ext_proc import protocols, redaction
from ext_proc.app.exchange.fields import FieldGate, entity_rules, fielded
from ext_proc.app.exchange.labels import UNLISTED, Labels, finish_reason, public_path
from ext_proc.app.exchange.names import RULE_PREFIX, Names, StreamNames
from ext_proc.app.exchange.restoring import restorer_of, restoring, with_values
from ext_proc.app.exchange.streams import Maskers, StreamedAnswer
from ext_proc.errors import BadBody, RecogniserUnavailable, UnsupportedContent, UpstreamError
from ext_proc.model import Coverage, Inspection, Redaction, Refusal, Wanted
from ext_proc.phases.head import VARIABLE
from ext_proc.protocols import streaming
from ext_proc.protocols.frame_names import is_frame_name
from ext_proc.protocols.reading import media_type
from ext_proc.redaction.tokens import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ext_proc.model import (
        Connection,
        Edit,
        FieldRule,
        Headers,
        Operation,
        Recognition,
        RedactionRule,
        Span,
        ToolCall,
    )
    from ext_proc.ner import Recogniser
    from ext_proc.ports import AnswerStream
    from ext_proc.protocols import Document
    from ext_proc.protocols.document import Facts
    from ext_proc.redaction import Detector, Restorer

OPAQUE: Final = "opaque"


class _Scanned:
    """A document with the spans of each of its channels, names among them where the connection says so.

    A request's also knows its connection's field rules.
    """

    __slots__ = ("document", "fielded", "recognised", "request_fields", "response_fields", "spans", "text_bytes", "use")

    def __init__(
        self,
        document: Document,
        detector: Detector,
        names: Names | StreamNames,
        use: Recognition | None = None,
        offered: frozenset[str] = frozenset(),
        connection: Connection | None = None,
    ) -> None:
        self.document = document
        self.use = use
        self.fielded: tuple[protocols.Fields, _Scanned] | None = None  # what field rules made of it, until it is used
        self.request_fields: tuple[FieldRule, ...] = connection.request_fields if connection else ()
        self.response_fields: tuple[FieldRule, ...] = connection.response_fields if connection else ()
        channels = document.channels
        self.spans: list[Sequence[Span]] = [*detector.scan_all([(one.text, one.context) for one in channels])]
        for index, channel in enumerate(channels):
            if channel.cuts:
                parts = detector.scan_parts(channel.text, channel.context, channel.cuts)
                self.spans[index] = redaction.merged([*self.spans[index], *parts])
        self.spans, self.recognised = names.added(document, self.spans, use, offered)
        self.text_bytes = sum(len(one.text) if one.text.isascii() else len(one.text.encode()) for one in channels)

    @property
    def findings(self) -> dict[str, int]:
        return dict(sorted(Counter(span.entity for spans in self.spans for span in spans).items()))


class ContentGate:
    """`ports.Content`.

    Args:
        hash_key: key of the one-way pseudonyms (action ``hash``).
        detector: the rules; the built-in ones where nothing is said.
        recogniser: of names, for connections that ask for it.
    """

    def __init__(
        self, hash_key: bytes, detector: Detector = redaction.BUILT_IN, recogniser: Recogniser | None = None
    ) -> None:
        self._detector = detector
        self._redactor = redaction.Redactor(hash_key, detector)
        self._maskers = Maskers(self._redactor, hash_key, detector)
        self._names = Names(recogniser, self._redactor)
        self._fields = FieldGate(hash_key)
        self._labels = Labels(detector)
        redaction.warm_up(detector)

    def inspect(self, connection: Connection, method: str, path: str, headers: Headers, body: bytes) -> Inspection:
        """See `ports.Content.inspect`."""
        operation = protocols.operation_of(connection, method, path)
        self._refuse_hidden_text(path, headers)
        if operation.protocol == OPAQUE:
            return _opaque(operation)
        document = protocols.read_request(operation.protocol, headers, body)
        scanned = _Scanned(document, self._detector, self._names, connection.recognition, connection=connection)
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
            tool_results=document.tool_results,
            waits=scanned.use is not None,
        )

    def wanted(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Wanted:
        """See `ports.Content.wanted`."""
        scanned = self._fielded(inspection, rules)
        named = scanned.document.field_edits()
        rules = entity_rules(rules)
        found = (
            value
            for index, (channel, spans) in enumerate(zip(scanned.document.channels, scanned.spans, strict=True))
            if spans and index not in named
            for value in self._redactor.tokenised(channel.text, spans, rules, channel.context)
        )
        is_blocked = bool(fielded(scanned.document)[1])
        return Wanted(() if is_blocked else first_of(found), inspection.document.document.conversation)

    def redact_request(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Redaction:
        """See `ports.Content.redact_request`."""
        scanned = self._fielded(inspection, rules)
        inspection.document.fielded = None  # its tree is written to
        minted = inspection.tokens.minted if inspection.tokens else redaction.NONE_MINTED
        return self._redacted(scanned, entity_rules(rules), minted)

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
        fields = self._fields.of(request.response_fields, rules)
        if fields is not None and media_type(headers) in streaming.STREAMED:
            return self._whole_stream(inspection, rules, headers, body, limit_bytes)
        document = protocols.read_response(
            inspection.protocol, request.document, status, headers, body, limit_bytes, fields
        )
        scanned = _Scanned(document, self._detector, self._names, request.use, request.document.tool_names)
        known = self._redacted(scanned, entity_rules(rules), restorer=restorer_of(inspection))
        made = replace(known, tainted_headers=self._labels.tainted(headers))
        return self._described(made, inspection, document.facts, document.tool_calls())

    def open_stream(
        self, inspection: Inspection, rules: Sequence[RedactionRule], headers: Headers, limit_bytes: int
    ) -> AnswerStream:
        """See `ports.Content.open_stream`."""
        return self._opened(inspection, rules, headers, limit_bytes)

    def _opened(
        self,
        inspection: Inspection,
        rules: Sequence[RedactionRule],
        headers: Headers,
        limit_bytes: int,
        *,
        is_whole: bool = False,
    ) -> StreamedAnswer:
        fields = self._fields.of(inspection.document.response_fields, rules)
        rules = entity_rules(rules)
        offered = inspection.document.document.tool_names
        restorer = restorer_of(inspection)
        names = self._names.of_stream(inspection.document.use, rules, is_whole=is_whole)
        reader = streaming.stream_reader(
            inspection.protocol,
            media_type(headers),
            restoring(names.of_pieces(self._maskers.of_pieces(rules)), restorer),
            limits=streaming.Limits(total_bytes=limit_bytes),
            mask_whole=names.of_wholes(self._maskers.of_wholes(rules)),
            offered=offered,
            fields=None if fields is None else (fields, self._mask_tree(fields, rules, names, restorer)),
            restore=restorer.restored if restorer else None,
        )

        def describe(known: Redaction, learnt: streaming.Learnt) -> Redaction:
            known = replace(known, recognised=names.told(), restored=restorer.counts if restorer else ())
            return self._described(known, inspection, learnt.facts, learnt.tool_calls)

        return StreamedAnswer(reader, self._labels.tainted(headers), describe, waits=names.is_on)

    def refusal(self, connection: Connection | None, path: str, refusal: Refusal) -> tuple[str, bytes]:
        """See `ports.Content.refusal`."""
        plain = path.partition("?")[0]
        spoken = [o.protocol for o in connection.operations if o.path == plain] if connection else []
        return protocols.refusal_body(spoken[0] if spoken else "generic", refusal)

    def _fielded(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> _Scanned:
        """A request as field rules leave it: only that is masked, and only what is in it gets a token."""
        scanned: _Scanned = inspection.document
        fields = self._fields.of(scanned.request_fields, rules)
        if fields is None:
            return scanned
        if scanned.fielded is not None and scanned.fielded[0] is fields:
            return scanned.fielded[1]
        document = protocols.with_fields(scanned.document, fields)
        if document is scanned.document:
            return scanned
        known = document.tool_names | {inspection.model or ""}
        made = _Scanned(document, self._detector, self._names, scanned.use, known)
        _refuse_lost_names(scanned, made)
        scanned.fielded = fields, made
        return made

    def _whole_stream(
        self,
        inspection: Inspection,
        rules: Sequence[RedactionRule],
        headers: Headers,
        body: bytes,
        limit_bytes: int,
    ) -> Redaction:
        """A stream that came whole: field rules are about texts that are in pieces, so it is read as it would come."""
        plain = protocols.undone(headers, body, limit_bytes)
        answer = self._opened(inspection, rules, headers, len(plain), is_whole=True)
        piece = answer.feed(plain, is_last=True)
        if piece.unreadable is not None:
            raise UpstreamError(piece.unreadable)
        return replace(answer.told(), body=piece.body, decoded=plain, blocked=piece.blocked)

    def _mask_tree(
        self,
        fields: protocols.Fields,
        rules: Sequence[RedactionRule],
        names: StreamNames,
        restorer: Restorer | None,
    ) -> streaming.MaskTree:
        def mask(root: list[Any], state: Any, place: tuple[str | int, ...], included: frozenset[str]) -> Redaction:
            document = protocols.read_tree(fields, root, state, place, included)
            return self._redacted(_Scanned(document, self._detector, names), rules, restorer=restorer)

        return mask

    def _redacted(
        self,
        scanned: _Scanned,
        rules: Sequence[RedactionRule],
        minted: Mapping[tuple[str, str], str] = redaction.NONE_MINTED,
        restorer: Restorer | None = None,
    ) -> Redaction:
        document = scanned.document
        edits: dict[int, Sequence[Edit]] = {}
        removals, blocked = fielded(document)
        named = document.field_edits()
        edits.update(named)
        for index, (channel, spans) in enumerate(zip(document.channels, scanned.spans, strict=True)):
            if index in named:
                continue
            if spans:
                path = public_path(channel.path)
                made = self._redactor.edits(path, channel.text, spans, rules, channel.context, minted, channel.cuts)
                edits[index] = made.edits
                removals.extend(made.removals)
                blocked.update(made.blocked)
            if restorer is not None and not is_frame_name(channel.path):
                edits[index] = with_values(channel.text, edits.get(index, ()), restorer)
        body = document.rewritten(edits)
        return Redaction(
            body=body,
            decoded=document.decoded,
            removals=tuple(self._names.versioned(removals)),
            recognised=scanned.recognised,
            coverage=Coverage(
                channel_count=len(document.channels),
                scanned_bytes=scanned.text_bytes,
                structure_bytes=document.structure_bytes,
                forwarded_bytes=len(body),
                excluded_bytes=document.fielded.excluded_bytes if document.fielded else 0,
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
            tool_calls=tuple(
                replace(call, name=labels.tool_name(call.name, offered), channel=public_path(call.channel))
                for call in calls
            ),
        )

    def _refuse_hidden_text(self, path: str, headers: Headers) -> None:
        """Queries and headers travel unmasked, so personal data or a secret in them is refused."""
        query = path.partition("?")[2]
        said = [value for name, value in headers if name in VARIABLE]
        if not all(map(self._labels.is_clean, [query.encode(), *said] if query else said)):
            raise UnsupportedContent("data_in_query_or_header")


def _refuse_lost_names(first: _Scanned, second: _Scanned) -> None:
    """A recogniser that fails at the second look only: what the first one found must not pass for that.

    Raises:
        RecogniserUnavailable: also where a connection lets pass what nobody could look at.
    """
    failure = second.recognised.failure if second.recognised else None
    if failure is not None and any(one.rule.startswith(RULE_PREFIX) for spans in first.spans for one in spans):
        raise RecogniserUnavailable(failure)


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
