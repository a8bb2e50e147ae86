"""Finding: contexts, hidden texts, base64, windows, and how overlapping spans become one."""

from __future__ import annotations

import base64

import pytest

from ext_proc.model import Span
from ext_proc.redaction.detect import merged, scan, scan_all

MAIL = "bob@example.org"


def found(text: str, context: str = "") -> list[tuple[str, str]]:
    return [(span.entity, text[span.start : span.end]) for span in scan(text, context)]


def test_nothing() -> None:
    assert scan("") == scan("plain words") == []


@pytest.mark.parametrize(
    ("text", "context", "entity"),
    [
        ("123456789", "ssn", "US_SSN"),
        ("123456789", "customer_ssn_number", "US_SSN"),
        ("2125550123", "mobilePhone", "PHONE"),
        ("1980-02-03", "birth-date", "DATE_OF_BIRTH"),
        ("1980-02-03", "dob", "DATE_OF_BIRTH"),
        ("X1234567", "passport_no", "PASSPORT"),
        ("D1234567", "driver_license", "DRIVER_LICENSE"),
        ("hunter2", "password", "SECRET_PASSWORD"),
        ("two words", "db-password", "SECRET_PASSWORD"),
        ("abc123def", "apiKey", "SECRET_PASSWORD"),
    ],
)
def test_the_key_says_what_it_is(text: str, context: str, entity: str) -> None:
    assert found(text, context) == [(entity, text)]
    assert found(text, "note") == []


def test_a_placeholder_as_a_key_says_nothing() -> None:
    assert found("123456789", "[US_SSN]") == found("123456789", "[US_SSN:abcdefgh]") == []
    assert found("123456789", "[US_SSN] ssn") == [("US_SSN", "123456789")]


def test_offsets_do_not_count_the_key() -> None:
    assert found(f"mail {MAIL} or call", "phone") == [("EMAIL", MAIL)]


@pytest.mark.parametrize(
    "key", ["x" * 100_000 + "_password", "password_" + "x" * 100_000, "x" * 999 + "password" + "y" * 999]
)
def test_a_long_key_still_tells(key: str) -> None:
    assert found("hunter2", "password") == [("SECRET_PASSWORD", "hunter2")]
    assert (found("hunter2", key) == [("SECRET_PASSWORD", "hunter2")]) is key.endswith("password")


@pytest.mark.parametrize(
    "text",
    [
        "bob\u200b@\u200bexample.org",
        "bob\x00@example.org",
        "bob&#64;example.org",
        "bob%40example.org",
        r"bob\u0040example.org",
        r"bob\\\u0040example.org",
        "\uff42\uff4f\uff42\uff20\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0e\uff4f\uff52\uff47",
        "b\u043eb@ex\u0430mple.org",
        r"bob\@example\.org",
    ],
)
def test_hidden_text_is_taken_whole(text: str) -> None:
    assert found(f"to {text} now") == [("EMAIL", text)]


def test_hidden_number() -> None:
    assert found("card \uff14\uff11\uff11\uff11\u00a01111\u20091111\u202f\u0661\u0661\u0661\u0661!") == [
        ("PAYMENT_CARD", "\uff14\uff11\uff11\uff11\u00a01111\u20091111\u202f\u0661\u0661\u0661\u0661")
    ]


def encoded(said: str) -> str:
    return base64.b64encode(said.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        encoded(f"mail {MAIL}"),
        encoded(f'{{"to":"{MAIL}"}}\n'),
        encoded(f"größe {MAIL} ¿"),
        base64.urlsafe_b64encode(f"??>>~~ {MAIL}".encode()).decode(),
        encoded(f"mail {MAIL}").rstrip("="),
        base64.encodebytes(f"{'x ' * 50}{MAIL} {'y ' * 50}".encode()).decode().strip(),
    ],
)
def test_base64(text: str) -> None:
    assert found(f"see {text} there") == [("EMAIL", text)]
    assert found(f"data={text}") == [("EMAIL", text)]


def test_base64_glued_to_a_path() -> None:
    run = encoded("mail bob@example.org!!").rstrip("=")
    assert run.isalnum()
    assert found(f"/v1/{run}") == [("EMAIL", run)] or found(f"/v1/{run}") == [("EMAIL", f"/v1/{run}")]


@pytest.mark.parametrize("text", [encoded("nothing to see here at all"), "internationalization", "A" * 5000, "/" * 40])
def test_innocent_base64(text: str) -> None:
    assert found(text) == []


def test_open_ended_values_go_on_beyond_their_window() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "QUJD\n" * 20_000 + "-----END PRIVATE KEY-----"
    assert found(f"a {key} b") == [("SECRET_PEM", key)]
    token = "ghp_" + "a1" * 50_000
    assert found(f"a {token} b") == [("SECRET_GITHUB", token)]
    jwt = f"eyJ{'a' * 9000}.{'b' * 30_000}.{'c' * 3000}"
    assert found(f"a {jwt} b") == [("SECRET_JWT", jwt)]


def test_what_we_wrote_ourselves_is_not_found() -> None:
    for text in (
        "password: [SECRET_PASSWORD].",
        "password=[EMAIL:abcdefgh]",
        "driver license ****1234",
        "call ****0123",
    ):
        assert found(text) == []
    assert found("[SECRET_PASSWORD]", "password") == []


@pytest.mark.parametrize("said", ["[PHONE]", "[PHONE:abcdefgh]"])
def test_a_placeholder_announces_nothing(said: str) -> None:
    """Else what stands after it is masked when a whole text is looked at again, and goes on in a stream."""
    assert found(f"{said} or 5550199") == []
    assert found("phone 5550199") == [("PHONE", "5550199")]
    assert found(f"{said}, phone 5550199") == [("PHONE", "5550199")]


@pytest.mark.parametrize("around", ["{}", "[a] {}", "<b> {}", "{} [a]", "[PHONE] {}"])
def test_a_token_announces_nothing_whatever_else_is_in_the_text(around: str) -> None:
    text = around.format("<BANK_ACCOUNT_QWRTZB> or 111222333")
    assert found(text) == []
    assert found(text.replace("<BANK_ACCOUNT_QWRTZB>", "bank account")) == [("BANK_ACCOUNT", "111222333")]


def test_what_only_looks_like_ours_is_found() -> None:
    assert found("password: [HUNTER2]") == [("SECRET_PASSWORD", "[HUNTER2]")]
    assert found("password: [EMAIL]hunter2") == [("SECRET_PASSWORD", "[EMAIL]hunter2")]
    assert found("driver license ****D1234567") == [("DRIVER_LICENSE", "D1234567")]
    assert found("driver license **D1234567**") == [("DRIVER_LICENSE", "D1234567")]


def span(start: int, end: int, entity: str = "EMAIL", score: float = 0.5) -> Span:
    return Span(start, end, entity, entity.lower(), score)


def test_merging() -> None:
    assert merged([]) == []
    assert merged([span(0, 2), span(2, 4)]) == [span(0, 2), span(2, 4)]
    assert merged([span(5, 9), span(0, 2)]) == [span(0, 2), span(5, 9)]
    assert merged([span(0, 4), span(2, 8, "PHONE", 0.9)]) == [Span(0, 8, "PHONE", "phone", 0.9)]
    assert merged([span(0, 9, "PHONE", 0.9), span(2, 4, "SECRET_JWT", 0.1)]) == [
        Span(0, 9, "SECRET_JWT", "secret_jwt", 0.1)
    ]
    assert merged([span(0, 4), span(3, 6), span(5, 9)]) == [span(0, 9)]
    assert merged([span(0, 9), span(1, 2), span(8, 12)]) == [span(0, 12)]


def test_overlapping_finds_become_one() -> None:
    text = "postgres://app:hunter2@db.example.org/x"
    assert found(text) == [("URL_CREDENTIALS", "postgres://app:hunter2@db.example.org")]


def test_many_at_once_as_one_by_one() -> None:
    texts = [("a", ""), (MAIL, ""), ("hunter2", "password"), ("x" * 100, ""), (f"{'x ' * 60}{MAIL}", ""), ("", "")]
    assert scan_all(texts) == [scan(text, context) for text, context in texts]
    assert scan_all([("a", ""), ("b", "")]) == [[], []]
    assert scan_all([]) == []


def test_texts_looked_at_together_do_not_run_into_each_other() -> None:
    assert scan_all([("4111 1111", ""), ("1111 1111", ""), ("bob@", ""), ("example", "")]) == [[], [], [], []]
