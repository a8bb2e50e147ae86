"""Between Envoy's protos and our events and effects. The only file that builds or reads their fields.

Sources: ``envoy.service.ext_proc.v3`` (external_processor.proto), ``envoy.extensions.filters.http.ext_proc.v3``.
Header values travel as ``raw_value``: Envoy ignores ``value`` and sends an empty field (measured).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from envoy.type.v3 import http_status_pb2

from ext_proc.errors import PeerError
from ext_proc.model import ExchangeId, Secret
from ext_proc.phases import events as ev

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ext_proc.model import Headers, Refusal
    from ext_proc.phases.effects import Continue

NAMESPACE: Final = "affidavit"
"""Envoy's dynamic metadata namespace: the gates behind and before us read it."""

RESPONSE_BODY: Final = "response_body"
_ATTRIBUTES_KEY: Final = "envoy.filters.http.ext_proc"
_Mode = processing_mode_pb2.ProcessingMode
_OVERWRITE: Final = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def _modes(request_body: Any, response_body: Any) -> Any:
    """Every mode explicit: proto3's zero is NONE for bodies, so a forgotten field would turn inspection off."""
    return _Mode(
        request_header_mode=_Mode.SEND,
        response_header_mode=_Mode.SEND,
        request_body_mode=request_body,
        response_body_mode=response_body,
        request_trailer_mode=_Mode.SKIP,
        response_trailer_mode=_Mode.SKIP,
    )


# Exactly the two that ``allowed_override_modes`` in ``envoy/bootstrap.yaml`` lists: Envoy ignores any other.
_UNINSPECTED: Final = _modes(_Mode.NONE, _Mode.NONE)
_STREAMED: Final = _modes(_Mode.BUFFERED, _Mode.STREAMED)


def read_question(message: ext_proc.ProcessingRequest, at: datetime) -> tuple[str, ev.PeerEvent]:
    """The phase's field name in ``ProcessingRequest`` and the event it means.

    Raises:
        PeerError: the message asks nothing.
    """
    phase = message.WhichOneof("request")
    if phase == "request_body":
        return phase, ev.RequestBody(at, message.request_body.body)
    if phase == RESPONSE_BODY:
        piece = message.response_body
        return phase, ev.ResponseBody(at, piece.body, piece.end_of_stream)
    if phase == "request_headers":
        told = _told(message)
        head = message.request_headers
        return phase, ev.RequestHeaders(at, _headers(head), head.end_of_stream, _attributes(told))
    if phase == "response_headers":
        told = _told(message)
        head = message.response_headers
        upstream = ev.UpstreamAttributes(
            _text(told, "response.code_details"), _flags(told), _text(told, "upstream.address")
        )
        return phase, ev.ResponseHeaders(at, _headers(head), head.end_of_stream, _attributes(told), upstream)
    if phase is None:
        raise PeerError("empty message")
    return phase, ev.Unknown(at, phase)


def answer(phase: str, effect: Continue) -> ext_proc.ProcessingResponse:
    """`Continue` as the answer to ``phase``."""
    response = ext_proc.ProcessingResponse()
    common = getattr(response, phase).response
    common.SetInParent()  # an answer with nothing to change is an answer too
    if effect.set_headers or effect.remove_headers:
        _mutate(common.header_mutation, effect.set_headers, effect.remove_headers)
    if effect.body is not None:
        common.body_mutation.body = effect.body
    if effect.uninspected and phase.endswith("_headers"):
        response.mode_override.CopyFrom(_UNINSPECTED)
    if effect.streamed:
        response.mode_override.CopyFrom(_STREAMED)
    if effect.metadata:
        _say(response, effect.metadata)
    return response


def refuse(
    refusal: Refusal, content_type: str, body: bytes, metadata: Mapping[str, str]
) -> ext_proc.ProcessingResponse:
    """An answer of ours instead of the upstream's (``ImmediateResponse``); ``metadata`` reaches the access log."""
    headers: list[tuple[str, str | Secret]] = [("content-type", content_type), *refusal.headers]
    if refusal.retry_after_seconds is not None:
        headers.append(("retry-after", str(refusal.retry_after_seconds)))
    response = ext_proc.ProcessingResponse(
        immediate_response=ext_proc.ImmediateResponse(
            status=http_status_pb2.HttpStatus(code=refusal.status),
            body=body,
            details=f"affidavit_{refusal.code}",
        )
    )
    _mutate(response.immediate_response.headers, headers, ())
    _say(response, metadata)
    return response


def _say(response: ext_proc.ProcessingResponse, metadata: Mapping[str, str]) -> None:
    fields = response.dynamic_metadata.fields[NAMESPACE].struct_value.fields
    for name, value in metadata.items():
        fields[name].string_value = value


def _mutate(
    mutation: ext_proc.HeaderMutation,
    set_headers: Sequence[tuple[str, str | Secret]],
    remove_headers: Sequence[str],
) -> None:
    mutation.remove_headers.extend(remove_headers)
    for name, value in set_headers:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = (value.reveal() if isinstance(value, Secret) else value).encode()
        option.append_action = _OVERWRITE


def _headers(head: ext_proc.HttpHeaders) -> Headers:
    return tuple((item.key, item.raw_value) for item in head.headers.headers)


def _told(message: ext_proc.ProcessingRequest) -> Any:
    found = message.attributes.get(_ATTRIBUTES_KEY)
    return found.fields if found is not None else {}


def _text(told: Any, name: str) -> str:
    return str(told[name].string_value) if name in told else ""


def _flags(told: Any) -> str:
    return str(int(told["response.flags"].number_value)) if "response.flags" in told else ""


def _attributes(told: Any) -> ev.Attributes:
    # Envoy gives none where it answers before it has a request (no Host, "OPTIONS *"): then it is ours (measured).
    exchange_id = _text(told, "request.id") or str(uuid.uuid4())
    return ev.Attributes(
        exchange_id=ExchangeId(exchange_id),
        route=_text(told, "xds.route_name"),
        source_address=_text(told, "source.address"),
        is_mtls=bool(told["connection.mtls"].bool_value) if "connection.mtls" in told else False,
    )
