"""Check digits of numbers that states and banks give: each as its issuer defines it.

Each check returns how many of the candidate's characters belong; 0 means no.
"""

from __future__ import annotations

import hashlib
import re
from itertools import cycle
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_NOT_ALNUM: Final = re.compile(r"[^A-Za-z0-9]")


def digits_of(text: str) -> list[int]:
    """The digits in a text."""
    return [int(char) for char in _NOT_DIGIT.sub("", text)]


def _sum(digits: Iterable[int], weights: Iterable[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def _all(text: str, is_one: bool) -> int:  # noqa: FBT001 - the answer, passed on
    return len(text) if is_one else 0


def is_luhn(digits: Sequence[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        total += digit if index % 2 == 0 else (digit * 2 if digit < 5 else digit * 2 - 9)
    return total % 10 == 0


def luhn(text: str) -> int:
    """Luhn's check digit; not all digits alike."""
    digits = digits_of(text)
    return _all(text, len(set(digits)) > 1 and is_luhn(digits))


# ISO/IEC 7064, hybrid system 11,10.
def _is_mod_11_10(digits: Sequence[int]) -> bool:
    product = 10
    for digit in digits[:-1]:
        total = (digit + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == digits[-1]


def nhs(text: str) -> int:
    """NHS number: weights 10 to 2, modulo 11."""
    digits = digits_of(text)
    check = 11 - _sum(digits, range(10, 1, -1)) % 11
    return _all(text, len(digits) == 10 and (0 if check == 11 else check) == digits[-1])


def de_tax_id(text: str) -> int:
    """Steuer-Identifikationsnummer: of the first ten digits exactly one comes twice or three times; ISO 7064 11,10."""
    digits = digits_of(text)
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    is_shaped = len(digits) == 11 and counts[0] in (2, 3) and counts[1:2] == [1]
    return _all(text, is_shaped and _is_mod_11_10(digits))


def de_social_security(text: str) -> int:
    """Versicherungsnummer: the letter as two digits, weights 2 1 2 5 7 1 2 1 2 1 2 1, sums of digits, modulo 10."""
    plain = _NOT_ALNUM.sub("", text)
    if len(plain) != 12:
        return 0
    spelled = [int(char) for char in f"{plain[:8]}{ord(plain[8]) - 64:02d}{plain[9:]}"]
    total = sum(sum(divmod(d * w, 10)) for d, w in zip(spelled[:-1], (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return _all(text, total % 10 == spelled[-1])


def fr_nir(text: str) -> int:
    """Numéro de sécurité sociale: 97 less the rest of the first thirteen; Corsica's 2A is 19, 2B is 18."""
    plain = text.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return _all(text, len(plain) == 15 and 97 - int(plain[:13]) % 97 == int(plain[13:]))


def es_dni(text: str) -> int:
    """DNI and NIE: the letter that the number's rest modulo 23 stands for."""
    plain = text.replace("-", "").upper()
    number = int(plain[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2"))
    return _all(text, "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == plain[-1])


_ODD: Final = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", [1, 0, 5, 7, 9, 13, 15, 17, 19, 21] * 2 + [2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23], strict=True)  # noqa: E501
)  # fmt: skip


def it_codice_fiscale(text: str) -> int:
    """Codice fiscale: odd places by a table, even ones by rank, modulo 26."""
    plain = text.upper()
    total = sum(
        _ODD[char] if index % 2 == 0 else int(char, 36) - (10 if char.isalpha() else 0)
        for index, char in enumerate(plain[:15])
    )
    return _all(text, chr(ord("A") + total % 26) == plain[15])


def nl_bsn(text: str) -> int:
    """BSN: the eleven test, weights 9 to 2 and -1."""
    digits = digits_of(text)
    digits = [0] * (9 - len(digits)) + digits
    total = _sum(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1))
    return _all(text, len(digits) == 9 and any(digits) and total % 11 == 0)


def be_national_number(text: str) -> int:
    """Rijksregisternummer: 97 less the rest of the first nine, with a 2 before them for births since 2000."""
    plain = _NOT_DIGIT.sub("", text)
    if len(plain) != 11:
        return 0
    return _all(text, int(plain[9:]) in (97 - int(plain[:9]) % 97, 97 - int("2" + plain[:9]) % 97))


def pl_pesel(text: str) -> int:
    """PESEL: weights 1 3 7 9, modulo 10."""
    digits = digits_of(text)
    return _all(text, len(digits) == 11 and (_sum(digits[:10], cycle((1, 3, 7, 9))) + digits[10]) % 10 == 0)


def se_personnummer(text: str) -> int:
    """Personnummer: Luhn over the last ten digits."""
    digits = digits_of(text)[-10:]
    return _all(text, len(set(digits)) > 1 and is_luhn(digits))


def fi_hetu(text: str) -> int:
    """Henkilötunnus: the nine digits' rest modulo 31 stands for a character."""
    number = int(text[:6] + text[7:10])
    return _all(text, "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == text[10])


def no_fodselsnummer(text: str) -> int:
    """Fødselsnummer: two check digits modulo 11."""
    digits = digits_of(text)
    if len(digits) != 11:
        return 0
    first = _sum(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1))
    second = _sum(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1))
    return _all(text, first % 11 == 0 and second % 11 == 0)


def pt_nif(text: str) -> int:
    """NIF: weights 9 to 2, modulo 11; 10 and 11 count as 0."""
    digits = digits_of(text)
    check = 11 - _sum(digits[:8], range(9, 1, -1)) % 11
    return _all(text, len(digits) == 9 and (0 if check > 9 else check) == digits[8])


def ean13(text: str) -> int:
    """EAN-13 (Switzerland's AHV number): weights 1 and 3, modulo 10."""
    digits = digits_of(text)
    return _all(text, len(digits) == 13 and _sum(digits, cycle((1, 3))) % 10 == 0)


def at_social_security(text: str) -> int:
    """Austria: the fourth digit checks the others, weights 3 7 9 - 5 8 4 2 1 6, modulo 11."""
    digits = digits_of(text)
    total = _sum(digits, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6))
    return _all(text, len(digits) == 10 and total % 11 == digits[3])


def ie_pps(text: str) -> int:
    """PPS number: weights 8 to 2, the second letter's rank times 9, modulo 23."""
    digits, letters = digits_of(text), text[7:].upper()
    total = _sum(digits, range(8, 1, -1)) + (9 * (ord(letters[1]) - 64) if letters[1:] not in ("", "W") else 0)
    return _all(text, chr(64 + total % 23) == letters[0] or (total % 23 == 0 and letters[0] == "W"))


def br_cpf(text: str) -> int:
    """CPF: two check digits modulo 11."""
    digits = digits_of(text)
    if len(digits) != 11 or len(set(digits)) == 1:
        return 0
    first = _sum(digits[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = _sum(digits[:10], range(11, 1, -1)) * 10 % 11 % 10
    return _all(text, [first, second] == digits[9:])


def cl_rut(text: str) -> int:
    """RUT: weights 2 to 7 from the right, modulo 11; 10 is K."""
    digits = digits_of(text.rpartition("-")[0])
    check = 11 - _sum(reversed(digits), cycle(range(2, 8))) % 11
    return _all(text, {10: "K", 11: "0"}.get(check, str(check)) == text[-1].upper())


_TIMES: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PLACES: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def verhoeff(text: str) -> int:
    """Verhoeff's check digit (Aadhaar)."""
    check = 0
    digits = digits_of(text)
    for index, digit in enumerate(reversed(digits)):
        check = int(_TIMES[check][int(_PLACES[index % 8][digit])])
    return _all(text, check == 0 and len(set(digits)) > 1)


def au_tfn(text: str) -> int:
    """Tax file number: weights 1 4 3 7 5 8 6 9 10, modulo 11; of eight digits 10 7 8 4 6 3 5 1."""
    digits = digits_of(text)
    weights = {9: (1, 4, 3, 7, 5, 8, 6, 9, 10), 8: (10, 7, 8, 4, 6, 3, 5, 1)}.get(len(digits), ())
    return _all(text, bool(weights) and len(set(digits)) > 1 and _sum(digits, weights) % 11 == 0)


def au_medicare(text: str) -> int:
    """Medicare: the ninth digit checks the first eight, weights 1 3 7 9, modulo 10."""
    digits = digits_of(text)
    return _all(text, len(digits) == 10 and _sum(digits[:8], cycle((1, 3, 7, 9))) % 10 == digits[8])


def cn_resident_id(text: str) -> int:
    """Resident identity number: ISO 7064 MOD 11-2."""
    total = sum(int(char) * (2 ** (17 - index) % 11) for index, char in enumerate(text[:17]))
    return _all(text, "10X98765432"[total % 11] == text[17].upper())


def jp_my_number(text: str) -> int:
    """My Number: weights 6 5 4 3 2 7 6 5 4 3 2, modulo 11."""
    digits = digits_of(text)
    rest = _sum(digits[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return _all(text, len(digits) == 12 and (0 if rest <= 1 else 11 - rest) == digits[11])


def sg_nric(text: str) -> int:
    """NRIC and FIN: weights 2 7 6 5 4 3 2 and the series' offset, modulo 11."""
    series, letter = text[0].upper(), text[-1].upper()
    total = _sum(digits_of(text[1:8]), (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(series, 0)
    table = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "KLJNPQRTUWX"}.get(series, "XWUTRQPNMLK")
    return _all(text, table[10 - total % 11 if series == "M" else total % 11] == letter)


def tr_tckn(text: str) -> int:
    """T.C. Kimlik No: the tenth digit checks the first nine, the eleventh the first ten."""
    digits = digits_of(text)
    tenth = (sum(digits[0:9:2]) * 7 - sum(digits[1:8:2])) % 10
    return _all(text, len(digits) == 11 and tenth == digits[9] and sum(digits[:10]) % 10 == digits[10])


def aba_routing(text: str) -> int:
    """ABA routing number: weights 3 7 1, modulo 10; the first two digits name a district."""
    digits = digits_of(text)
    district = digits[0] * 10 + digits[1]
    is_district = district <= 12 or 21 <= district <= 32 or 61 <= district <= 72 or district == 80
    return _all(text, is_district and any(digits) and _sum(digits, cycle((3, 7, 1))) % 10 == 0)


def clabe(text: str) -> int:
    """CLABE: each digit times 3 7 1, modulo 10 each."""
    digits = digits_of(text)
    total = sum(digit * weight % 10 for digit, weight in zip(digits[:17], cycle((3, 7, 1)), strict=False))
    return _all(text, len(set(digits)) > 1 and (10 - total % 10) % 10 == digits[17])


def npi(text: str) -> int:
    """National Provider Identifier: Luhn with 80840 before it."""
    return _all(text, is_luhn([8, 0, 8, 4, 0, *digits_of(text)]))


def dea(text: str) -> int:
    """DEA number: first, third and fifth digit, and twice the others, end in the seventh."""
    digits = digits_of(text[2:])
    return _all(text, (sum(digits[0:5:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6])


_BASE58: Final = {
    char: value for value, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")
}
_BECH32: Final = {char: value for value, char in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}


def base58check(text: str) -> int:
    """Base58Check: the last four bytes are the beginning of the double SHA-256 of the others."""
    number = 0
    for char in text:
        number = number * 58 + _BASE58[char]
    if number >= 1 << 200:
        return 0
    raw = number.to_bytes(25, "big")
    return _all(text, hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:])


def bech32(text: str) -> int:
    """Bech32 (BIP 173) and Bech32m (BIP 350)."""
    name, _, data = text.lower().rpartition("1")
    if not name or any(char not in _BECH32 for char in data):
        return 0
    check = 1
    values = (
        [ord(char) >> 5 for char in name] + [0] + [ord(char) & 31 for char in name] + [_BECH32[char] for char in data]
    )
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for index, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= part if top >> index & 1 else 0
    return _all(text, check in (1, 0x2BC830A3))
