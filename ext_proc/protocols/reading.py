"""From bytes on the wire to a `Document`: content coding undone, content type checked, parsed, cut into channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import BadBody, UnknownOperation, UnsupportedContent, UpstreamError
from ext_proc.protocols import anthropic, openai, responses, shapes
from ext_proc.protocols.answer_keys import refuse_ambiguous_answer, refuse_ambiguous_event
from ext_proc.protocols.document import NESTED_LEVELS, Document, Facts
from ext_proc.protocols.encoding import CodingError, decoded
from ext_proc.protocols.field_frame import REQUEST_ROOT
from ext_proc.protocols.field_tree import FieldPass
from ext_proc.protocols.fielded import path_of
from ext_proc.protocols.joining import add_joined, collect_at
from ext_proc.protocols.json_text import JsonError, parse, parse_bytes, render, render_whole
from ext_proc.protocols.parameters import parameters, refuse_ambiguous_keys
from ext_proc.protocols.sse import read_events, write_events
from ext_proc.protocols.tools import declared_tools, results_sent

if TYPE_CHECKING:
    from ext_proc.model import Connection, Headers, Operation
    from ext_proc.protocols.field_states import State
    from ext_proc.protocols.fielded import Fields
    from ext_proc.protocols.joining import Found
    from ext_proc.protocols.sse import Event

_OPERATIONS: Final = {
    "openai.chat": "chat",
    "openai.completions": "completion",
    "openai.embeddings": "embedding",
    "openai.models": "models",
    "openai.responses": "response",
    "anthropic.messages": "messages",
    "anthropic.count_tokens": "count_tokens",
    "generic": "generic",
}
_ERRORS: Final = 400
"""The statuses from here on: clients look for no answer in such a body."""
_BODYLESS: Final = ("openai.models",)


def operation_of(connection: Connection, method: str, path: str) -> Operation:
    """The operation that method and path (its query left aside) name.

    Raises:
        UnknownOperation: none of the connection's.
    """
    plain = path.partition("?")[0]
    for operation in connection.operations:
        if operation.path == plain and operation.method == method:
            return operation
    raise UnknownOperation("not_listed")


def read_request(protocol: str, headers: Headers, body: bytes) -> Document:
    """A whole request body.

    Raises:
        UnsupportedContent: not plain JSON (another content type, or any content coding).
        BadBody: not the JSON object that the operation takes.
    """
    operation = _OPERATIONS.get(protocol)
    if operation is None:
        raise UnsupportedContent("protocol")
    if protocol in _BODYLESS:
        if body:
            raise BadBody("body_not_expected")
        return Document(protocol, operation, b"", bytes)
    if _field(headers, "content-encoding") not in ("", "identity"):
        raise UnsupportedContent("content_encoding")
    if media_type(headers) != "application/json":
        raise UnsupportedContent("content_type")
    try:
        tree = [parse_bytes(body)]
        if not isinstance(tree[0], dict) and (protocol != "generic" or not isinstance(tree[0], list)):
            raise BadBody("not_an_object")
        document = Document(protocol, operation, body, lambda: _rendered(document, tree[0]))
        document.add_tree(tree[0])
    except JsonError:
        raise BadBody("json") from None
    if isinstance(tree[0], dict):
        refuse_ambiguous_keys(protocol, tree[0])
    document.model = shapes.text(tree[0], "model")
    document.is_stream = shapes.at(tree[0], "stream") is True
    document.parameters = parameters(protocol, tree[0])
    document.tool_names = declared_tools(tree[0])
    document.tool_results = results_sent(tree[0])
    if protocol == "openai.responses":
        document.conversation = responses.conversation(tree[0])
    return document


def with_fields(document: Document, fields: Fields) -> Document:
    """A request that was read, once more: with what field rules make of it. The very same where that is nothing."""
    if not document.decoded:
        return document
    tree = [parse_bytes(document.decoded)]
    fielded = FieldPass(fields, root=REQUEST_ROOT).run(tree)
    if fielded.is_nothing:
        return document
    made = Document(document.protocol, document.operation, document.decoded, lambda: _rendered(made, tree[0]))
    made.fielded = fielded
    made.add_tree(tree if fielded.is_settled(tree, 0) else tree[0])
    made.tool_names = document.tool_names
    return made


def read_tree(
    fields: Fields, root: list[Any], state: State, place: tuple[str | int, ...], included: frozenset[str]
) -> Document:
    """A JSON text that stands in a body, in a list of one: with what field rules make of it.

    Raises:
        JsonError: nested too deeply.
    """
    document = Document("generic", "generic", b"", lambda: render(root[0]).encode())
    document.fielded = FieldPass(fields).run(root, state, place, included, NESTED_LEVELS - 1)
    if isinstance(root[0], dict | list):
        document.add_tree(root[0], path_of(place))
    return document


def undone(headers: Headers, body: bytes, limit_bytes: int) -> bytes:
    """An answer with its content coding undone.

    Raises:
        UpstreamError: it cannot be.
    """
    try:
        return decoded(body, ",".join(_fields(headers, "content-encoding")), limit_bytes)
    except CodingError as error:
        raise UpstreamError(f"coding: {error}") from None


def read_response(
    protocol: str,
    request: Document,
    status: int,
    headers: Headers,
    body: bytes,
    limit_bytes: int,
    fields: Fields | None = None,
) -> Document:
    """A whole answer. Of one that is a stream, fields are the business of `protocols.streaming`.

    Raises:
        UpstreamError: it cannot be decoded, or is not of a kind that can be inspected.
    """
    del request  # how an answer is read depends on what it is, not on what was asked
    try:
        plain = undone(headers, body, limit_bytes)
        kind = media_type(headers)
        operation = _OPERATIONS.get(protocol, "generic")
        if not plain:
            return Document(protocol, operation, b"", bytes)
        if kind in ("application/json", "application/problem+json"):
            return _json(protocol, operation, plain, fields, is_error=status >= _ERRORS)
        if kind == "text/event-stream":
            return _stream(protocol, operation, plain)
        if kind in ("application/x-ndjson", "application/jsonl"):
            return _lines(protocol, operation, plain)
        if kind == "text/plain":
            return _text(protocol, operation, plain, fields)
    except JsonError as error:
        raise UpstreamError(f"json: {error}") from None
    raise UpstreamError("content_type")


def _json(protocol: str, operation: str, body: bytes, fields: Fields | None, *, is_error: bool) -> Document:
    tree = [parse_bytes(body)]
    if not is_error:  # whoever stands before a model says ``{"Message": ...}`` as well
        refuse_ambiguous_answer(protocol, tree[0])
    document = Document(protocol, operation, body, lambda: _rendered(document, tree[0]))
    if fields is not None:
        document.fielded = FieldPass(fields, is_answer=True).run(tree)
    root = tree[0] if isinstance(tree[0], dict | list) else tree
    if protocol.startswith("anthropic."):
        document.facts = anthropic.answer_facts(tree[0])
        document.set_tools(lambda: anthropic.answer_tools(tree[0]))
    elif protocol == "openai.responses":
        document.facts = responses.answer_facts(tree[0])
        document.set_tools(lambda: responses.answer_tools(tree[0]))
        responses.add_logprobs(document, tree[0])
    elif protocol.startswith("openai."):
        document.facts = openai.answer_facts(tree[0])
        document.set_tools(lambda: openai.answer_tools(tree[0]))
    openai.add_logprobs(document, tree)  # whatever the connection was said to speak: its upstream may speak this too
    document.add_tree(root, "", openai.is_structure if protocol == "openai.embeddings" else None)
    if protocol == "openai.embeddings":
        for item, position, said in openai.disguised(tree[0]):
            if not document.is_claimed(item, "embedding"):
                document.add_disguised(item, "embedding", f"/data/{position}/embedding", said)
    return document


def _rendered(document: Document, value: Any) -> bytes:
    """A tree that was walked whole, so that the document knows what kinds of numbers are in it."""
    return render(value).encode() if document.has_fractions else render_whole(value)


def _stream(protocol: str, operation: str, body: bytes) -> Document:
    events = read_events(body)
    for event in events:
        if not event.is_done:
            refuse_ambiguous_event(protocol, event.data[0])
    document = Document(protocol, operation, body, lambda: write_events(events))
    openai.add_logprobs(document, [event.data[0] for event in events if not event.is_done])
    if protocol.startswith("anthropic."):
        anthropic.add_stream(document, events)
        document.facts = anthropic.stream_facts(events)
        document.set_tools(lambda: anthropic.stream_tools(events))
    elif protocol == "openai.responses":
        responses.add_stream(document, events)
        document.facts = responses.stream_facts(events)
        document.set_tools(lambda: responses.stream_tools(events))
    elif protocol.startswith("openai."):
        openai.add_stream(document, events)
        document.facts = openai.stream_facts(events)
        document.set_tools(lambda: openai.stream_tools(events))
    _add_events(document, events)
    return document


def _add_events(document: Document, events: list[Event]) -> None:
    """Everything else in the events: what the protocol does not know may be in pieces too."""
    _add_pieces(document, [(event.data, 0) for event in events if not event.is_done])
    for index, event in enumerate(events):
        if event.name:
            document.add_text(_Named(event), 0, f"/events/{index}/event")
        if not event.is_done:
            document.add_tree(event.data, f"/events/{index}")


def _add_pieces(document: Document, places: list[tuple[list[Any], int]]) -> None:
    found: Found = {}
    for holder, key in places:
        collect_at(document, holder, key, ("",), found)
    add_joined(document, found)


class _Named(list[str]):
    """An event's name as a place that a channel can be written to."""

    def __init__(self, event: Event) -> None:
        super().__init__([event.name])
        self._event = event

    def __setitem__(self, key: Any, value: Any) -> None:
        self._event.name = value


def _lines(protocol: str, operation: str, body: bytes) -> Document:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    values: list[Any] = [parse(line) for line in text.split("\n") if line.strip()]
    for value in values:
        refuse_ambiguous_event(protocol, value)
    document = Document(protocol, operation, body, lambda: "".join(render(value) + "\n" for value in values).encode())
    openai.add_logprobs(document, values)
    _add_pieces(document, [(values, index) for index in range(len(values))])
    document.add_tree(values)
    return document


def _text(protocol: str, operation: str, body: bytes, fields: Fields | None) -> Document:
    try:
        holder = [body.decode("utf-8")]
    except UnicodeDecodeError:
        raise UpstreamError("not UTF-8") from None
    document = Document(protocol, operation, body, lambda: holder[0].encode())  # noqa: PLW0108 - the text of then, not of now
    document.facts = Facts()
    if fields is not None:
        document.fielded = FieldPass(fields).run(holder)
    if not document.is_claimed(holder, 0):
        document.add_text(holder, 0, "")
    return document


def _fields(headers: Headers, name: str) -> list[str]:
    return [value.decode("latin-1").strip().lower() for key, value in headers if key == name]


def _field(headers: Headers, name: str) -> str:
    return ",".join(_fields(headers, name))


_CHARSETS: Final = ("utf-8", "utf8", "us-ascii")


def media_type(headers: Headers) -> str:
    """The media type; "" for a charset other than UTF-8: then nobody knows what the bytes say.

    ``charset*`` and ``charset*0`` are the same parameter in RFC 2231's clothes, which some readers undo.
    """
    kind, *told = _field(headers, "content-type").split(";")
    for parameter in told:
        name, _, value = parameter.partition("=")
        name = name.strip()
        if name.startswith("charset") and (name != "charset" or value.strip().strip('"') not in _CHARSETS):
            return ""
    return kind.strip()
