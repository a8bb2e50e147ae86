"""Is a candidate a telephone number? Each check returns how many of its characters belong; 0 means no.

What decides depends on how a number is written: one with a country's code is asked of the numbering plans, one that is
grouped as nothing else is needs only look like one, and one that stands after a word such as "mobile" has only to be
no date.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import phonenumbers

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_GROUP_END: Final = re.compile(r"\d(?=[^\d])")
_EXTENSION: Final = re.compile(r" ?(?:[xX]\.? ?|[,;]? ?(?:[Ee]xt(?:n|ension)?\.?|#) {0,2})\d{1,6}\Z")
_TRIES: Final = 4
"""What follows a number (a year, a second number) is seldom more than a few groups."""

_DATE: Final = re.compile(
    r"(?:19|20)\d{2}(?P<a>[-/. ])(?:0?[1-9]|1[0-2])(?P=a)(?:0?[1-9]|[12]\d|3[01])(?: .*)?"
    r"|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})(?: .*)?|(?:19|20)\d{2} ?[-/] ?(?:19|20)\d{2}"
)
_DATE_FIRST: Final = re.compile(
    r"(?:(?:19|20)\d{2}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d{2})(?!\d)"
)
_PAIRS: Final = re.compile(r"\d\d(?:[ .-]\d\d){2}")
_ADDRESS: Final = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")


def is_date_like(text: str) -> bool:
    """Is it written as dates are, or as a span of years?"""
    return _DATE.fullmatch(text) is not None


def _longest(text: str, is_number: Callable[[str], bool]) -> int:
    """The whole, with its extension; else as many groups as make a number."""
    extension = _EXTENSION.search(text)
    if extension is not None and is_number(text[: extension.start()]):
        return len(text)
    plain = text[: extension.start()] if extension is not None else text
    ends = [len(plain), *reversed([match.end() for match in _GROUP_END.finditer(plain)])]
    return next((end for end in ends[:_TRIES] if is_number(plain[:end])), 0)


def phone_international(text: str) -> int:
    """A possible number of the plan that its country's code names."""
    return _longest(text, _is_international)


def _is_international(text: str) -> bool:
    digits = _NOT_DIGIT.sub("", text.replace("(0)", ""))
    digits = digits.removeprefix("00") if text.startswith("00") else digits
    if not 8 <= len(digits) <= 15 or digits[0] == "0" or len(set(digits[2:])) == 1:
        return False
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False


def phone_grouped(text: str) -> int:
    """Three, three and four digits, as North America writes its numbers; with blanks only, it must be in its plan."""
    return _longest(text, _is_grouped)


def _is_grouped(text: str) -> bool:
    digits = _NOT_DIGIT.sub("", text)
    if len(digits) == 11:
        digits = digits[1:]
    if len(digits) != 10 or len(set(digits)) == 1:
        return False
    return digits[0] in "23456789" or not text.replace(" ", "").isdigit()


def phone_national(text: str) -> int:
    """As numbers inside a country are written: eight to eleven digits, not all alike."""
    return _longest(text, _is_national)


def _is_national(text: str) -> bool:
    digits = _NOT_DIGIT.sub("", text)
    return 8 <= len(digits) <= 11 and len(set(digits)) > 2 and not is_date_like(text)


def phone_in_context(text: str) -> int:
    """After a word that announces one: seven to fifteen digits, or three pairs, that are no date and no address."""
    return 0 if _DATE_FIRST.match(text) else _longest(text, _is_announced)


def _is_announced(text: str) -> bool:
    digits = _NOT_DIGIT.sub("", text)
    if not 6 <= len(digits) <= 15 or len(set(digits)) == 1 or (len(digits) == 6 and not _PAIRS.fullmatch(text)):
        return False
    return not is_date_like(text) and _ADDRESS.fullmatch(text) is None


_SPELLED: Final = {
    word: str(n)
    for n, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
}
_WORD: Final = re.compile("[A-Za-z]+")


def spelled(text: str) -> str:
    """The digits that words name."""
    return "".join(_SPELLED.get(word.lower(), "") for word in _WORD.findall(text))


def spelled_phone(text: str) -> int:
    """Ten digits or more as words, and not somebody counting."""
    digits = spelled(text)
    is_counting = all((int(one) + 1) % 10 == int(other) for one, other in pairwise(digits))
    return len(text) if len(set(digits)) > 2 and not is_counting else 0
