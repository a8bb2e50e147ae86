"""Is a candidate what it looks like? Each check returns how many of its characters belong; 0 means no."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import ip_address
from typing import Final

import phonenumbers

_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_NOT_ALNUM: Final = re.compile(r"[^A-Za-z0-9]")
_GROUP_END: Final = re.compile(r"\d(?=[^\d])")

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
    """ISO/IEC 7812: 13 to 19 digits, Luhn's check digit. Groups that follow (a date, a check code) do not belong."""
    best = count = from_even = from_odd = 0
    first = ""
    kinds: set[str] = set()
    for end, char in enumerate(text, 1):
        if "0" <= char <= "9":
            value = int(char)
            twice = value * 2 - 9 if value > 4 else value * 2
            # Which digits are doubled depends on how many there are: both sums are kept.
            from_even, from_odd = (
                (from_even + value, from_odd + twice) if count % 2 else (from_even + twice, from_odd + value)
            )
            count += 1
            kinds.add(char)
            first += char if count <= 4 else ""
            is_end = end == len(text) or not "0" <= text[end] <= "9"
            if is_end and 13 <= count <= 19 and (from_odd if count % 2 else from_even) % 10 == 0:
                # Old JCB cards (1800) have 15 digits and begin with 1.
                is_card = first[0] in _CARD_FIRST and len(kinds) > 1
                best = end if is_card or (count == 15 and first == "1800") else best
    return best


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


_US_NUMBER: Final = re.compile(r"1?[2-9]\d{2}[2-9]\d{6}")  # the plan's shape, before the slow question
_PHONE_TRIES: Final = 4
"""Reading a number takes about 25 us; what follows one (a year, an extension) is seldom more than two groups."""


def phone(text: str) -> int:
    """A possible number of the numbering plan that its prefix names, the United States' where it has none.

    Groups that follow do not belong.
    """
    ends = [len(text), *reversed([match.end() for match in _GROUP_END.finditer(text)])]
    return next((end for end in ends[:_PHONE_TRIES] if _is_phone(text[:end])), 0)


def _is_phone(text: str) -> bool:
    digits = _NOT_DIGIT.sub("", text)
    is_international = text.lstrip("(").startswith(("+", "00"))
    digits = digits.removeprefix("00")
    if not (7 <= len(digits) <= 15 if is_international else _US_NUMBER.fullmatch(digits)):
        return False
    try:
        number = phonenumbers.parse(f"+{digits}" if is_international else digits, None if is_international else "US")
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(number) or _is_fictional(digits)


def _is_fictional(digits: str) -> bool:
    """555-01xx and the 555 area: not assigned, yet people's numbers are written like that in texts."""
    return "555" in digits[-10:-4] and len(digits) >= 10


def ip(text: str) -> int:
    """An address, version 4 or 6; not the unspecified or loopback one, nor a slice such as ``[1::2]``."""
    try:
        found = ip_address(text)
    except ValueError:
        return 0
    groups = [group for group in text.split(":") if group]
    if found.version == 6 and (text.startswith(":") or len(groups[0]) < 3) and len(groups) < 4:
        return 0
    return 0 if found.is_unspecified or found.is_loopback else len(text)


def has_digits(text: str) -> int:
    """Document numbers: at least four digits."""
    return len(text) if sum(char.isdigit() for char in text) >= 4 else 0


_BLANKED: Final = frozenset("*.x-_")
_URL_SAFE: Final = str.maketrans("-_", "+/")


def password(text: str) -> int:
    """Looks chosen: at least two kinds of characters."""
    if set(text) <= _BLANKED:
        return 0
    kinds = (
        any(c.islower() for c in text),
        any(c.isupper() for c in text),
        any(c.isdigit() for c in text),
        any(not c.isalnum() for c in text.strip(".,;:!?()")),
    )
    return len(text) if sum(kinds) >= 2 else 0


def keyed_password(text: str) -> int:
    """The value of a key named ``password``: anything that is not blanked out."""
    return 0 if set(text) <= _BLANKED else len(text)


def basic(text: str) -> int:
    """RFC 7617: base64 of ``user:password``."""
    run = text.rstrip("=").translate(_URL_SAFE)
    try:
        return len(text) if b":" in base64.b64decode(run + "=" * (-len(run) % 4), validate=True) else 0
    except binascii.Error:
        return 0


def token(text: str) -> int:
    """Long random text: letters and digits both."""
    plain = _NOT_ALNUM.sub("", text)
    return len(text) if any(c.isdigit() for c in plain) and any(c.isalpha() for c in plain) else 0
