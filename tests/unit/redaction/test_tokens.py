"""`ext_proc.redaction.tokens`: their form, and what a model's way of writing them may be. More: `tests/laws/test_token_laws.py`."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ext_proc.model import Action, RedactionRule
from ext_proc.redaction import BUILT_IN, Redactor, Restorer, tokens

KNOWN = {"EMAIL_QWRTZB": "ada@example.net", "PHONE_BCDFGH": "+44 20 7946 0958", "EMAIL_BCDFGHJ": "bob@example.org"}


@pytest.mark.parametrize(
    ("said", "back"),
    [
        ("<EMAIL_QWRTZB>", "ada@example.net"),
        ("(<EMAIL_QWRTZB>)", "(ada@example.net)"),
        ("<<EMAIL_QWRTZB>>", "<ada@example.net>"),
        ("<email_qwrtzb>", "ada@example.net"),
        ("<Email_Qwrtzb>", "ada@example.net"),
        ("<EMAIL_QWRTZB and", "ada@example.net and"),
        ("<EMAIL_QWRTZB", "ada@example.net"),
        ("<EMAIL_QWRTZB.", "ada@example.net."),
        ("an EMAIL_QWRTZB> is", "an ada@example.net is"),
        ("< EMAIL_QWRTZB>", "< ada@example.net"),
        ("mailto:EMAIL_QWRTZB>", "mailto:ada@example.net"),
        ("<EMAIL_BCDFGHJ>", "bob@example.org"),
        ("<EMAIL_QWRTZB><PHONE_BCDFGH>", "ada@example.net+44 20 7946 0958"),
    ],
)  # fmt: skip
def test_understood(said: str, back: str) -> None:
    assert Restorer(KNOWN).restored(said) == back


@pytest.mark.parametrize(
    "said",
    [
        "EMAIL_QWRTZB", "<EMAIL_QWRTZ>", "<EMAIL_QWRTZBB>", "<EMAIL_QWRTZBs", "<EMAIL_QWRTZB_",
        "MY_EMAIL_QWRTZB>", "1EMAIL_QWRTZB>", "<PHONE_QWRTZB>", "<EMAIL_BCDFGH>", "<EMAIL-QWRTZB>", "<EMAIL_QWRTZ B>",
        "<XEMAIL_QWRTZB>", "<EMAIL__QWRTZB>", "<EMAIL_QWRT\u017fZB>", "<EMAI\u0141_QWRTZB>", "<EMAIL_\u212aWRTZB>", "",
        "<QWRTZB>", "<_QWRTZB>", "[EMAIL]", "<EMAIL>",
    ],
)  # fmt: skip
def test_not_understood(said: str) -> None:
    restorer = Restorer(KNOWN)
    assert restorer.restored(said) == said
    assert restorer.counts == () and restorer.edits(said) == []


def test_nothing_known_restores_nothing() -> None:
    assert Restorer({}).restored("<EMAIL_QWRTZB> <>") == "<EMAIL_QWRTZB> <>"


def test_a_model_that_says_a_token_for_ever_gets_no_more(monkeypatch: Any) -> None:
    monkeypatch.setattr(tokens, "RESTORED_MAX", 40)
    restorer = Restorer(KNOWN)
    assert restorer.restored("<EMAIL_QWRTZB> " * 3) == "ada@example.net ada@example.net <EMAIL_QWRTZB> "
    assert restorer.counts == (("EMAIL", 2),)


def test_names() -> None:
    name = tokens.name_of(b"k" * 32, "scope", "US_SSN", "078-05-1120", 6)
    assert re.fullmatch(rf"US_SSN_[{tokens.LETTERS}]{{6}}", name) and tokens.entity_of(name) == "US_SSN"
    assert tokens.name_of(b"k" * 32, "scope", "US_SSN", "078-05-1120", 9).startswith(name)
    others = {
        tokens.name_of(b"K" * 32, "scope", "US_SSN", "078-05-1120", 6),
        tokens.name_of(b"k" * 32, "other", "US_SSN", "078-05-1120", 6),
        tokens.name_of(b"k" * 32, "scope", "US_SSN", "078-05-1121", 6),
        tokens.name_of(b"k" * 32, "scope", "US_SSN", "\ud800", 6),
    }
    assert len(others) == 4 and name not in others
    assert tokens.name_of(b"k" * 32, "scope", "EMAIL", "078-05-1120", 6)[6:] != name[7:]


ANNOUNCED = (
    "", "passport number ", "swift code: ", "BIC ", "password: ", "token: ", "api_key=", "my card is ", "IFSC code ",
    "driver license ", "call me at ", "Authorization: Bearer ", "secret = ", "SSN ", "born on ", "session id ", "cookie: ",
)  # fmt: skip


@pytest.mark.parametrize("length", tokens.LENGTHS)
def test_no_rule_takes_a_token_for_a_value(length: int) -> None:
    """Whatever it is the token of, whatever is said before it, whatever it stands under."""
    for number, entity in enumerate(BUILT_IN.entities):
        token = tokens.written(tokens.name_of(b"k" * 32, "scope", entity, str(number), length))
        for words in ANNOUNCED:
            assert BUILT_IN.scan(f"Please: {words}{token}, and so on") == []
            assert BUILT_IN.scan(token, words.strip(" :=")) == []


@pytest.mark.parametrize(
    "around", ["<EMAIL_078-05-1120>", "<ada@example.net>", "<EMAIL_ada@example.net>", "<EMAIL_AKIAIOSFODNN7EXAMPLE>"]
)
def test_what_only_looks_like_a_token_is_looked_at(around: str) -> None:
    assert BUILT_IN.scan(around)


def test_a_secret_is_masked_whatever_the_rule_says() -> None:
    secret = "AKIA" + "IOSFODNN7EXAMPLE"
    rules = (RedactionRule("*", Action.TOKENISE),)
    minted = {(span.entity, secret): f"{span.entity}_QWRTZB" for span in BUILT_IN.scan(secret)}
    redactor = Redactor(b"k" * 32)
    assert list(redactor.tokenised(secret, BUILT_IN.scan(secret), rules)) == []
    made = redactor.edits("", secret, BUILT_IN.scan(secret), rules, minted=minted)
    assert [one.action for one in made.removals] == [Action.MASK] and "QWRTZB" not in made.edits[0].replacement


def test_first_of() -> None:
    many = [("EMAIL", f"{n}@example.net") for n in range(tokens.VALUES_MAX)]
    assert tokens.first_of([("EMAIL", "a"), ("PHONE", "a"), ("EMAIL", "a")]) == (("EMAIL", "a"), ("PHONE", "a"))
    assert tokens.first_of([("X", "x" * 1025), *many, ("EMAIL", "late")]) == tuple(many)
