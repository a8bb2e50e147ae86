"""Leaves that look alike are proven alike: what was found canonical once is a pattern for the next of its kind.

To parse a leaf and to write it again in canonical form is most of the work of a verification, and nearly all leaves of
a log differ from one another in their values only. So a leaf that was proven the long way is learnt: a regular
expression with its very keys and brackets, in which each text may be any text without quotes, backslashes, control
characters and bytes beyond ASCII (its canonical form is itself), and each number, truth value or null any other one of
them in its one canonical form. Whatever matches that in full has the same keys in the same order, no space, no float:
it is canonical JSON of the same shape, whoever wrote it. Whatever does not match is no finding: it goes the long way.

Patterns have no choice to come back to (possessive quantifiers, alternatives that differ in their first byte), so an
attacker cannot make them slow. What he can do is to send ever new shapes: these are counted and learnt within limits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Match = Callable[[bytes], re.Match[bytes] | None]

INTENT: Final = "inference.intent"
OUTCOME: Final = "inference.outcome"

_PLAIN: Final = bytes(set(range(0x20, 0x7F)) - set(b'{}[]:,"\\'))
"""What an outline leaves out. A byte that no pattern could vouch for stays in, and such an outline is not learnt."""
_UNFIT: Final = re.compile(rb"[^{}\[\]:,\"]")
_OUTLINE_MAX_BYTES: Final = 1024
_COUNTED_MAX: Final = 1024
_LEARNT_MAX: Final = 128
_WORTH_LEARNING: Final = 200
"""Leaves of one outline until a pattern is made of it; making one takes as long as to parse some hundred leaves."""

_TEXT: Final = rb'[^"]*+'
_DIGEST: Final = rb"[0-9a-f]{64}+"
_AT: Final = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9]\.[0-9]{6}Z"
_WHOLE: Final = rb"[1-9][0-9]{0,14}+|0"
_BARE: Final = rb"(?>" + _WHOLE + rb"|null|true|false|-[1-9][0-9]{0,14}+)"
"""Whole numbers up to 15 digits are below 2^53; larger ones go the long way."""


def outlines_of(text: bytes) -> list[bytes]:
    """Of every line: its brackets, colons, commas and quotes, and whatever forbids a pattern."""
    return text.translate(None, _PLAIN).split(b"\n")


class Shapes:
    """The patterns that one process has learnt.

    A match's groups are ``at``, ``exchange_id``, ``intent_sequence`` (empty for an intent), ``origin``, the outcome's
    ``status`` (empty for an intent), the digests of the payloads in their order, and ``sequence``.
    """

    def __init__(self) -> None:
        self.matches: dict[bytes, Match] = {}
        """By outline."""
        self._counts: dict[bytes, int] = {}

    def saw(self, outline: bytes, line: bytes, leaf: dict[str, Any]) -> None:
        """A leaf was proven the long way. The more of an outline there are, the more it is worth a pattern."""
        if len(outline) > _OUTLINE_MAX_BYTES or leaf["kind"] not in (INTENT, OUTCOME):
            return
        count = self._counts.get(outline, 0) + 1
        if len(self._counts) >= _COUNTED_MAX:
            self._counts.clear()
        self._counts[outline] = count
        if count >= _WORTH_LEARNING:
            self._counts[outline] = 0
            self._learn(outline, line, leaf)

    def _learn(self, outline: bytes, line: bytes, leaf: dict[str, Any]) -> None:
        """Make the pattern, unless the leaf is too odd for one."""
        if _UNFIT.search(outline):
            return
        try:
            match = re.compile(_pattern(leaf)).fullmatch
        except TypeError:
            return
        if len(self.matches) >= _LEARNT_MAX:
            self.matches.clear()
        if match(line):
            self.matches[outline] = match


def _pattern(leaf: dict[str, Any]) -> bytes:
    """The leaf with holes. Its members come in canonical order, so that the groups do, too.

    Raises:
        TypeError: something that is a group has another type than it should.
    """
    is_outcome = leaf["kind"] == OUTCOME
    special = {
        "at": lambda _: b'"(' + _AT + b')"',
        "exchange_id": lambda value: _group(value) + (b"" if is_outcome else b"()"),
        "intent_sequence": lambda value: b"(null)" if value is None else b"(" + _WHOLE + b")",
        "kind": _exactly,
        "origin": lambda value: _group(value) + (b"" if is_outcome else b"()"),
        "outcome": lambda value: _object(value, {"status": _group}),
        "payloads": lambda value: _list(value, lambda one: _object(one, {"ciphertext_sha256": _digest})),
        "policy": lambda value: _object(value, {"approval_required": _needs_nobody}),
        "schema": _exactly,
        "sequence": lambda _: b"(" + _WHOLE + b")",
    }
    if not is_outcome:
        del special["intent_sequence"], special["outcome"]
    return _object(leaf, special)


def _any(value: object) -> bytes:
    if isinstance(value, dict):
        return _object(value, {})
    if isinstance(value, list):
        return _list(value, _any)
    return b'"' + _TEXT + b'"' if isinstance(value, str) else _BARE


def _object(value: object, special: dict[str, Callable[[Any], bytes]]) -> bytes:
    if not isinstance(value, dict):
        raise TypeError
    members = (_exactly(key) + b":" + special.get(key, _any)(one) for key, one in value.items())
    return rb"\{" + b",".join(members) + rb"\}"


def _list(value: object, each: Callable[[object], bytes]) -> bytes:
    if not isinstance(value, list):
        raise TypeError
    return rb"\[" + b",".join(map(each, value)) + rb"\]"


def _exactly(value: str) -> bytes:
    return b'"' + re.escape(value.encode()) + b'"'


def _group(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    return b'"(' + _TEXT + b')"'


def _needs_nobody(value: object) -> bytes:
    """What needs people's agreement never passes by a pattern (`approvals`)."""
    if value is not False:
        raise TypeError
    return b"false"


def _digest(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    return b'"(' + _DIGEST + b')"'
