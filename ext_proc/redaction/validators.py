"""Is a candidate what it looks like? Each check returns how many of its characters belong; 0 means no."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

import phonenumbers

_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_NOT_ALNUM: Final = re.compile(r"[^A-Za-z0-9]")
_PLACEHOLDER: Final = re.compile(r"\[[A-Z_]+(?::[0-9a-f]{8})?\]")

# ISO/IEC 7812 major industry identifiers that payment cards use.
_CARD_FIRST: Final = "23456"

# SWIFT IBAN registry: total length by country.
_IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SD": 18,
    "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22,
    "VG": 24, "XK": 20,
}  # fmt: skip


def always(text: str) -> int:
    """The pattern said enough."""
    return len(text)


def payment_card(text: str) -> int:
    """ISO/IEC 7812: 13 to 19 digits, Luhn's check digit."""
    digits = _NOT_DIGIT.sub("", text)
    is_card = 13 <= len(digits) <= 19 and digits[0] in _CARD_FIRST and len(set(digits)) > 1
    # Old JCB cards (2131, 1800) have 15 digits and may begin with 1.
    if not is_card and not (len(digits) == 15 and digits.startswith("1800")):
        return 0
    return len(text) if _luhn(digits) else 0


def _luhn(digits: str) -> bool:
    total = 0
    for position, char in enumerate(reversed(digits)):
        value = int(char) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(text: str) -> int:
    """ISO 13616: the country's length, remainder 1 modulo 97. What follows the number does not belong."""
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    compact = ""
    end = 0
    for end, char in enumerate(text, 1):  # noqa: B007 - the position is the result
        if char.isalnum():
            compact += char.upper()
        if len(compact) == length:
            break
    if not length or len(compact) != length:
        return 0
    turned = compact[4:] + compact[:4]
    return end if int("".join(str(int(char, 36)) for char in turned)) % 97 == 1 else 0


def phone(text: str) -> int:
    """A possible number of the numbering plan that its prefix names, the United States' where it has none."""
    digits = _NOT_DIGIT.sub("", text)
    if not 7 <= len(digits) <= 15:
        return 0
    try:
        number = phonenumbers.parse(text, None if text.startswith("+") else "US")
    except phonenumbers.NumberParseException:
        return 0
    return len(text) if phonenumbers.is_valid_number(number) or _is_fictional(digits) else 0


def _is_fictional(digits: str) -> bool:
    """555-01xx and the 555 area: not assigned, yet people's numbers are written like that in texts."""
    return "555" in digits[-10:-4] and len(digits) >= 10


def ip(text: str) -> int:
    """An address, version 4 or 6; not the unspecified or loopback one."""
    try:
        found = ip_address(text)
    except ValueError:
        return 0
    return 0 if found.is_unspecified or found.is_loopback else len(text)


def has_digits(text: str) -> int:
    """Document numbers: at least four digits."""
    return len(text) if sum(char.isdigit() for char in text) >= 4 else 0


def password(text: str) -> int:
    """Looks chosen: at least two kinds of characters, and not one of our own placeholders."""
    if _PLACEHOLDER.match(text) or set(text) <= set("*.x-_"):
        return 0
    kinds = (
        any(c.islower() for c in text),
        any(c.isupper() for c in text),
        any(c.isdigit() for c in text),
        any(not c.isalnum() for c in text.strip(".,;:!?()")),
    )
    return len(text) if sum(kinds) >= 2 else 0


def keyed_password(text: str) -> int:
    """The value of a key named ``password``: anything that is not a placeholder."""
    return 0 if _PLACEHOLDER.match(text) or set(text) <= set("*.x-_") else len(text)


def token(text: str) -> int:
    """Long random text: letters and digits both."""
    plain = _NOT_ALNUM.sub("", text)
    return len(text) if any(c.isdigit() for c in plain) and any(c.isalpha() for c in plain) else 0
