"""`ext_proc.phases.fields`: forms instead of free text, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import BadHeaders, UnsupportedContent
from ext_proc.phases import fields
from ext_proc.phases.fields import (
    BETAS_MAX,
    bare_type,
    is_untouchable,
    not_forwarded,
    not_released,
    read_passing,
    smuggled,
)  # fmt: skip
from tests.fakes.exchange import ANSWER_HEADERS, HEADERS

ROOT: Final = Path(__file__).resolve().parents[3]
PATH: Final = "/v1/messages"
NOTE: Final = b"Patient John Smith has HIV"
REQUEST_FIELDS: Final = {
    "accept": [
        b"*/*", b"application/json", b"text/event-stream", b"application/json, text/event-stream;q=0.9,*/*; q=0.1",
    ],
    "anthropic-beta": [b"prompt-caching-2024-07-31", b"a,b", b"a, b"],
    "anthropic-version": [b"2023-06-01"],
    "content-length": [b"25"],
    "openai-beta": [b"assistants=v2", b"chatkit_beta=v1", b"responses=experimental"],
    "traceparent": [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
}  # fmt: skip
ANSWER_FIELDS: Final = {
    "anthropic-ratelimit-input-tokens-remaining": [b"40000"],
    "anthropic-ratelimit-requests-limit": [b"50"],
    "anthropic-ratelimit-tokens-reset": [b"2026-11-25T14:00:00Z", b"2026-11-25T14:00:00.5+01:00"],
    "cache-control": [b"no-cache", b"no-store, must-revalidate,max-age=0"],
    "connection": [b"close", b"keep-alive"],
    "content-type": [b"application/json", b"text/event-stream; charset=utf-8", b"text/plain;charset=UTF-8"],
    "date": [b"Wed, 25 Nov 2026 14:00:00 GMT"],
    "openai-processing-ms": [b"617"],
    "openai-version": [b"2020-10-01"],
    "request-id": [b"req_011CSHoEeqs5C35K2UUqR7Fy"],
    "retry-after": [b"5", b"Wed, 25 Nov 2026 14:00:00 GMT"],
    "retry-after-ms": [b"100", b"12.5"],
    "x-ratelimit-limit-requests": [b"5000"],
    "x-ratelimit-remaining-tokens": [b"159976"],
    "x-ratelimit-reset-requests": [b"12ms", b"6m0s", b"8.64s", b"1h30m0.5s", b"1"],
    "x-should-retry": [b"true", b"false"],
}


def _pairs(known: dict[str, list[bytes]]) -> list[tuple[str, bytes]]:
    return [(name, value) for name, values in known.items() for value in values]


# What goes on ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", _pairs(REQUEST_FIELDS), ids=str)
def test_what_goes_on(pair: tuple[str, bytes]) -> None:
    assert not_forwarded((pair,)) == ()


@pytest.mark.parametrize("name", REQUEST_FIELDS)
@pytest.mark.parametrize("value", [NOTE, b"", b"text/john-smith", b"a" * 65, b"caf\xc3\xa9", b"a b"])
def test_free_text_does_not_go_on(name: str, value: bytes) -> None:
    assert not_forwarded(((name, value),)) == (name,)


@pytest.mark.parametrize("name", REQUEST_FIELDS)
@pytest.mark.parametrize("end", [b"\n", b" ", b", ", b";x=john"])
def test_nothing_more_goes_on(name: str, end: bytes) -> None:
    """To the end of the value, a line feed included."""
    assert not_forwarded(((name, REQUEST_FIELDS[name][0] + end),)) == (name,)


@pytest.mark.parametrize("pair", _pairs(REQUEST_FIELDS), ids=str)
def test_twice_does_not_go_on(pair: tuple[str, bytes]) -> None:
    assert not_forwarded((pair, pair)) == (pair[0],)


def test_what_does_not_go_on() -> None:
    more = (("x-api-key", b"k"), ("proxy-authorization", b"k"), ("upgrade", b"u"), ("sec-websocket-key", b"k"))

    assert not_forwarded((*HEADERS, *more)) == (
        "accept-encoding", "authorization", "content-type", "cookie", "proxy-authorization", "sec-websocket-key",
        "upgrade", "user-agent", "x-api-key",
    ), "the gate says the content type itself"  # fmt: skip


def test_handshake_goes_on_with_an_upgrade() -> None:
    handshake = (("upgrade", b"u"), ("connection", b"upgrade"), ("sec-websocket-key", b"k"), ("cookie", b"c"))

    assert not_forwarded(handshake, is_upgrade=True) == ("cookie",)
    assert not_forwarded(handshake) == ("connection", "cookie", "sec-websocket-key", "upgrade")


# What is put on record ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("", ()),
        ("?", ()),
        ("?beta=true", (("beta", "true"),)),
        ("?api-version=2024-10-21-preview&beta=false", (("api-version", "2024-10-21-preview"), ("beta", "false"))),
    ],
)
def test_query(query: str, read: tuple[tuple[str, str], ...]) -> None:
    assert read_passing(PATH + query, ()).query == read


@pytest.mark.parametrize(
    "query",
    [
        "note=Patient%20John%20Smith", "beta", "beta=", "beta=1", "beta=True", "beta=true&", "&beta=true", "beta=true&note=a",
        "beta=true&beta=false", "beta=true?note", "beta=true#note", "Beta=true", "b%65ta=true", "beta=tru%65", "beta=true;a=b",
        "api-version=", "api-version=a%20b", "api-version=a+b", "api-version=" + "a" * 65, "beta=true\n", "api-version=\u00b2",
    ],
)  # fmt: skip
def test_any_other_query_is_refused(query: str) -> None:
    with pytest.raises(UnsupportedContent, match="query"):
        read_passing(f"{PATH}?{query}", ())


def test_betas() -> None:
    headers = (("openai-beta", b"assistants=v2"), ("anthropic-beta", b"one-2024-01-01, two,three"))

    assert read_passing(PATH, headers).betas == ("one-2024-01-01", "two", "three", "assistants=v2")
    assert read_passing(PATH, (("anthropic-beta", b""),)).betas == (), "as Anthropic's client says none"


@pytest.mark.parametrize("name", ["anthropic-beta", "openai-beta", "anthropic-version"])
@pytest.mark.parametrize(
    "value", [NOTE, b"a,", b",a", b"a,,b", b"a  ,b", b"A", b"-a", b"a" * 65, b"caf\xe9", b"a\n", b"a;b"]
)
def test_what_would_change_the_meaning_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(BadHeaders, match=name):
        read_passing(PATH, ((name, value),))


@pytest.mark.parametrize("name", ["anthropic-beta", "openai-beta", "anthropic-version"])
def test_split_over_two_headers_is_refused(name: str) -> None:
    with pytest.raises(BadHeaders, match="repeated"):
        read_passing(PATH, ((name, b"2023-06-01"), (name, b"2023-06-01")))


def test_too_many_betas_are_refused() -> None:
    many = b",".join(b"a%d" % i for i in range(BETAS_MAX))

    assert len(read_passing(PATH, (("openai-beta", many),)).betas) == BETAS_MAX
    with pytest.raises(BadHeaders, match="openai-beta"):
        read_passing(PATH, (("openai-beta", many + b",b"),))
    with pytest.raises(BadHeaders, match="betas"):
        read_passing(PATH, (("openai-beta", many), ("anthropic-beta", b"b")))


# What comes back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", _pairs(ANSWER_FIELDS), ids=str)
def test_what_comes_back(pair: tuple[str, bytes]) -> None:
    assert not_released((pair,)) == ()


@pytest.mark.parametrize("name", ANSWER_FIELDS)
@pytest.mark.parametrize("value", [NOTE, b"", b"a" * 65, b"John Smith, 25", b"max-age=john", b"caf\xc3\xa9", b"a;b"])
def test_free_text_does_not_come_back(name: str, value: bytes) -> None:
    assert not_released(((name, value),)) == (name,)


@pytest.mark.parametrize("name", ANSWER_FIELDS)
@pytest.mark.parametrize("end", [b"\n", b" ", b", ", b"; note=john"])
def test_nothing_more_comes_back(name: str, end: bytes) -> None:
    assert not_released(((name, ANSWER_FIELDS[name][0] + end),)) == (name,)


@pytest.mark.parametrize("pair", _pairs(ANSWER_FIELDS), ids=str)
def test_twice_does_not_come_back(pair: tuple[str, bytes]) -> None:
    assert not_released((pair, pair)) == (pair[0],)


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-john", "x-ratelimit-limit-john", "x-ratelimit-limit", "anthropic-ratelimit-john-limit",
        "anthropic-ratelimit-requests", "server", "x-anything", "content-encoding", "set-cookie", "upgrade",
    ],
)  # fmt: skip
def test_other_names_do_not_come_back(name: str) -> None:
    """A name is a place for text too."""
    assert not_released(((name, b"5"),)) == (name,)


def test_what_does_not_come_back() -> None:
    assert not_released(ANSWER_HEADERS) == ("content-encoding", "set-cookie")


def test_handshake_comes_back_with_an_upgrade() -> None:
    handshake = (("upgrade", b"u"), ("connection", b"upgrade"), ("sec-websocket-accept", b"k"), ("x-note", b"c"))

    assert not_released(handshake, is_upgrade=True) == ("x-note",)
    assert not_released(handshake) == ("connection", "sec-websocket-accept", "upgrade", "x-note")


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        (b"application/json", None),
        (b"application/json; note=John-Smith", "application/json"),
        (b"Application/JSON;odata.metadata=none", "application/json"),
        (b"text/event-stream; charset=us-ascii", "text/event-stream"),
        (b"text/john-smith", None),
    ],
)
def test_bare_type(value: bytes, bare: str | None) -> None:
    assert bare_type((("content-type", value),)) == bare


def test_no_bare_type() -> None:
    assert bare_type(()) is None
    assert bare_type((("content-type", b"text/plain;a"), ("content-type", b"text/plain;a"))) is None


# What Envoy lets nobody take off ------------------------------------------------------------------------------------------


def test_untouchable_is_what_envoy_says() -> None:
    """H3: asked to take one of these off, Envoy answers 503 when the record says 200."""
    assert f'{{regex: "{fields.UNTOUCHABLE}"}}' in (ROOT / "envoy" / "bootstrap.yaml").read_text()
    assert yaml.safe_load(f'"{fields.UNTOUCHABLE}"') == fields.UNTOUCHABLE


NAMES: Final = st.one_of(
    st.sampled_from(["host", "Host", ":status", ":x", "transfer-encoding", "x-request-id", *REQUEST_FIELDS, *ANSWER_FIELDS]),
    st.from_regex(r"x-(envoy|forwarded|request|note)-[a-z0-9]{1,8}", fullmatch=True),
    st.text(min_size=1, max_size=12),
)  # fmt: skip


@given(st.lists(st.tuples(NAMES, st.binary(max_size=12))), st.booleans())
def test_never_asks_for_what_envoy_forbids(headers: list[tuple[str, bytes]], is_upgrade: bool) -> None:
    """And all else goes unless it is in its form: there is no third way."""
    told = tuple(headers)
    for known, taken_off in (
        (REQUEST_FIELDS, not_forwarded(told, is_upgrade=is_upgrade)),
        (ANSWER_FIELDS, not_released(told, is_upgrade=is_upgrade)),
    ):
        assert not [name for name in taken_off if is_untouchable(name)]
        left = {name for name, _ in told} - set(taken_off)
        assert not [n for n in left if n not in known and not is_untouchable(n) and not is_upgrade]


@pytest.mark.parametrize(
    "pair",
    [
        ("x-envoy-note", b"a"), ("x-forwarded-blob", b"a"), ("x-request-id", b"a"), ("host", b"x"),
        ("transfer-encoding", b"gzip"),
    ],
)  # fmt: skip
def test_smuggled(pair: tuple[str, bytes]) -> None:
    assert smuggled((*ANSWER_HEADERS, pair)) == (pair[0],)


def test_nothing_smuggled() -> None:
    assert smuggled((*ANSWER_HEADERS, ("transfer-encoding", b"Chunked"))) == ()
