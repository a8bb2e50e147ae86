"""`ext_proc.phases.head`: what must be single, what is refused."""

from __future__ import annotations

import pytest

from ext_proc.errors import BadHeaders, BadToken
from ext_proc.phases.head import TARGET_MAX_BYTES, USER_AGENT_MAX, read_credential, read_head, status_of
from tests.fakes.exchange import HEADERS, attributes

PLAIN = tuple((name, value) for name, value in HEADERS if name not in ("authorization", "content-length"))


def _without(name: str) -> tuple[tuple[str, bytes], ...]:
    return tuple(pair for pair in HEADERS if pair[0] != name)


def test_head() -> None:
    head = read_head(HEADERS, attributes())

    assert (head.method, head.path, head.content_type) == ("POST", "/v1/chat/completions?beta=true", "application/json")
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


# What is kept and what is too much ---------------------------------------------------------------------------------------


def test_user_agent_is_cut() -> None:
    """It stays in memory for every caller there was, and nobody has to be known to send one of 2 MB."""
    head = read_head((*_without("user-agent"), ("user-agent", b"a" * 1_900_000)), attributes())

    assert head.source.user_agent == "a" * USER_AGENT_MAX


def test_target_that_is_too_long() -> None:
    longest = b"/" + b"a" * (TARGET_MAX_BYTES - 1)

    assert read_head((*_without(":path"), (":path", longest)), attributes()).path == longest.decode()
    with pytest.raises(BadHeaders, match="target"):
        read_head((*_without(":path"), (":path", longest + b"a")), attributes())


@pytest.mark.parametrize("value", [b"", b"gzip", b"gzip, chunked", b"note"])
def test_transfer_encoding_that_envoy_lets_nobody_take_off(value: bytes) -> None:
    with pytest.raises(BadHeaders, match="transfer_encoding"):
        read_head((*_without("content-length"), ("transfer-encoding", value)), attributes())


# The status --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "status"), [(b"200", 200), (b"101", 101), (b"599", 599)])
def test_status(value: bytes, status: int) -> None:
    assert status_of(((":status", value),)) == status


@pytest.mark.parametrize(
    "value", [b"", b"abc", b"20", b"2000", b"099", b"600", b"999", b"-20", b"\xb2\xb2\xb2", b"200 ", b"200\n"]
)
def test_no_status(value: bytes) -> None:
    """Zero is never released."""
    assert status_of(((":status", value),)) == 0
    assert status_of(()) == 0
