"""`ext_proc.phases.head`: what must be single, what passes on, what is refused."""

from __future__ import annotations

import pytest

from ext_proc.errors import BadHeaders, BadToken
from ext_proc.phases.head import not_forwarded, not_released, read_credential, read_head, status_of
from tests.fakes.exchange import ANSWER_HEADERS, HEADERS, attributes

PLAIN = tuple((name, value) for name, value in HEADERS if name not in ("authorization", "content-length"))


def _without(name: str) -> tuple[tuple[str, bytes], ...]:
    return tuple(pair for pair in HEADERS if pair[0] != name)


def test_head() -> None:
    head = read_head(HEADERS, attributes())

    assert (head.method, head.path, head.content_type) == ("POST", "/v1/chat/completions?x=1", "application/json")
    assert (head.content_length, head.is_upgrade) == (25, False)
    assert (head.source.address, head.source.user_agent) == ("10.0.0.1:4000", "test")


@pytest.mark.parametrize(
    "name", [":method", ":path", ":authority", "content-length", "content-type", "content-encoding"]
)
def test_repeated_field_is_refused(name: str) -> None:
    """Even with the same value: someone behind us may take the other one."""
    twice = (*_without(name), (name, b"1"), (name, b"1"))
    with pytest.raises(BadHeaders) as raised:
        read_head(twice, attributes())
    assert raised.value.detail == "repeated"


@pytest.mark.parametrize("name", [":method", ":path", ":authority"])
def test_missing_pseudo_header_is_refused(name: str) -> None:
    with pytest.raises(BadHeaders, match="pseudo_header_missing"):
        read_head(_without(name), attributes())


@pytest.mark.parametrize("name", [":method", ":path"])
def test_not_ascii_is_refused(name: str) -> None:
    with pytest.raises(BadHeaders, match="not_ascii"):
        read_head((*_without(name), (name, b"/\xff")), attributes())


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 ", b"1,1", b"0x10", b"1.0", b"\xb2", b"9" * 19])
def test_length_that_is_none(value: bytes) -> None:
    with pytest.raises(BadHeaders, match="content_length"):
        read_head((*_without("content-length"), ("content-length", value)), attributes())


@pytest.mark.parametrize(("value", "read"), [(b"0", 0), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_length(value: bytes, read: int) -> None:
    assert read_head((*_without("content-length"), ("content-length", value)), attributes()).content_length == read


def test_upgrade() -> None:
    assert read_head((*HEADERS, ("upgrade", b"x")), attributes()).is_upgrade
    assert read_head((*_without(":method"), (":method", b"CONNECT")), attributes()).is_upgrade


# The credential --------------------------------------------------------------------------------------------------------


def _shown(*pairs: tuple[str, bytes], is_mtls: bool = False):
    told = attributes(is_mtls=is_mtls)
    return read_credential(read_head((*PLAIN, *pairs), told), told)


@pytest.mark.parametrize(
    "pair", [("authorization", b"Bearer a.b-c_d~e+f/g=="), ("authorization", b"bearer x"), ("x-api-key", b"sk-1")]
)
def test_credential(pair: tuple[str, bytes]) -> None:
    token = _shown(pair).token

    assert token is not None
    assert token.reveal() == pair[1].decode().split()[-1]
    assert "reveal" not in repr(token)


def test_no_credential() -> None:
    shown = _shown()
    assert (shown.token, shown.certificate) == (None, None)


@pytest.mark.parametrize(
    "pairs",
    [
        (("authorization", b"Bearer a"), ("authorization", b"Bearer a")),
        (("authorization", b"Bearer a"), ("x-api-key", b"a")),
        (("x-api-key", b"a"), ("x-api-key", b"a")),
    ],
)
def test_two_credentials_are_refused(pairs: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(BadToken, match="credential_repeated"):
        _shown(*pairs)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer  a",
        b"Bearer a,Bearer b",
        b"Bearer a, b",
        b"Bearer a b",
        b"Bearer a\n",
        b"\tBearer a",
        b"Basic a",
        b"a",
        b"Bearer \xc3\xa9",
        b"Bearer a=b",
    ],
)
def test_malformed_authorization_is_refused(value: bytes) -> None:
    with pytest.raises(BadToken, match="credential_malformed"):
        _shown(("authorization", value))


@pytest.mark.parametrize("value", [b"", b"Bearer a", b"a,b", b"a b", b"a\n"])
def test_malformed_key_is_refused(value: bytes) -> None:
    with pytest.raises(BadToken, match="credential_malformed"):
        _shown(("x-api-key", value))


def test_certificate_only_on_mutual_tls_and_only_once() -> None:
    field = ("x-forwarded-client-cert", b"Subject=x")

    assert _shown(field).certificate is None
    assert _shown(field, is_mtls=True).certificate == "Subject=x"
    assert _shown(field, field, is_mtls=True).certificate is None


# What passes on --------------------------------------------------------------------------------------------------------


def test_what_does_not_go_on() -> None:
    more = (("x-api-key", b"k"), ("proxy-authorization", b"k"), ("x-forwarded-for", b"1"), ("x-envoy-x", b"1"))
    dropped = not_forwarded((*HEADERS, *more, ("traceparent", b"t"), ("upgrade", b"u"), ("sec-websocket-key", b"k")))

    assert dropped == (
        "accept-encoding", "authorization", "cookie", "proxy-authorization", "sec-websocket-key", "upgrade", "user-agent",
        "x-api-key",
    )  # fmt: skip


def test_handshake_goes_on_with_an_upgrade() -> None:
    fields = (("upgrade", b"u"), ("connection", b"upgrade"), ("sec-websocket-key", b"k"), ("cookie", b"c"))

    assert not_forwarded(fields, is_upgrade=True) == ("cookie",)
    assert not_forwarded(fields) == ("connection", "cookie", "sec-websocket-key", "upgrade")


def test_what_does_not_come_back() -> None:
    fields = (
        *ANSWER_HEADERS,
        ("x-ratelimit-limit", b"5"),
        ("anthropic-ratelimit-requests", b"5"),
        ("x-request-id", b"\xc3\xa9"),
        ("request-id", b"a" * 257),
        ("server", b"a\x00b"),
        ("x-envoy-upstream-service-time", b"1"),
        ("x-anything", b"1"),
    )

    assert not_released(fields) == (
        "content-encoding",
        "request-id",
        "server",
        "set-cookie",
        "x-anything",
        "x-request-id",
    )


@pytest.mark.parametrize(("value", "status"), [(b"200", 200), (b"101", 101), (b"599", 599)])
def test_status(value: bytes, status: int) -> None:
    assert status_of(((":status", value),)) == status


@pytest.mark.parametrize("value", [b"", b"abc", b"20", b"2000", b"099", b"-20", b"\xb2\xb2\xb2", b"200 ", b"200\n"])
def test_no_status(value: bytes) -> None:
    """Zero is never released."""
    assert status_of(((":status", value),)) == 0
    assert status_of(()) == 0
