"""The checks, by numbers whose arithmetic is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.redaction import check_digits, check_phones, check_secrets
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
        ("+1-212-555-0123x123", 19),
        ("001-123-456-7890x123", 20),
        ("0044 20 7946 0958", 17),
        ("+46 (0)8 123 456 78", 19),
        ("+999 123456789", 0),
        ("+0000000000", 0),
        ("+1 2", 0),
    ],
)
def test_phone_international(text: str, length: int) -> None:
    assert check_phones.phone_international(text) == length


@pytest.mark.parametrize(
    ("text", "length"),
    [("212-555-0123", 12), ("123-456-7890", 12), ("(123)456-7890x12", 16), ("1-212-555-0123", 14), ("100 200 3000", 0), ("000-000-0000", 0)],
)  # fmt: skip
def test_phone_grouped(text: str, length: int) -> None:
    assert check_phones.phone_grouped(text) == length


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("84 23 30", 8), ("2125550123", 10), ("030 901820", 10), ("212 555 0123 ext. 12", 20), ("12345", 0), ("2024-05-06", 0),
        ("06/05/2024", 0), ("2019-2024", 0), ("20240506", 0), ("10.20.30.40", 0), ("1" * 10, 0), ("2024-05-06 12 30 00", 0),
    ],
)  # fmt: skip
def test_phone_in_context(text: str, length: int) -> None:
    assert check_phones.phone_in_context(text) == length


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
    "text", ["hunter2", "a-b-c-d", "Tr0ub4dor&3", "P@ss(word1", "correct-horse-battery", "s3cr3t-value", "[HUNTER2]", "a1b2c3d4", "Xy!zw"]
)  # fmt: skip
def test_password(text: str) -> None:
    assert check_secrets.password(text) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "required", "REQUIRED", "Required", "Required.", "123456", "******", "xxxx-xxxx", "os.getenv(", "os.environ[", "settings.TOKEN",
        "config.api_key)", "getpass()", "api_key", "DB_PASSWORD", "userPassword", "${DB_PASSWORD}", "$TOKEN", "{{token}}", "<token>",
        "%(password)s", "None", "null,", "Bearer", "self.password", "request.headers[", "your_api_key_1", "process.env.TOKEN",
    ],
)  # fmt: skip
def test_no_password(text: str) -> None:
    assert check_secrets.password(text) == 0


@pytest.mark.parametrize(
    ("text", "is_one"), [("a1", True), ("aaaa", False), ("1111", False), ("--__", False), ("", False)]
)
def test_token(text: str, is_one: bool) -> None:
    assert bool(check_secrets.token(text)) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a1B2c3D4e5F6g7H8", True),
        ("abababab11111111", False),
        ("internationalization", False),
        ("your_api_key_12345", False),
    ],
)
def test_random(text: str, is_one: bool) -> None:
    assert bool(check_secrets.random(text)) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"), [("YTpi", True), ("YWI=", False), ("YWI", False), ("!!!!", False), ("YTpiY", False)]
)
def test_basic(text: str, is_one: bool) -> None:
    assert bool(check_secrets.basic(text)) is is_one


DIGITS = {
    "luhn": "046454286", "nhs": "9434765919", "de_tax_id": "86095742719", "pl_pesel": "44051401359",
    "nl_bsn": "111222333", "fr_nir": "184127645108946", "pt_nif": "123456789", "ean13": "7569217076985",
    "at_social_security": "1237010180", "br_cpf": "52998224725", "verhoeff": "234123412346", "au_tfn": "123456782",
    "cn_resident_id": "11010519491231002X", "jp_my_number": "123456789018", "tr_tckn": "10000000146",
    "aba_routing": "021000021", "clabe": "032180000118359719", "npi": "1234567893", "no_fodselsnummer": "15108695088",
    "be_national_number": "85073003328", "se_personnummer": "8112189876",
}  # fmt: skip


@pytest.mark.parametrize("name", DIGITS)
def test_one_wrong_digit_is_noticed(name: str) -> None:
    """What a check digit is for: published examples pass, and no other first nine digits in their last place do."""
    one, is_one = DIGITS[name], getattr(check_digits, name)
    assert is_one(one) == len(one)
    others = [one[:-1] + last for last in "0123456789" if last != one[-1]]
    assert [other for other in others if is_one(other)] == []


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("es_dni", "12345678Z", "12345678A"), ("es_dni", "X1234567L", "X1234567M"), ("fi_hetu", "131052-308T", "131052-308U"),
        ("it_codice_fiscale", "RSSMRA85T10A562S", "RSSMRA85T10A562T"), ("ie_pps", "1234567T", "1234567A"),
        ("cl_rut", "12.345.678-5", "12.345.678-K"), ("sg_nric", "S1234567D", "S1234567A"), ("sg_nric", "F1234567N", "F1234567D"),
        ("de_social_security", "15070649C103", "15070649C104"), ("dea", "AB1234563", "AB1234560"),
        ("base58check", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),
        ("bech32", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
        ("bech32", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj1"),
        ("au_medicare", "2123456701", "2123456711"),
    ],
)  # fmt: skip
def test_check_characters(name: str, text: str, wrong: str) -> None:
    is_one = getattr(check_digits, name)
    assert is_one(text) == len(text)
    assert is_one(wrong) == 0
