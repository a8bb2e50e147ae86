"""The checks, by numbers whose arithmetic is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.redaction import validators as check


def luhn(digits: str) -> bool:
    """Written from ISO/IEC 7812-1 annex B, independently of the code: from the right, every second digit doubled."""
    total = 0
    for index, digit in enumerate(int(char) for char in digits[::-1]):
        total += digit if index % 2 == 0 else sum(divmod(digit * 2, 10))
    return total % 10 == 0


@settings(deadline=None)
@given(st.from_regex(r"[2-6][0-9]{12,18}", fullmatch=True))
def test_card_is_luhn(digits: str) -> None:
    assert bool(check.payment_card(digits)) is (luhn(digits) and len(set(digits)) > 1)


@pytest.mark.parametrize("first", "23456")
@pytest.mark.parametrize("length", range(13, 20))
def test_generated_cards(first: str, length: int) -> None:
    body = first + "".join(random.Random(f"{first}{length}").choices("0123456789", k=length - 2))
    number = next(body + last for last in "0123456789" if luhn(body + last))
    grouped = " ".join(number[at : at + 4] for at in range(0, length, 4))
    assert check.payment_card(number) == length
    assert check.payment_card(f"{grouped} 12") in (len(grouped), len(grouped) + 3)
    assert check.payment_card(number[:-1] + str((int(number[-1]) + 1) % 10)) == 0


@pytest.mark.parametrize("text", ["4" * 16, "1111111111111117", "411111111111", "41111111111111111111"])
def test_no_cards(text: str) -> None:
    assert check.payment_card(text) == 0


@pytest.mark.parametrize("country", sorted(check._IBAN_LENGTHS))
def test_generated_ibans(country: str) -> None:
    body = "".join(random.Random(country).choices("0123456789ABCDEFGHIJ", k=check._IBAN_LENGTHS[country] - 4))
    turned = "".join(str(int(char, 36)) for char in f"{body}{country}00")
    number = f"{country}{98 - int(turned) % 97:02d}{body}"
    assert check.iban(number) == len(number)
    assert check.iban(number.lower() + " and") == len(number)
    assert check.iban(number[:-1]) == 0
    wrong = number[:2] + f"{(int(number[2:4]) + 1) % 100:02d}" + number[4:]
    assert check.iban(wrong) == 0


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("+12125550123", 12),
        ("+1 212 555 0123 2024", 15),
        ("212-555-0123", 12),
        ("2125550123", 10),
        ("0044 20 7946 0958", 17),
        ("+999 123456789", 0),
        ("123-456-7890", 0),
        ("1" * 16, 0),
        ("555", 0),
        ("", 0),
    ],
)
def test_phone(text: str, length: int) -> None:
    assert check.phone(text) == length


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("203.0.113.9", True), ("256.1.1.1", False), ("127.0.0.1", False), ("0.0.0.0", False), ("2001:db8::1", True),
        ("::1", False), ("::", False), ("::2", False), ("1::2", False), ("::ffff:203.0.113.9", False), ("fe80::1", True),
        ("1:2:3:4:5:6:7:8", True), ("12:34:56", False),
    ],
)  # fmt: skip
def test_ip(text: str, is_one: bool) -> None:
    assert bool(check.ip(text)) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("hunter2", True), ("required", False), ("REQUIRED", False), ("123456", False), ("Required", True), ("a-b-c-d", True), ("******", False), ("xxxx-xxxx", False), ("required.", False)],
)  # fmt: skip
def test_password(text: str, is_one: bool) -> None:
    assert bool(check.password(text)) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"), [("a1", True), ("aaaa", False), ("1111", False), ("--__", False), ("", False)]
)
def test_token(text: str, is_one: bool) -> None:
    assert bool(check.token(text)) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"), [("YTpi", True), ("YWI=", False), ("YWI", False), ("!!!!", False), ("YTpiY", False)]
)
def test_basic(text: str, is_one: bool) -> None:
    assert bool(check.basic(text)) is is_one
