"""Texts as people and models write them, with values of known kinds in known places: seeded, nothing real in them.

Formats and locales are many on purpose, and so are the ways to lead up to a value. They are written here for measuring;
the rules' own samples are elsewhere.
"""

# ruff: noqa: E501, RUF001 - rows of sentences, as people type them
from __future__ import annotations

import random
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_FILLER: Final = (
    "Thanks for the quick answer yesterday.", "We talked about the plan for the spring.", "The printer on the second floor is out of toner.",
    "Can you check whether section 4.2 still holds?", "It took about 45 minutes and cost 1,299.00 in the end.", "See figure 12 and table 3.",
    "Version 10.4.2 fixes the crash, I think.", "In 2023 there were 1204 cases, in 2024 only 988.", "The meeting moved to 14:30 on 2024-05-06.",
    "I would rather keep it short — two paragraphs at most.", "`for i in range(10): print(i)` prints ten lines.", "Order 66-1042 was shipped.",
    'token = os.getenv("TOKEN")', "The answer is 42, and pi is 3.14159265358979.", "ISO 27001 and RFC 2616 are mentioned on page 118.",
    "Room B-204 seats 35 people.", "It’s fine, really.", "password reset mails are late again.", "The ratio fell from 0.8123 to 0.7741.",
    "commit 3f2a9c1 broke the build", "We call it a day at five.", "My account of the story differs.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gold:
    """A value that must be masked: whole."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text with what is in it."""

    text: str
    golds: tuple[Gold, ...]


def _digits(rng: random.Random, pattern: str) -> str:
    return "".join(
        rng.choice(string.digits) if c == "#" else rng.choice("23456789") if c == "%" else c for c in pattern
    )


def _luhn(body: str) -> str:
    total = sum(sum(divmod(int(d) * (2 if i % 2 == 0 else 1), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def _card(rng: random.Random) -> str:
    start, length = rng.choice([("4", 16), ("4", 13), ("51", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16), ("65", 16), ("36", 14), ("3528", 16), ("2131", 15), ("1800", 15), ("5018", 12), ("6304", 12), ("6759", 16), ("62", 19)])  # fmt: skip
    number = _luhn(_digits(rng, start + "#" * (length - 1 - len(start))))
    if length == 16:
        gap = rng.choice(["", " ", "-", "."])
        return gap.join(number[i : i + 4] for i in range(0, 16, 4))
    return number


def _iban(rng: random.Random) -> str:
    country, body = rng.choice([("DE", "#" * 18), ("FR", "#" * 23), ("ES", "#" * 20), ("NL", "ABNA" + "#" * 10), ("GB", "WEST" + "#" * 14), ("NO", "#" * 11), ("CH", "#" * 17), ("PL", "#" * 24)])  # fmt: skip
    body = _digits(rng, body)
    check = 98 - int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
    whole = f"{country}{check:02d}{body}"
    return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4)) if rng.random() < 0.5 else whole


def _email(rng: random.Random) -> str:
    name = rng.choice(["ada", "grace.hopper", "j_doe", "li.wei", "müller", "info+test", "o'brien", "x1"])
    host = rng.choice(
        ["example.org", "mail.example.co.uk", "example.de", "sub.dept.example.com", "bücher.example", "example.io"]
    )
    return f"{name}{rng.randint(1, 999)}@{host}"


def _phone(rng: random.Random) -> str:
    return _digits(rng, rng.choice(["+1 %## %## ####", "+1-%##-%##-####", "(%##) %##-####", "(%##)%##-####", "%##-%##-####", "%##.%##.####", "001-%##-%##-####x###", "%##-%##-####x####", "+44 20 #### ####", "+49 30 ######", "+33 # ## ## ## ##", "+41 (0)44 ### ## ##", "07700 ### ###", "0## #### ####", "##########", "+91##########", "%## ### ###", "0#########"]))  # fmt: skip


def _secret(rng: random.Random) -> str:
    def body(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return "a1" + "".join(rng.choice(alphabet) for _ in range(count - 2))

    kinds: list[Callable[[], str]] = [
        lambda: "AKIA" + "".join(rng.choice(string.ascii_uppercase + "234567") for _ in range(16)),
        lambda: "ghp" + "_" + body(36), lambda: "sk-" + body(48), lambda: "xoxb" + "-" + _digits(rng, "#" * 12) + "-" + body(24),
        lambda: "glpat" + "-" + body(20), lambda: "sk_live" + "_" + body(24), lambda: "AIza" + body(35), lambda: "hf" + "_" + body(34),
        lambda: "npm" + "_" + body(36), lambda: "SG" + "." + body(22) + "." + body(43), lambda: "dop_v1_" + body(64, "0123456789abcdef"),
        lambda: "eyJhbGciOiJIUzI1NiJ9." + body(40) + "." + body(43), lambda: "shpat_" + body(32, "0123456789abcdef"),
    ]  # fmt: skip
    return rng.choice(kinds)()


def _password(rng: random.Random) -> str:
    return (
        rng.choice(["hunter", "Sommer", "tr0ub", "P@ss", "qwer"])
        + rng.choice(["!", "#", "&", "", "-"])
        + _digits(rng, "####")
    )


def _ssn(rng: random.Random) -> str:
    return f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"


def _born(rng: random.Random) -> str:
    d, m, y = rng.randint(13, 28), rng.randint(1, 12), rng.randint(1940, 2009)
    month = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")[m - 1]  # fmt: skip
    return rng.choice([f"{y}-{m:02d}-{d:02d}", f"{m}/{d}/{y}", f"{d:02d}.{m:02d}.{y}", f"{month} {d}, {y}", f"{d} {month} {y}", f"{d}-{month[:3]}-{y}", f"{d}th of {month} {y}", f"{month[:3]} {d} {y}"])  # fmt: skip


def _licence(rng: random.Random) -> str:
    letter = rng.choice(string.ascii_uppercase)
    return _digits(rng, rng.choice([f"{letter}#######", "########", "#########", f"{letter}########", f"{letter}###-###-##-###-#", f"{letter}############", "##ABC#####"]))  # fmt: skip


KINDS: Final[dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]]] = {
    "CARD": (_card, ("my card {} was declined", "Card number: {}", "charge {} please", "cc {}", "I lost {} yesterday")),
    "IBAN": (_iban, ("send it to {} today", "IBAN: {}", "the account {} is closed")),
    "EMAIL": (_email, ("write to {} please", "mail: {}", "<{}>", "cc {} on this")),
    "PHONE": (_phone, ("call me at {} tomorrow", "Phone: {}", "reach him on {}", "my mobile is {}", "fax {}", "Tel. {}")),
    "IP": (lambda r: ".".join(str(r.randint(11, 223)) for _ in range(4)), ("the host {} is down", "from {} again")),
    "SSN": (_ssn, ("my ssn is {}", "Social Security Number: {}", "{} is on the form")),
    "DOB": (_born, ("born on {}", "DOB: {}", "Date of birth {}", "her birthday is {}")),
    "PASSPORT": (lambda r: r.choice(["C", "X", "AB", ""]) + _digits(r, "#######"), ("passport {}", "Passport number: {}", "passport no. is {}")),
    "DRIVER_LICENSE": (_licence, ("driver's license {}", "Driver License: {}", "driving licence number {}", "my DL number is {}")),
    "SECRET": (_secret, ("use {} for now", "key: {}", "export TOKEN={}", "`{}` leaked")),
    "PASSWORD": (_password, ("the password is {}", "password: {}", "pwd={}", '"password": "{}"')),
    "URL": (lambda r: f"https://example.{r.choice(['com', 'org', 'de'])}/{r.choice(['a', 'docs/start', 'x?id=7'])}", ("see {} for more", "at {} now")),
    "MAC": (lambda r: ":".join(f"{r.randint(1, 255):02x}" for _ in range(6)), ("device {} joined", "MAC {}")),
    "BANK_ACCOUNT": (lambda r: _digits(r, "%#########"), ("account number {}", "acct # {}", "my bank account is {}")),
    "MEDICAL_RECORD": (lambda r: _digits(r, "########"), ("MRN {}", "medical record number: {}", "patient ID {}")),
}  # fmt: skip
"""By kind: how to make one, and sentences that it stands in."""


def made(seed: int, count: int) -> list[Text]:
    """``count`` texts, each of a few sentences with one to four values."""
    rng = random.Random(seed)
    return [_text(rng) for _ in range(count)]


def prose(seed: int, size: int, values_every: int = 0) -> str:
    """About ``size`` characters of sentences, with an e-mail address about every ``values_every`` of them."""
    rng = random.Random(seed)
    parts: list[str] = []
    length, due = 0, values_every
    while length < size:
        said = rng.choice(_FILLER)
        if values_every and length >= due:
            said, due = f"Ask {_email(rng)} about it.", due + values_every
        parts.append(said)
        length += len(said) + 1
    return " ".join(parts)[:size]


def _text(rng: random.Random) -> Text:
    said, golds = "", []
    for kind in rng.choices(list(KINDS), k=rng.randint(1, 4)):
        make, sentences = KINDS[kind]
        before, _, after = rng.choice(sentences).partition("{}")
        value = make(rng)
        said += rng.choice(_FILLER) + rng.choice([" ", "\n", "\n\n"]) + before
        golds.append(Gold(len(said), len(said) + len(value), kind))
        said += value + after + rng.choice([". ", "\n", "! ", "; "])
    return Text(said + rng.choice(_FILLER), tuple(golds))
