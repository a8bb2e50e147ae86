"""Is a candidate what it looks like? Each check returns how many of its characters belong; 0 means no."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import phonenumbers

from ext_proc.redaction import check_digits as digits
from ext_proc.redaction import check_phones as phones
from ext_proc.redaction import check_secrets as secrets

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_ALNUM: Final = re.compile(r"[^A-Za-z0-9]")

# ISO/IEC 7812 major industry identifiers that payment cards use.
_CARD_FIRST: Final = "23456"
_CARD_MAX: Final = 19
"""Digits."""

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
    return _card(text, 13, _is_card)


def maestro(text: str) -> int:
    """Twelve digits, as only Maestro's have: the pattern names its first ones."""
    return _card(text, 12, lambda _first, _count: True)


def payment_card_in_context(text: str) -> int:
    """After the word ``card``: 12 to 19 digits with Luhn's check digit, whoever issued it."""
    return _card(text, 12, lambda _first, _count: True)


def _is_card(first: str, count: int) -> bool:
    # Old JCB cards (1800) and those of airlines have 15 digits and begin with 1.
    return first[0] in _CARD_FIRST or (count == 15 and first == "1800")


def _card(text: str, least: int, is_card: Callable[[str, int], bool]) -> int:
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
            if count > _CARD_MAX:
                break
            kinds.add(char)
            first += char if count <= 4 else ""
            is_end = end == len(text) or not "0" <= text[end] <= "9"
            if is_end and least <= count and (from_odd if count % 2 else from_even) % 10 == 0:
                best = end if is_card(first, count) and len(kinds) > 1 else best
    return best


def spelled_card(text: str) -> int:
    """A card's number in words."""
    spelled = phones.spelled(text)
    return len(text) if payment_card(spelled) == len(spelled) else 0


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


def account_number(text: str) -> int:
    """Six digits or more that are no date."""
    plain = _NOT_ALNUM.sub("", text)
    return len(text) if len(plain) >= 6 and len(set(plain)) > 1 and not phones.is_date_like(text) else 0


def bank_code(text: str) -> int:
    """BIC (ISO 9362), its fifth and sixth letter a country; or IFSC, with its zero in the middle."""
    is_ifsc = len(text) == 11 and text[4] == "0" and text[:4].isalpha()
    return len(text) if is_ifsc or text[4:6] in phonenumbers.SUPPORTED_REGIONS else 0


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


def mac(text: str) -> int:
    """A station's address, not the empty or the broadcast one; in dotted form some letter tells it from a number."""
    plain = _NOT_ALNUM.sub("", text)
    return len(text) if len(set(plain.lower())) > 2 and ("." not in text or not plain.isdigit()) else 0


_DECIMAL: Final = re.compile(r"\d{1,3}\.\d+")


def coordinates(text: str) -> int:
    """One latitude or longitude, or both."""
    numbers = [float(match) for match in _DECIMAL.findall(text)]
    is_pair = len(numbers) == 2
    return len(text) if max(numbers) <= 180 and (not is_pair or min(numbers) <= 90) else 0


def document_number(text: str) -> int:
    """At least four digits, and no date."""
    return len(text) if sum(char.isdigit() for char in text) >= 4 and not phones.is_date_like(text) else 0


_TITLED: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def license_number(text: str) -> int:
    """As states number driving licences: five digits, or letters first; letters alone only where no word has such."""
    count = sum(char.isdigit() for char in text)
    if phones.is_date_like(text):
        return 0
    if count == sum(char.isalnum() for char in text):
        return len(text) if count >= 5 else 0
    if count >= 4 or (count and len(text) >= 5 and "-" not in text):
        return 0 if text[0].isdigit() and not text.isupper() and len(text) < 8 else len(text)
    return len(text) if len(text) in (8, 12) and text.isalpha() and not _TITLED.fullmatch(text) else 0


def not_uniform(text: str) -> int:
    """Not one or two characters over and over."""
    return len(text) if len(set(text[2:])) > 3 else 0


# Names that are sold to all, less those that mostly are something else in texts: object.name, System.io ...
_TOPS: Final = frozenset(
    [
        "com",
        "net",
        "org",
        "info",
        "biz",
        "edu",
        "gov",
        "mil",
        "int",
        "app",
        "dev",
        "xyz",
        "online",
        "site",
        "store",
        "tech",
        "shop",
        "blog",
        "cloud",
        "club",
        "live",
        "news",
        "agency",
        "mobi",
        "museum",
        "aero",
        "coop",
        "travel",
        "jobs",
        "example",
        "io",
        "ai",
        "co",
        "me",
        "tv",
        "eu",
        "uk",
    ]
)
_NOT_TOPS: Final = frozenset(
    [
        "py",
        "md",
        "rs",
        "sh",
        "pl",
        "cc",
        "so",
        "ps",
        "id",
        "in",
        "is",
        "do",
        "my",
        "no",
        "go",
        "am",
        "as",
        "by",
        "st",
        "js",
        "mk",
        "la",
        "ms",
        "pm",
        "re",
        "sc",
        "sb",
        "sr",
        "ml",
        "tf",
        "vi",
        "gd",
        "bz",
        "cd",
    ]
)


def domain(text: str) -> int:
    """A host's name under a top-level domain; not what looks like one in code and at the end of sentences."""
    host = text.partition("/")[0]
    top = host.rpartition(".")[2]
    if not (top.islower() or host.isupper()) or (host[0].isdigit() and host.replace(".", "").isdigit()):
        return 0
    top = top.lower()
    is_country = len(top) == 2 and top.upper() in phonenumbers.SUPPORTED_REGIONS and top not in _NOT_TOPS
    return len(text) if top in _TOPS or is_country else 0


def domain_in_context(text: str) -> int:
    """After a word such as "website": any country's domain will do."""
    top = text.partition("/")[0].rpartition(".")[2].upper()
    return len(text) if top in phonenumbers.SUPPORTED_REGIONS or top.lower() in _TOPS else 0


VALIDATORS: Final[dict[str, Callable[[str], int]]] = {
    check.__name__: check
    for check in (
        always, payment_card, maestro, payment_card_in_context, spelled_card, iban, account_number, bank_code, ip, mac, coordinates,  # noqa: E501
        document_number, license_number, not_uniform, domain, domain_in_context,
        digits.luhn, digits.nhs, digits.de_tax_id, digits.de_social_security, digits.fr_nir, digits.es_dni,
        digits.it_codice_fiscale, digits.nl_bsn, digits.be_national_number, digits.pl_pesel, digits.se_personnummer,
        digits.fi_hetu, digits.no_fodselsnummer, digits.pt_nif, digits.ean13, digits.at_social_security, digits.ie_pps,
        digits.br_cpf, digits.cl_rut, digits.verhoeff, digits.au_tfn, digits.au_medicare, digits.cn_resident_id,
        digits.jp_my_number, digits.sg_nric, digits.tr_tckn, digits.aba_routing, digits.clabe, digits.npi, digits.dea,
        digits.base58check, digits.bech32,
        phones.phone_international, phones.phone_grouped, phones.phone_national, phones.phone_in_context,
        phones.spelled_phone,
        secrets.password, secrets.keyed_password, secrets.basic, secrets.token, secrets.random, secrets.hexadecimal,
        secrets.bearer, secrets.strong_password, secrets.cookie,
    )
}  # fmt: skip
"""What a rule may name as its ``validator``."""
