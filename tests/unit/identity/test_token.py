"""Tokens: what verifies, and each way of not verifying. Keys at hand, no network, no clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from jwt.algorithms import RSAAlgorithm

from ext_proc.errors import BadToken, ConfigError
from ext_proc.identity import token
from ext_proc.identity.token import ClaimNames, Trust, Unverified, choose, read_keys, read_unverified, verify
from tests.fakes.issuer import AUDIENCE, part, private_key, sign, sign_by_hand

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
ISSUER = "https://idp.example.com"
TRUST = Trust(ISSUER, (AUDIENCE, "other"), ("RS256", "ES256"))
PLANTED = "planted-claim-7f3a"


def claims(**changes: Any) -> dict[str, Any]:
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": AT, "nbf": AT, "exp": AT + 600, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def public(algorithm: str, name: str) -> token.VerificationKey:
    [key] = read_keys({"keys": [private_key(algorithm, name).as_dict(private=False)]})
    return key


def made(algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    key = private_key(algorithm, f"{algorithm}-1")
    return sign(key, algorithm, claims(**changes), {"kid": f"{algorithm}-1", **(header or {})})


def checked(shown: str, algorithm: str = "RS256", trust: Trust = TRUST, now: datetime = NOW) -> Any:
    said = read_unverified(shown)
    key = choose([public(algorithm, f"{algorithm}-1")], said)
    assert key is not None
    return verify(shown, said, key, trust, now)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # the name, RFC 9864; issuers still use it
@pytest.mark.parametrize("algorithm", sorted(token.ALGORITHMS))
def test_every_algorithm_verifies(algorithm: str) -> None:
    trust = Trust(ISSUER, (AUDIENCE,), (algorithm,))
    identity = checked(made(algorithm), algorithm, trust)
    assert (identity.issuer, identity.subject, identity.method) == (ISSUER, "ada", "oidc")
    assert identity.expires_at == NOW + timedelta(seconds=600)


def test_claims_become_an_identity() -> None:
    shown = made(groups=["b", "a", "b", 7, ""], azp="notebook", tid="acme", jti="t-1")
    identity = checked(shown)
    assert identity.groups == ("a", "b")
    assert (identity.client, identity.tenant, identity.token_id) == ("notebook", "acme", "t-1")


def test_one_group_as_a_text() -> None:
    assert checked(made(groups="analysts")).groups == ("analysts",)


@pytest.mark.parametrize("groups", [None, 7, {"a": 1}, [["a"]], ""])
def test_groups_of_another_kind_grant_nothing(groups: Any) -> None:
    assert checked(made(groups=groups)).groups == ()


def test_a_path_walks_into_objects() -> None:
    names = ClaimNames(
        subject=("kubernetes.io", "serviceaccount", "name"),
        groups=("realm_access", "roles"),
        tenant=("org", "id"),
    )
    trust = Trust(ISSUER, (AUDIENCE,), ("RS256",), claims=names)
    nested: dict[str, Any] = {"kubernetes.io": {"serviceaccount": {"name": "bot"}}}
    shown = made(
        sub="system:serviceaccount:ns:bot",
        realm_access={"roles": ["analysts"]},
        org={"name": "no id"},
        **nested,
    )
    identity = checked(shown, trust=trust)
    assert (identity.subject, identity.groups, identity.tenant) == ("bot", ("analysts",), None)
    for org in ("not an object", ["acme"], 7, None, {"id": 7}, {"id": {"id": "acme"}}):
        shown = _signed_raw(claims(sub="x", org=org, **nested) | {"org": org})
        with pytest.raises(BadToken, match="tenant"):
            checked(shown, trust=trust)


@pytest.mark.parametrize(
    ("changes", "seconds", "word"),
    [
        ({"exp": AT - 31}, 0, "expired"),
        ({"exp": AT - 30}, 0, "expired"),
        ({"nbf": AT + 31}, 0, "not_yet_valid"),
        ({"iat": AT + 31}, 0, "issued_at"),
        ({"exp": None}, 0, "claim_missing"),
        ({"sub": None}, 0, "claim_missing"),
        ({"sub": ""}, 0, "subject"),
        ({"sub": 7}, 0, "subject"),
        ({"sub": "\ud800"}, 0, "malformed"),
        ({"groups": ["\ud800"]}, 0, "malformed"),
        ({"tid": 7}, 0, "tenant"),
        ({"tid": ["acme"]}, 0, "tenant"),
        ({"tid": {"acme": 1}}, 0, "tenant"),
        ({"tid": False}, 0, "tenant"),
        ({"tid": ""}, 0, "tenant"),
        ({"tid": "\ud800"}, 0, "malformed"),
        ({"aud": "another"}, 0, "audience"),
        ({"aud": None}, 0, "claim_missing"),
        ({"aud": []}, 0, "claim_missing"),
        ({"aud": {"affidavit": 1}}, 0, "audience"),
        ({"iss": ISSUER + "/"}, 0, "issuer"),
        ({"exp": "soon"}, 0, "time_malformed"),
        ({"exp": True}, 0, "time_malformed"),
        ({"exp": float("nan")}, 0, "time_malformed"),
        ({"exp": 10**12}, 0, "time_malformed"),
        ({"nbf": "never"}, 0, "time_malformed"),
        ({"iat": -1}, 0, "time_malformed"),
        ({}, 700, "expired"),
    ],
)
def test_claims_that_do_not_hold(changes: dict[str, Any], seconds: int, word: str) -> None:
    shown = _signed_raw(claims(**changes))
    with pytest.raises(BadToken) as caught:
        checked(shown, now=NOW + timedelta(seconds=seconds))
    assert caught.value.detail == word


def _signed_raw(whole: dict[str, Any]) -> str:
    """Signed by hand: joserfc would refuse to make some of these."""
    key = private_key("RS256", "RS256-1")
    signed = f"{part({'alg': 'RS256', 'kid': 'RS256-1'})}.{part(whole)}"
    signature = key.private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{part(signature)}"


def test_leeway_is_granted_and_stated() -> None:
    shown = made(exp=AT - 29, nbf=AT + 29, iat=AT + 29)
    assert checked(shown).subject == "ada"
    with pytest.raises(BadToken, match="expired"):
        checked(shown, trust=Trust(ISSUER, (AUDIENCE,), ("RS256",), leeway_seconds=0))


def test_several_audiences() -> None:
    assert checked(made(aud=["x", "other"])).subject == "ada"


def test_optional_times() -> None:
    assert checked(made(nbf=None, iat=None)).subject == "ada"


def test_unsecured_token() -> None:
    for name in ("none", "None", "NONE"):
        for signature in ("", "AAAA"):
            with pytest.raises(BadToken):
                read_unverified(f"{part({'alg': name})}.{part(claims())}.{signature}")


def test_hmac_with_the_public_key() -> None:
    key = private_key("RS256", "RS256-1")
    pem = key.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("HS256", "RS256"):
        shown = sign_by_hand(pem, {"alg": algorithm, "kid": "RS256-1"}, claims())
        with pytest.raises(BadToken) as caught:
            checked(shown)
        assert caught.value.detail == ("algorithm" if algorithm == "HS256" else "signature")


@pytest.mark.parametrize("name", ["jwk", "jku", "x5c", "x5u", "crit"])
def test_tokens_that_bring_a_key(name: str) -> None:
    header = {"alg": "RS256", "kid": "RS256-1", name: ["exp"] if name == "crit" else "http://127.0.0.1:9/k"}
    with pytest.raises(BadToken, match="brings_a_key"):
        read_unverified(f"{part(header)}.{part(claims())}.AAAA")


@pytest.mark.parametrize(
    "shown",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "é.b.c",
        "a b.c.d",
        "a=.b.c",
        "a.b.c\n",
        f"{part(b'[]')}.{part({})}.AA",
        f"{part({'alg': 'RS256'})}.{part(b'[]')}.AA",
        f"{part({'alg': 'RS256'})}.{part(b'nonsense')}.AA",
        f"{part({'alg': 'RS256'})}.{part(b'[' * 9000)}.AA",
        f"{part({'alg': 'RS256'})}.{part({'iss': 7})}.AA",
        f"{part({'alg': 'RS256', 'kid': 7})}.{part({'iss': ISSUER})}.AA",
        f"{part({'alg': ['RS256']})}.{part({'iss': ISSUER})}.AA",
        f"{part({})}.{part({'iss': ISSUER})}.AA",
        f"{part(bytes([255, 254]))}.{part({'iss': ISSUER})}.AA",
    ],
)
def test_malformed(shown: str) -> None:
    with pytest.raises(BadToken):
        read_unverified(shown)


def test_one_megabyte() -> None:
    with pytest.raises(BadToken, match="too_large"):
        read_unverified("a." * 524_288)


def test_algorithm_is_the_issuers_choice() -> None:
    shown = made("RS512")
    with pytest.raises(BadToken, match="algorithm"):
        checked(shown, "RS512")


def test_key_must_fit() -> None:
    said = Unverified(ISSUER, "ES256-1", "RS256")
    with pytest.raises(BadToken, match="key_unfit"):
        choose([public("ES256", "ES256-1")], said)
    with pytest.raises(BadToken, match="key_unfit"):
        verify(made(), said, public("ES256", "ES256-1"), TRUST, NOW)
    bound = public("RS256", "RS256-1")
    assert not bound.fits("RS512")
    assert not bound.fits("PS256")
    assert not public("ES384", "ES384-1").fits("ES256")


def test_key_must_be_named_among_several() -> None:
    keys = [public("RS256", "RS256-1"), public("ES256", "ES256-1")]
    with pytest.raises(BadToken, match="key_not_named"):
        choose(keys, Unverified(ISSUER, None, "RS256"))
    assert choose(keys[:1], Unverified(ISSUER, None, "RS256")) is keys[0]
    assert choose(keys, Unverified(ISSUER, "rsa-9", "RS256")) is None
    assert choose([], Unverified(ISSUER, None, "RS256")) is None


def test_another_key_of_the_same_name() -> None:
    shown = sign(private_key("RS256", "impostor"), "RS256", claims(), {"kid": "RS256-1"})
    with pytest.raises(BadToken, match="signature"):
        checked(shown)


def test_unusable_keys_are_passed_over() -> None:
    good = private_key("RS256", "RS256-1").as_dict(private=False)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    small = json.loads(RSAAlgorithm.to_jwk(weak))
    listed: list[Any] = [
        "text",
        {},
        small,
        {"kty": "oct", "k": "AAAA"},
        {**good, "use": "enc"},
        {**good, "alg": "HS256"},
        {**good, "alg": 7},
        {**good, "kid": ["a"]},
        {**good, "key_ops": ["sign"]},
        {**good, "key_ops": 1},
        {**good, "n": 7},
        {**good, "n": "!"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": part(bytes(32))},
        {"kty": ["RSA"]},
        good,
    ]
    [key] = read_keys({"keys": listed})
    assert key.key_id == "RS256-1"


def test_a_private_key_published_by_mistake_is_read_as_public() -> None:
    [key] = read_keys({"keys": [private_key("RS256", "RS256-1").as_dict(private=True)]})
    assert not hasattr(key.public, "private_numbers")


@pytest.mark.parametrize("document", [{}, {"keys": {}}, {"keys": None}])
def test_not_a_key_set(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="key set"):
        read_keys(document)


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), ("RS256", "HS512"), ("rs256",), ()])
def test_symmetric_algorithms_are_refused_in_the_configuration(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        Trust(ISSUER, (AUDIENCE,), algorithms)


@pytest.mark.parametrize("audiences", [(), ("",)])
def test_an_audience_is_needed(audiences: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        Trust(ISSUER, audiences, ("RS256",))


def test_no_claim_is_told() -> None:
    for changes in ({"aud": PLANTED}, {"iss": PLANTED}, {"exp": PLANTED}, {"sub": [PLANTED]}):
        with pytest.raises(BadToken) as caught:
            checked(_signed_raw(claims(**changes)))
        assert PLANTED not in repr(caught.value)
        assert caught.value.__cause__ is None
        assert PLANTED not in json.dumps([str(caught.value), caught.value.detail, caught.value.client_text])
