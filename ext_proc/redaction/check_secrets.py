"""Is a candidate a credential? Each check returns how many of its characters belong; 0 means no."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from math import log2
from typing import Final

_NOT_ALNUM: Final = re.compile(r"[^A-Za-z0-9]")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_BLANKED: Final = frozenset("*.x-_X•·…#")

# What stands for a value in code and in manuals: a call, an attribute, an index, a variable, a gap to fill in.
_CODE: Final = re.compile(
    r"""
      [A-Za-z_]\w*(?:(?:\.|->|::|\?\.)[A-Za-z_]\w*)+ (?:[(\[{].*)? [)\]};]* (?# settings.TOKEN, os.getenv()
    | [A-Za-z_]+[(\[{].*                                                   (?# getpass(, headers[)
    | [A-Za-z]+(?:_[A-Za-z]+)+ [)\]};]*                                    (?# api_key, USER_PASSWORD)
    | [a-z]+(?:[A-Z][a-z]+)+ [)\]};]*                                      (?# userPassword)
    | \$\{?[A-Za-z_].* | %\(?[A-Za-z_].* | \{\{.* | \{[A-Za-z_]\w*\}.* | <[A-Za-z].*>? | \(.*\)?
    | [a-z]+(?:\[|\().*
    | &[A-Za-z_].* | @[A-Za-z_.]+ | \#.* | //.*
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_WORDS: Final = frozenset(
    [
        "none",
        "null",
        "true",
        "false",
        "undefined",
        "string",
        "optional",
        "required",
        "str",
        "bytes",
        "secret",
        "password",
        "passwd",
        "token",
        "apikey",
        "bearer",
        "basic",
        "hidden",
        "redacted",
        "masked",
        "removed",
        "changeme",
        "your",
        "example",
        "placeholder",
        "empty",
        "self",
        "this",
    ]
)
_ENDS: Final = ".,;:!?()[]{}\"'`*"
_GAP: Final = re.compile(
    r"(?i)(?:your|my|insert|replace|enter|the)[-_ ]?\w*(?:key|token|secret|password)"
    r"|x{6,}|\.{3}|0{12}|123456789abcdef"
)


def password(text: str) -> int:
    """Looks chosen: at least two kinds of characters, and is no word, no code and no gap to fill in."""
    if set(text) <= _BLANKED or _CODE.fullmatch(text):
        return 0
    core = text.strip(_ENDS)
    if core.lower() in _WORDS or (core.isalpha() and core[1:].islower()) or _GAP.search(core):
        return 0
    kinds = (
        any(c.islower() for c in text),
        any(c.isupper() for c in text),
        any(c.isdigit() for c in text),
        any(not c.isalnum() for c in core),
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


def entropy(text: str) -> float:
    """Bits a character, by how often each occurs (Shannon)."""
    return -sum(count / len(text) * log2(count / len(text)) for count in Counter(text).values())


RANDOM_BITS: Final = 3.0
"""Twenty random letters and digits have about 4, as many random hexadecimal digits 3.3; words joined by dashes less
than they look, and no digits."""


def random(text: str) -> int:
    """Random by its entropy, and with letters and digits both: where a pattern's shape says little."""
    return len(text) if token(text) and entropy(text) >= RANDOM_BITS and not _GAP.search(text) else 0


def hexadecimal(text: str) -> int:
    """Random hexadecimal digits: keys, not zeros, counters or words."""
    plain = _NOT_ALNUM.sub("", text).lower()
    return len(text) if token(plain) and entropy(plain) >= 2.7 else 0


def bearer(text: str) -> int:
    """What follows the word ``Bearer``: random, or long."""
    return len(text) if token(text) and not _CODE.fullmatch(text) else 0


def strong_password(text: str) -> int:
    """A password that cannot be a word: a digit and a letter, or a sign inside."""
    core = text.strip(_ENDS)
    has_letter, has_digit = any(c.isalpha() for c in core), any(c.isdigit() for c in core)
    has_sign = any(c in "!@#$%^&*+=?~" for c in text)
    return password(text) if has_letter and (has_digit or has_sign) and "://" not in text else 0


def cookie(text: str) -> int:
    """A cookie that names a session: its value is random."""
    return len(text) if token(text.partition("=")[2]) else 0
