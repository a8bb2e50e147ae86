"""What a field becomes that a rule names: whole, or as it comes, with the same result. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from ext_proc.model import Action, FieldAction, FieldRule, Keep, Removal
from ext_proc.redaction.redact import PARTIAL_MIN, PARTIAL_SHOWN, pseudonym

if TYPE_CHECKING:
    from collections.abc import Sequence

_DATE_MAX: Final = 64
"""No date is longer: a longer text is not looked at as one."""
_CONSTANT: Final = {
    Keep.NUMBER: "0",
    Keep.EMAIL: "masked@example.invalid",
    Keep.UUID: "00000000-0000-0000-0000-000000000000",
}
_NO_DATE: Final = "1900-01-01"
"""Also for what was not a date that is known here: whoever reads it wants one."""
_DAY: Final = (
    (re.compile(r"\d{4}([-/.])\d{2}\1\d{2}", re.ASCII), "1900{0}01{0}01"),
    (re.compile(r"\d{2}([-/.])\d{2}\1\d{4}", re.ASCII), "01{0}01{0}1900"),
    (re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{4}", re.ASCII), "1{0}1{0}1900"),
    (re.compile(r"\d{8}()", re.ASCII), "19000101"),
    (re.compile(r"\d{4}([-/])\d{2}", re.ASCII), "1900{0}01"),
    (re.compile(r"(?:19|20)\d{2}()", re.ASCII), "1900"),
)
_TIME: Final = re.compile(
    r"(?P<mark>[Tt ])(?P<clock>\d{2}:\d{2}(?::\d{2})?)(?P<fraction>[.,]\d{1,9})?(?P<zone>[Zz]|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_DIGIT: Final = re.compile(r"\d", re.ASCII)


def masked_date(text: str) -> str:
    """A date of the same form that is nobody's; of the text itself no digit stays."""
    if len(text) > _DATE_MAX:
        return _NO_DATE
    for form, made in _DAY:
        day = form.match(text)
        if day is None:
            continue
        time = text[day.end() :]
        if not time:
            return made.format(day[1])
        found = _TIME.fullmatch(time)
        if found:
            zone = "" if found["zone"] is None else _DIGIT.sub("0", found["zone"]).replace("-", "+")
            clock = _DIGIT.sub("0", found["clock"] + (found["fraction"] or ""))
            return made.format(day[1]) + found["mark"] + clock + zone
    return _NO_DATE


class FieldValues:
    """What texts of fields become.

    Args:
        hash_key: key of the one-way pseudonyms (action ``hash``); at least 16 bytes.
    """

    def __init__(self, hash_key: bytes) -> None:
        self._hash_key = hash_key

    def said(self, rule: FieldRule, text: str) -> str:
        """What stands in the place of a whole text."""
        masker = FieldMasker(rule, "", self)
        return masker.feed(text) + masker.finish()

    def hashing(self, entity: str) -> hmac.HMAC:
        """The keyed hash of a text to come."""
        return hmac.new(self._hash_key, f"{entity}\0".encode(), hashlib.sha256)


class FieldMasker:
    """Masks one text that a rule names, as it comes (a masker as `StreamRedactor` is one).

    Args:
        rule: which.
        path: the text's, for records.
        values: has the key.
    """

    __slots__ = ("_digest", "_kept", "_path", "_rule", "_size")

    def __init__(self, rule: FieldRule, path: str, values: FieldValues) -> None:
        self._rule = rule
        self._path = path
        self._digest = values.hashing(rule.entity) if rule.action is FieldAction.HASH else None
        self._size = 0
        self._kept = ""

    @property
    def blocked(self) -> Sequence[str]:
        """The rule's entity, if it blocks and there was a text."""
        return (self._rule.entity,) if self._size and self._rule.action is FieldAction.BLOCK else ()

    @property
    def removals(self) -> Sequence[Removal]:
        """The whole text, if there was one."""
        if not self._size:
            return ()
        rule = self._rule
        return (Removal(self._path, 0, self._size, rule.entity, rule.rule, rule.source, Action(rule.action.value)),)

    @property
    def removal_count(self) -> int:
        """How many those are."""
        return 1 if self._size else 0

    def feed(self, text: str) -> str:
        """The next piece in; what may go on at once."""
        is_first = bool(text) and not self._size
        self._size += len(text)
        rule = self._rule
        if self._digest is not None:
            self._digest.update(text.encode(errors="replace"))
        elif rule.action is FieldAction.PARTIAL:
            self._kept = (self._kept + text)[-PARTIAL_SHOWN:]
        elif rule.action is FieldAction.MASK and rule.keep is Keep.DATE:
            self._kept = (self._kept + text)[: _DATE_MAX + 1]
        elif rule.action is FieldAction.MASK and rule.keep is Keep.LENGTH:
            return "*" * len(text)
        elif rule.action is FieldAction.MASK and is_first:
            return _CONSTANT.get(rule.keep, f"[{rule.entity}]")
        return ""

    def finish(self) -> str:
        """What can only be said of the whole."""
        if not self._size:
            return ""
        if self._digest is not None:
            return pseudonym(self._rule.entity, self._digest.hexdigest())
        if self._rule.action is FieldAction.PARTIAL:
            return "****" + self._kept if self._size >= PARTIAL_MIN else f"[{self._rule.entity}]"
        if self._rule.action is FieldAction.MASK and self._rule.keep is Keep.DATE:
            return masked_date(self._kept)
        return ""

    def flush_masked(self) -> str:
        """Nothing is held that may be shown before its end."""
        return ""
