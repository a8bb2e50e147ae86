"""The element that Envoy writes about a client certificate."""

from __future__ import annotations

import pytest

from ext_proc.errors import BadToken
from ext_proc.identity.certificate import identify, read_element

HASH = "ab" * 32
FULL = (
    f'By=spiffe://acme/gateway;Hash={HASH};Subject="CN=\\"ada\\", O=Acme; Inc.";'
    "URI=spiffe://acme/ns/a/sa/ada;DNS=ada.example.com;DNS=ada2.example.com"
)


def test_element() -> None:
    assert read_element(FULL) == {
        "by": ["spiffe://acme/gateway"],
        "hash": [HASH],
        "subject": ['CN="ada", O=Acme; Inc.'],
        "uri": ["spiffe://acme/ns/a/sa/ada"],
        "dns": ["ada.example.com", "ada2.example.com"],
    }


@pytest.mark.parametrize(
    ("order", "subject"),
    [
        (("uri", "dns"), "spiffe://acme/ns/a/sa/ada"),
        (("dns", "uri"), "ada.example.com"),
        (("subject",), 'CN="ada", O=Acme; Inc.'),
    ],
)
def test_subject_by_preference(order: tuple[str, ...], subject: str) -> None:
    identity = identify(FULL, "corp", order)
    assert (identity.issuer, identity.subject, identity.method) == ("mtls:corp", subject, "mtls")
    assert (identity.token_id, identity.groups, identity.expires_at) == (HASH, (), None)


def test_next_name_where_the_first_is_missing() -> None:
    assert identify("URI=;DNS=ada.example.com", "corp", ("uri", "dns")).subject == "ada.example.com"


@pytest.mark.parametrize(
    ("element", "word"),
    [
        (f"Hash={HASH}", "certificate_unnamed"),
        ("", "certificate_unnamed"),
        ("URI=spiffe://a;URI=spiffe://b", "certificate_ambiguous"),
        ("URI=spiffe://a,URI=spiffe://b", "certificate_malformed"),
        ("URI", "certificate_malformed"),
        ('Subject="CN=a', "certificate_malformed"),
        ('Subject="CN=a"URI=spiffe://b', "certificate_malformed"),
        ("URI=spiffe://\x00a", "certificate_malformed"),
        ("URI=spiffe://é", "certificate_malformed"),
        ("URI=" + "a" * 9000, "certificate_malformed"),
    ],
)
def test_refused(element: str, word: str) -> None:
    with pytest.raises(BadToken) as caught:
        identify(element, "corp", ("uri", "dns"))
    assert caught.value.detail == word
