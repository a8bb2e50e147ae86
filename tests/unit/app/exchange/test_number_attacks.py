"""What passed once as a number in JSON, or under a key in disguise, though the same characters in a text did not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ext_proc.redaction import scan
from tests.unit.app.exchange.bodies import request, response
from tests.unit.app.exchange.test_stream_attacks import arguments, calling, passed, whole_arguments

CODES = [
    "cvn", "cvv", "cvc2", "cvn2", "cardCvv", "cardCVV", "card_cvv", "cvvCode", "cvvNumber", "cvv_number", "CVV2Number",
    "cvcode", "security_code", "securityCode", "card_security_code", "verification_value", "card_verification_number",
]  # fmt: skip
LISTED = {"cvv": 123, "password": 84736251, "otp": 123456, "passcode": 847362, "security_pin": 8473, "userPin": 8473}
WRITTEN = [
    '{"card": 4111111111111111e-12}',
    '{"n": 4111111111111111e6}',
    '{"n": 4111111111111111e-3}',
    '{"n": 4111111111111111E7}',
    '{"ssn": 219099999e-9}',
    '{"ssn": 219.099999}',
    '{"phone": 1.4155552671e10}',
    '{"latitude": 52.520008, "longitude": 13.404954}',
    '{"lat": 52.520008, "userLon": 13.404954}',
    '{"location": [52.520008, 13.404954]}',
    '{"password": 0.12345678}',
    '{"password": 1234.5678}',
]
HARMLESS = [
    '{"score": 0.123456789, "latency": 52.520008, "price": 12.50, "rate": 4.5e-3, "n": 1e6, "temperature": 0.7}',
    '{"logprobs": [-0.123456789, -12.25], "cvs": 123, "pinned": 8473, "pages": 123}',
]


def inside(text: str) -> tuple[str, str, set[str]]:
    """JSON in a string: as a whole answer's content, as whole arguments, and streamed, cut in every way."""
    made = response({"choices": [{"index": 0, "message": {"content": text}}]})
    cut = {
        arguments(passed(calling(*(text[at : at + size] for at in range(0, len(text), size))))[0])
        for size in (1, 2, 7, len(text))
    }
    return json.loads(made.body)["choices"][0]["message"]["content"], whole_arguments(text), cut


@pytest.mark.parametrize("key", CODES)
def test_a_cards_code_by_any_name(key: str) -> None:
    for value in (123, "123"):
        text = json.dumps({key: value})
        content, whole, cut = inside(text)
        for masked in (content, whole, *cut, request({"model": "demo", "metadata": {key: value}}).body.decode()):
            assert "123" not in masked
            assert "[PAYMENT_CARD]" in masked
    assert scan(f'"{key}": 123')


@pytest.mark.parametrize("key", LISTED)
def test_many_secrets_in_a_list(key: str) -> None:
    """More than are looked at of other numbers."""
    made = request({"model": "demo", "metadata": {key: [LISTED[key]] * 17}})
    assert str(LISTED[key]).encode() not in made.body


@pytest.mark.parametrize("text", WRITTEN)
def test_a_number_is_read_as_it_was_written_and_as_it_is(text: str) -> None:
    content, whole, cut = inside(text)
    assert content == whole
    assert {json.dumps(json.loads(one)) for one in cut} == {json.dumps(json.loads(whole))}
    assert all(isinstance(one, str) for one in numbers(json.loads(whole)))


def numbers(value: Any) -> list[Any]:
    return [one for inner in value.values() for one in (inner if isinstance(inner, list) else [inner])]


@pytest.mark.parametrize("text", HARMLESS)
def test_measures_stay_numbers(text: str) -> None:
    content, whole, cut = inside(text)
    assert {content, whole, *cut} == {text}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("s\u200bsn", "219099999"),
        ("\uff53\uff53\uff4e", "219099999"),
        ("pass\u200bword", "S3cr3tPass99"),
        ("p\u0430ssword", "S3cr3tPass99"),
        ("ss&#110;", "219099999"),
        ("PaSsWoRd", "hunter2"),
    ],
)
def test_a_key_in_disguise_still_says_what_its_value_is(key: str, value: str) -> None:
    assert value.encode() not in request({"model": "demo", "metadata": {key: value}}).body
    assert value not in "".join(inside(json.dumps({key: value}))[:2])
    if value.isdigit():
        assert value.encode() not in request({"model": "demo", "metadata": {key: int(value)}}).body


@pytest.mark.parametrize(
    "text",
    [
        '{"ssn": {"value": "219099999"}}',
        '{"ssn": [{"value": 219099999}]}',
        '{"password": {"value": "S3cr3tPass99"}}',
        '{"passport": {"number": "C01X00T47"}}',
        '{"account": {"number": {"value": "12345678"}}}',
        '{"cvv": {"v": 123}}',
    ],
)
def test_a_key_that_says_nothing_goes_with_the_one_above(text: str) -> None:
    content, whole, cut = inside(text)
    assert "[" in whole.replace("[{", "")
    assert content == whole
    assert {json.dumps(json.loads(one)) for one in cut} == {json.dumps(json.loads(whole))}
    assert request({"model": "demo", "metadata": json.loads(text)}).removals


def test_a_key_that_says_something_does_not() -> None:
    text = '{"ssn": {"digits": "219099999"}, "passport": {"id": "C01X00T47"}, "value": "219099999"}'
    content, whole, cut = inside(text)
    assert {content, whole, *cut} == {text}


@pytest.mark.parametrize(
    "text",
    [
        '{"latitude": 52.520008, "longitude": 13.404954}',
        '{"ssn": 219.099999}',
        '{"password": 1234.5678}',
        '{"cvv": 123}',
        HARMLESS[0],
    ],
)
def test_an_event_of_a_stream_is_masked_as_an_answer_is(text: str) -> None:
    """Where it is an event's own: no protocol knows it."""
    body, _ = passed(f"data: {text}\n\n".encode())
    assert json.loads(body.decode().removeprefix("data: ")) == json.loads(response(json.loads(text)).body)
