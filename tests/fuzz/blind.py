"""A masker that lets nothing through as it is, and what may stand in an answer although no masker ever saw it.

Whatever of a text comes out is `MARK` for each character. So what comes out as anything else was not scanned: unless it
stands in the short list of `ext_proc.protocols.streaming` of what needs no look, which is written down here once more,
on purpose: whoever makes that list longer finds these harnesses red, and says here why.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ext_proc.protocols.packed import is_packed
from ext_proc.protocols.streaming.channels import WITHHELD
from ext_proc.protocols.streaming.dialect import LABELS, PADDING
from ext_proc.protocols.streaming.walking import _KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "•"
HELD = 2
"""Characters that the masker keeps back until its text is over: tails are where streams go wrong."""
SHORT = 3
NUMBER_MIN = 1000
COUNTER_MIN = 10**9
FRACTION_MIN = 10**8

_WORD = re.compile(r"[a-z][a-z_.-]{0,63}")
_TIME = re.compile(r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d(?:\.\d{1,9})?(?:Z|[+-][0-2]\d:[0-5]\d)", re.ASCII)
_TAKEN = re.compile(rf"{MARK}+(?:_[0-9]+)?")
"""A key that was masked, and had to be told from another one that was."""
_ARGUMENTS = frozenset({"arguments", "delta", "partial_json"})
_MARKS_OF_JSON = re.compile(
    r"_[0-9]+(?=\")|true|false|null|-?(?:[0-9]{1,3}|[0-9]{1,8}\.[0-9]+)(?![0-9.])(?:[eE]-?[0-9]+)?|\\+[nrt]?|[\s\[\]{},:\"]"
)


class Blind:
    """A masker (`ext_proc.protocols.streaming.Masker`).

    Args:
        maskers: told what was fed.
        only: characters that are taken out.
    """

    def __init__(self, maskers: Blinds, only: re.Pattern[str]) -> None:
        self.blocked: tuple[str, ...] = ()
        self.removals: tuple[Any, ...] = ()
        self._maskers = maskers
        self._only = only
        self._held = ""
        self.is_finished = False

    @property
    def removal_count(self) -> int:
        return len(self.removals)

    def feed(self, text: str) -> str:
        assert not self.is_finished, "a masker is fed after its end"
        self._maskers.fed_characters += len(text)
        said = self._held + text
        self._held = said[-HELD:]
        return self._blinded(said[:-HELD])

    def finish(self) -> str:
        assert not self.is_finished, "a masker ends twice"
        self.is_finished = True
        said, self._held = self._held, ""
        return self._blinded(said)

    def flush_masked(self) -> str:
        said, self._held = self._held, ""
        return MARK * len(said)

    def _blinded(self, text: str) -> str:
        return self._only.sub(MARK, text)


class Blinds:
    """Makes them (`ext_proc.protocols.streaming.MakeMasker`), and counts what they were given.

    Args:
        only: digits only? Then most texts are clean, and what a stream keeps of clean ones is tried too.
    """

    def __init__(self, *, only_digits: bool = False) -> None:
        self.only = re.compile(r"\d" if only_digits else r"[\s\S]")
        self.fed_characters = 0
        self.made: list[Blind] = []

    def __call__(self, path: str, context: str) -> Blind:
        del path, context
        self.made.append(Blind(self, self.only))
        return self.made[-1]

    @property
    def is_all_out(self) -> bool:
        """Has every text been ended? What is held back of the others nobody will ever see."""
        return all(one.is_finished for one in self.made)

    def is_through(self, text: str) -> bool:
        """Is there a character in it that a masker would have taken out?"""
        return self.only.search(text.replace(MARK, "")) is not None


def unscanned(body: Any, blinds: Blinds) -> list[str]:
    """What stands in an event although no masker has seen it, and nobody says that it need not."""
    return [said for key, said in _said(body, "") if not _may_stand(key, said, blinds)]


def _said(node: Any, key: str) -> Iterator[tuple[str | None, Any]]:
    """Every string and number with the key that it stands under; keys under None."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield None, name
            yield from _said(inner, name)
    elif isinstance(node, list):
        for inner in node:
            yield from _said(inner, key)
    elif node is not None and not isinstance(node, bool):
        yield key, node


def _may_stand(key: str | None, said: Any, blinds: Blinds) -> bool:
    if not isinstance(said, str):
        return _is_small(key, said)
    if len(said) <= SHORT or said == WITHHELD or not blinds.is_through(said):
        return True
    if key is None:
        return said in _KNOWN or _TAKEN.fullmatch(said) is not None
    if key in LABELS and (_WORD.fullmatch(said) or _TIME.fullmatch(said)):
        return True
    if key in _ARGUMENTS and not blinds.is_through(_MARKS_OF_JSON.sub("", said)):
        return True
    return is_packed(said) or (key == PADDING and not said.strip("x"))


def _is_small(key: str | None, said: float) -> bool:
    size = abs(said)
    if isinstance(said, int) or said.is_integer():
        return size < NUMBER_MIN or (key in ("index", "sequence_number") and size < COUNTER_MIN)
    return size < FRACTION_MIN


def tree_of(text: str) -> Any:
    """What a reader makes of JSON; a repeated key is a defect of whoever wrote it."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in found}) == len(found), "a key is written twice"
        return dict(found)

    return json.loads(text, object_pairs_hook=pairs)
