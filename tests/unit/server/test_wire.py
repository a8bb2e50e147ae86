"""`ext_proc.server.wire`: each field both ways, as Envoy reads and writes it."""

from __future__ import annotations

import uuid

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from ext_proc.errors import PeerError
from ext_proc.model import Refusal, Secret
from ext_proc.phases import events as ev
from ext_proc.phases.effects import Continue
from ext_proc.server import wire
from tests.fakes import envoy
from tests.fakes.exchange import AT

PHASES = ("request_headers", "request_body", "response_headers", "response_body")


# Questions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_last", [True, False])
def test_request_headers(*, is_last: bool) -> None:
    fields = ((":method", "GET"), ("x", "\xff\x00 raw"), ("x", "again"))
    phase, event = wire.read_question(envoy.request_headers(fields, is_last=is_last, connection__mtls=True), AT)

    assert phase == "request_headers"
    assert isinstance(event, ev.RequestHeaders)
    assert event.headers == ((":method", b"GET"), ("x", b"\xff\x00 raw"), ("x", b"again")), (
        "in order, repeated, as bytes"
    )
    assert (event.at, event.is_last) == (AT, is_last)
    assert event.attributes == ev.Attributes(envoy.EXCHANGE, "demo", "10.0.0.1:4000", is_mtls=True)  # type: ignore[arg-type]


def test_value_is_not_read() -> None:
    """Envoy sends ``raw_value`` only; whoever sends ``value`` is not Envoy."""
    message = pb.ProcessingRequest()
    message.request_headers.headers.headers.add(key="authorization", value="Bearer x")
    _, event = wire.read_question(message, AT)
    assert isinstance(event, ev.RequestHeaders)
    assert event.headers == (("authorization", b""),)


def test_attributes_that_are_missing() -> None:
    """Envoy answers before it has a request (no Host): the exchange gets an id of ours, a new one each time."""
    message = pb.ProcessingRequest(response_headers=pb.HttpHeaders())
    _, event = wire.read_question(message, AT)
    _, again = wire.read_question(message, AT)

    assert isinstance(event, ev.ResponseHeaders)
    assert isinstance(again, ev.ResponseHeaders)
    assert uuid.UUID(event.attributes.exchange_id) != uuid.UUID(again.attributes.exchange_id)
    assert (event.attributes.route, event.attributes.source_address, event.attributes.is_mtls) == ("", "", False)
    assert event.upstream == ev.UpstreamAttributes("", "", "")


def test_attributes_of_another_filter_are_not_ours() -> None:
    message = pb.ProcessingRequest(request_headers=pb.HttpHeaders())
    message.attributes["envoy.filters.http.other"].fields["xds.route_name"].string_value = "demo"
    message.attributes["envoy.filters.http.other"].fields["connection.mtls"].bool_value = True
    _, event = wire.read_question(message, AT)
    assert isinstance(event, ev.RequestHeaders)
    assert (event.attributes.route, event.attributes.is_mtls) == ("", False)


@pytest.mark.parametrize("is_last", [True, False])
def test_response_headers(*, is_last: bool) -> None:
    message = envoy.response_headers(((":status", "200"),), is_last=is_last, details="via_upstream")
    message.attributes["envoy.filters.http.ext_proc"].fields["response.flags"].number_value = 32.0
    phase, event = wire.read_question(message, AT)

    assert phase == "response_headers"
    assert isinstance(event, ev.ResponseHeaders)
    assert (event.at, event.is_last, event.headers) == (AT, is_last, ((":status", b"200"),))
    assert event.upstream == ev.UpstreamAttributes("via_upstream", "32", "10.0.0.9:443")
    assert (event.attributes.exchange_id, event.attributes.route) == (envoy.EXCHANGE, "demo")


@pytest.mark.parametrize("end_of_stream", [True, False])
def test_bodies(*, end_of_stream: bool) -> None:
    """With trailers behind it, a whole body does not end the stream."""
    body = pb.HttpBody(body=b"\x00\xff", end_of_stream=end_of_stream)

    assert wire.read_question(pb.ProcessingRequest(request_body=body), AT) == (
        "request_body",
        ev.RequestBody(AT, b"\x00\xff"),
    )
    assert wire.read_question(pb.ProcessingRequest(response_body=body), AT) == (
        "response_body",
        ev.ResponseBody(AT, b"\x00\xff", end_of_stream),
    )


@pytest.mark.parametrize("phase", ["request_trailers", "response_trailers"])
def test_phase_that_is_not_configured(phase: str) -> None:
    message = pb.ProcessingRequest(**{phase: pb.HttpTrailers()})
    assert wire.read_question(message, AT) == (phase, ev.Unknown(AT, phase))


def test_phase_that_is_not_known() -> None:
    """A newer Envoy's: its field is none that we know, so the message asks nothing."""
    message = pb.ProcessingRequest.FromString(b"\xfa\x7f\x00")
    with pytest.raises(PeerError, match="empty message"):
        wire.read_question(message, AT)


def test_empty_message() -> None:
    with pytest.raises(PeerError, match="empty message"):
        wire.read_question(pb.ProcessingRequest(), AT)


# Answers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_answer_that_changes_nothing(phase: str) -> None:
    response = wire.answer(phase, Continue())

    assert response.WhichOneof("response") == phase
    assert getattr(response, phase).response.status == pb.CommonResponse.CONTINUE
    assert not getattr(response, phase).response.HasField("header_mutation")
    assert not getattr(response, phase).response.HasField("body_mutation")
    assert not response.HasField("mode_override")
    assert not response.HasField("dynamic_metadata")


@pytest.mark.parametrize("phase", PHASES)
def test_answer(phase: str) -> None:
    effect = Continue(
        body=b"\x00new",
        set_headers=(("content-length", "4"), ("authorization", Secret("Bearer k\xe9y"))),
        remove_headers=("cookie", "user-agent"),
        metadata={"decision": "allow", "event_id": "e"},
    )
    response = wire.answer(phase, effect)
    common = getattr(response, phase).response

    assert response.WhichOneof("response") == phase
    assert common.body_mutation.body == b"\x00new"
    assert list(common.header_mutation.remove_headers) == ["cookie", "user-agent"]
    told = [
        (o.header.key, o.header.raw_value, o.header.value, o.append_action) for o in common.header_mutation.set_headers
    ]
    overwrite = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    assert told == [
        ("content-length", b"4", "", overwrite),
        ("authorization", "Bearer k\xe9y".encode(), "", overwrite),
    ]
    assert envoy.metadata(response) == {"decision": "allow", "event_id": "e"}
    assert list(response.dynamic_metadata.fields) == [wire.NAMESPACE] == ["affidavit"]
    assert not response.HasField("mode_override")


def test_body_that_becomes_empty() -> None:
    """Not the same as a body that is left alone."""
    common = wire.answer("response_body", Continue(body=b"")).response_body.response
    assert common.HasField("body_mutation")
    assert common.body_mutation.WhichOneof("mutation") == "body"


@pytest.mark.parametrize(
    ("effect", "request_body", "response_body"),
    [
        (Continue(uninspected=True), ProcessingMode.NONE, ProcessingMode.NONE),
        (Continue(streamed=True), ProcessingMode.BUFFERED, ProcessingMode.STREAMED),
    ],
    ids=["uninspected", "streamed"],
)
def test_every_mode_of_the_override_is_said(effect: Continue, request_body: int, response_body: int) -> None:
    """Envoy's list of allowed overrides is compared field by field, and a forgotten body mode is NONE."""
    override = wire.answer("response_headers", effect).mode_override

    assert {field.name: getattr(override, field.name) for field in ProcessingMode.DESCRIPTOR.fields} == {
        "request_header_mode": ProcessingMode.SEND,
        "response_header_mode": ProcessingMode.SEND,
        "request_body_mode": request_body,
        "response_body_mode": response_body,
        "request_trailer_mode": ProcessingMode.SKIP,
        "response_trailer_mode": ProcessingMode.SKIP,
    }


@pytest.mark.parametrize("phase", ["request_body", "response_body"])
def test_override_is_for_heads_only(phase: str) -> None:
    """Envoy ignores it elsewhere; better not to send it."""
    assert not wire.answer(phase, Continue(uninspected=True)).HasField("mode_override")


@pytest.mark.parametrize("retry", [None, 5])
def test_immediate_response(retry: int | None) -> None:
    refusal = Refusal(503, "policy_unavailable", "text", ("r",), retry, (("x-affidavit-exchange", "e"),))
    response = wire.refuse(refusal, "application/json", b'{"no":1}', {"decision": "deny"})
    immediate = response.immediate_response

    assert response.WhichOneof("response") == "immediate_response"
    assert (int(immediate.status.code), immediate.body) == (503, b'{"no":1}')
    assert immediate.details == "affidavit_policy_unavailable", "Envoy's local reply mapping leaves it alone by this"
    told = {option.header.key: option.header.raw_value for option in immediate.headers.set_headers}
    expected = {"content-type": b"application/json", "x-affidavit-exchange": b"e"}
    assert told == (expected if retry is None else expected | {"retry-after": b"5"})
    assert all(not option.header.value for option in immediate.headers.set_headers)
    assert envoy.metadata(response) == {"decision": "deny"}
