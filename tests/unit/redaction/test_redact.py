"""What is done about a span, by rule and direction."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest

from ext_proc.model import Action, RedactionRule
from ext_proc.redaction import BUILT_IN, RULES_VERSION, Redactor, merged, scan
from ext_proc.redaction.redact import action_for

KEY = b"k" * 32
REDACTOR = Redactor(KEY)
SECRET = "ghp_" + "a1B2" * 9


def rules(**actions: str) -> tuple[RedactionRule, ...]:
    return tuple(RedactionRule("*" if name == "any" else name, Action(action)) for name, action in actions.items())


def after(text: str, given: tuple[RedactionRule, ...], context: str = "") -> str:
    made = REDACTOR.edits("/x", text, scan(text, context), given, context)
    for edit in reversed(made.edits):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


def test_no_rule_means_mask() -> None:
    assert after("to bob@example.org", ()) == "to [EMAIL]"
    assert after("to bob@example.org", rules(PHONE="drop")) == "to [EMAIL]"


@pytest.mark.parametrize(
    ("action", "left"),
    [
        ("mask", "to [EMAIL]!"),
        ("drop", "to !"),
        ("partial", "to ****.org!"),
        ("block", "to [EMAIL]!"),
        ("allow", "to bob@example.org!"),
    ],
)
def test_each_action(action: str, left: str) -> None:
    made = REDACTOR.edits("/messages/0", "to bob@example.org!", scan("to bob@example.org!"), rules(EMAIL=action))
    assert after("to bob@example.org!", rules(EMAIL=action)) == left
    assert made.blocked == (("EMAIL",) if action == "block" else ())
    removed = [
        (one.channel, one.start, one.end, one.entity, one.rule, one.version, one.action) for one in made.removals
    ]
    expected = [("/messages/0", 3, 18, "EMAIL", "email", RULES_VERSION, Action(action))]
    assert removed == ([] if action == "allow" else expected)


def test_hash_is_keyed_and_stable() -> None:
    digest = hmac.new(KEY, b"EMAIL\0bob@example.org", hashlib.sha256).hexdigest()[:8]
    letters = digest.translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
    assert after("bob@example.org", rules(EMAIL="hash")) == f"[EMAIL:{letters}]"
    other = Redactor(b"j" * 32).edits("", "bob@example.org", scan("bob@example.org"), rules(EMAIL="hash"))
    assert re.fullmatch(r"\[EMAIL:[a-p]{8}\]", other.edits[0].replacement)
    assert other.edits[0].replacement != f"[EMAIL:{letters}]"
    assert after("bob@example.org ann@example.org", rules(EMAIL="hash")).count(letters) == 1


def test_hash_of_any_text() -> None:
    assert re.fullmatch(r"\[EMAIL:[a-p]{8}\] \ud800", after("bo\u200bb@example.org \ud800", rules(EMAIL="hash")))


def test_short_values_are_never_shown_in_part() -> None:
    assert after("passport 123456", rules(PASSPORT="partial")) == "passport [PASSPORT]"
    assert after("passport 12345678", rules(PASSPORT="partial")) == "passport ****5678"


@pytest.mark.parametrize("action", ["mask", "hash", "partial", "allow"])
@pytest.mark.parametrize("entity", ["SECRET_GITHUB", "any"])
def test_a_secret_is_never_shown(action: str, entity: str) -> None:
    assert after(f"k {SECRET}", rules(**{entity: action})) == "k [SECRET_GITHUB]"
    url = "https://u:hunter2@example.org/"
    assert after(url, rules(**{entity.replace("SECRET_GITHUB", "URL_CREDENTIALS"): action})) == "[URL_CREDENTIALS]/"


def test_a_secret_may_be_dropped_or_blocked() -> None:
    assert after(f"k {SECRET}.", rules(any="drop")) == "k ."
    made = REDACTOR.edits("", SECRET, scan(SECRET), rules(SECRET_GITHUB="block"))
    assert made.blocked == ("SECRET_GITHUB",)


def test_the_named_rule_goes_before_any() -> None:
    assert action_for("EMAIL", rules(any="block", EMAIL="drop")) is Action.DROP
    assert action_for("PHONE", rules(any="block", EMAIL="drop")) is Action.BLOCK
    assert action_for("PHONE", ()) is Action.MASK


@pytest.mark.parametrize("action", ["drop", "hash", "mask", "partial"])
def test_taking_out_does_not_join_what_was_apart(action: str) -> None:
    text = "4111 1111 1111 bob@example.org1111"
    left = after(text, rules(EMAIL=action))
    assert not scan(left)
    assert after(left, rules(EMAIL=action)) == left


@pytest.mark.parametrize("action", ["hash", "mask", "partial", "tokenise"])
def test_of_all_that_goes_at_the_last_look_nothing_is_shown(action: str) -> None:
    """Each value shows once the one before it is gone; of the rest, the end may be anything."""
    text = "my 078-05-1120" + "DE89370400440532013000" * 2 + "4111111111111111, and the rest: 9876"
    made = REDACTOR.edits("", text, scan(text), rules(PAYMENT_CARD=action))
    assert after(text, rules(PAYMENT_CARD=action)) == "my [US_SSN][IBAN][IBAN][PAYMENT_CARD]"
    assert (made.removals[-1].end, made.removals[-1].action) == (len(text), Action.MASK)


def test_an_allowed_dress_hides_nothing() -> None:
    """A card number written as an address is still a card number where addresses are allowed."""
    assert "4111" not in after("4111111111111111@example.org", rules(EMAIL="allow"))
    assert after("bob@example.org", rules(EMAIL="allow")) == "bob@example.org"
    assert after(f"{SECRET}@example.org", rules(EMAIL="allow")).startswith("[SECRET_GITHUB]")


def test_what_the_key_said_counts_when_looking_again() -> None:
    assert after("hunter2", (), "password") == "[SECRET_PASSWORD]"


@pytest.mark.parametrize("action", ["mask", "drop"])
@pytest.mark.parametrize("last", ["", ".", " bob@example.org"])
def test_what_is_left_of_each_part_is_looked_at_by_itself(action: str, last: str) -> None:
    """The number is near enough to its word once the address between them is gone: in the part, not in the whole."""
    parts = ["bob@example.org is who we re", "call: by mail to bobby.miller@example.org, 2125550123", last]
    text, given = "".join(parts), rules(EMAIL=action)
    cuts = [sum(map(len, parts[: number + 1])) for number in range(3)]
    assert "2125550123" in after(parts[0] + parts[1], given), "the word is none behind another's letters"
    assert "2125550123" not in after(parts[1], given)
    found = merged([*scan(text), *BUILT_IN.scan_parts(text, "", cuts)])
    made = REDACTOR.edits("/x", text, found, given, cuts=cuts)
    assert [one.entity for one in made.removals if one.rule == "phone-in-context"] == ["PHONE"]
    for edit in reversed(made.edits):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    assert "2125550123" not in text and "bob" not in text
