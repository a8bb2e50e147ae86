"""Tokens: what stands in a value's place and can be told from everything else, and how the value comes back. Pure.

A token is ``<EMAIL_QWRTZB>``: the entity, and letters that a keyed hash of the value gave, so that equal values of a
conversation look equal to the model and nobody can make one up. Letters only, and no vowels: digits could be taken for
a value again (``<PHONE_2345672>``), and words for words.

Values come back after masking. A model writes tokens in its own way: another case, a bracket left out. Those are
understood where only one thing can be meant; never a letter more or less, never the letters of another entity.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Final

from ext_proc.model import Edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
LENGTHS: Final = (6, 7, 9, 10)
"""Letters of a token: the fewest that no other value's token has (six letters are 64 million). Eight are a bank's."""
VALUE_MAX: Final = 1024
"""Characters; a longer value is masked: nobody's name or number is."""
VALUES_MAX: Final = 1000
"""Of one request; what comes after them is masked."""

RESTORED_MAX: Final = 4 * 1024 * 1024
"""Characters of values in one answer: a model that says a token for ever must not fill the memory. Then tokens stay."""

_SUFFIX: Final = f"(?:[{LETTERS}]{{9,10}}|[{LETTERS}]{{6,7}})"
_GLUED: Final = frozenset(f"{ascii_letters}{digits}_<")
_SPOILT: Final = 2
"""Characters of a token beside its name: the brackets."""


def entity_of(name: str) -> str:
    """The entity of a token's name (``EMAIL_QWRTZB``)."""
    return name.rpartition("_")[0]


def name_of(key: bytes, scope: str, entity: str, value: str, length: int) -> str:
    """The name of a value's token, of so many letters.

    Args:
        key: of the keyed hash; the subject's own.
        scope: whose conversation.
        entity: the value's.
        value: what it stands for.
        length: one of `LENGTHS`.
    """
    said = f"{scope}\0{entity}\0{value}".encode(errors="surrogatepass")
    number = int.from_bytes(hmac.new(key, said, hashlib.sha256).digest(), "big")
    letters = []
    for _ in range(length):
        number, letter = divmod(number, len(LETTERS))
        letters.append(LETTERS[letter])
    return f"{entity}_{''.join(letters)}"


def written(name: str) -> str:
    """A token as it stands in a text."""
    return f"<{name}>"


def form_of(entities: Iterable[str]) -> str:
    """Pattern of a token of one of these entities, as we write it: nothing that a caller chose is in it."""
    return f"<(?:{'|'.join(sorted(entities))})_{_SUFFIX}>"


class Restorer:
    """Puts values back, and counts them.

    Args:
        values: by the names of their tokens: all that may be put back.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._stems = tuple(sorted({f"{entity_of(name)}_" for name in values}, reverse=True))
        self._counts: Counter[str] = Counter()
        self._left = RESTORED_MAX
        most = max((len(stem) for stem in self._stems), default=0)
        self.reach: Final = most + LENGTHS[-1] + _SPOILT
        """Characters of a token at most."""
        self._firsts = frozenset("<").union(*((stem[0], stem[0].lower()) for stem in self._stems))
        stem = "|".join(map(re.escape, self._stems)) or "(?!)"
        # Either bracket may be missing, where no letter, digit or mark of a name is glued to that side.
        self._token = re.compile(
            rf"<(?P<name>(?:{stem}){_SUFFIX})(?:>|(?!\w))|(?<![\w<])(?P<open>(?:{stem}){_SUFFIX})>",
            re.IGNORECASE | re.ASCII,
        )

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """How many were put back, by entity."""
        return tuple(sorted(self._counts.items()))

    def edits(self, text: str) -> list[Edit]:
        """What to put in the place of the tokens in a whole text."""
        if "<" not in text and ">" not in text:
            return []
        return [Edit(*found.span(), value) for found in self._token.finditer(text) if (value := self._value(found))]

    def restored(self, text: str) -> str:
        """A whole text with its values."""
        if "<" not in text and ">" not in text:
            return text
        return self._token.sub(lambda found: self._value(found) or found.group(), text)

    def settled(self, text: str, begin: int, *, is_over: bool = False) -> tuple[str, int]:
        """The text from ``begin`` on with its values, as far as nothing that comes can change it, and how far that is.

        Args:
            text: what came so far; what stands before ``begin`` went on already, and is only looked back at.
            begin: where the rest begins.
            is_over: nothing comes any more.
        """
        said: list[str] = []
        at, held = begin, len(text) if is_over else self._held(text, begin)
        for found in self._token.finditer(text, begin):
            if found.start() >= held:
                break
            said += (text[at : found.start()], self._value(found) or found.group())
            at = found.end()
        said.append(text[at:held])
        return "".join(said), held

    def _value(self, found: re.Match[str]) -> str | None:
        name = (found["name"] or found["open"]).upper()
        value = self._values.get(name)
        if value is None or len(value) > self._left:
            return None
        self._left -= len(value)
        self._counts[entity_of(name)] += 1
        return value

    def _held(self, text: str, begin: int) -> int:
        """The first place from ``begin`` on at which a token may have begun that is not over yet."""
        end = len(text)
        for at in range(max(begin, end - self.reach), end):
            if text[at] in self._firsts and self._may_go_on(text, at):
                return at
        return end

    def _may_go_on(self, text: str, at: int) -> bool:
        rest = text[at:]
        if rest[0] == "<":
            rest = rest[1:]
        elif at and text[at - 1] in _GLUED:
            return False
        if not rest.isascii():
            return False
        said = rest.upper()
        return any(
            stem.startswith(said)
            or (
                said.startswith(stem)
                and len(said) - len(stem) <= LENGTHS[-1]
                and all(letter in LETTERS for letter in said[len(stem) :])
            )
            for stem in self._stems
        )


class StreamRestorer:
    """`Restorer` of one text that comes in parts: for every chunking, what it makes of the whole.

    Args:
        restorer: knows the values.
    """

    __slots__ = ("_before", "_held", "_restorer")

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._before = ""  # the last character that went on, as it came
        self._held = ""

    def feed(self, text: str) -> str:
        """What may go on, now that ``text`` has come."""
        if not text:
            return ""
        before, whole = len(self._before), self._before + self._held + text
        said, held = self._restorer.settled(whole, before)
        self._held = whole[held:]
        self._before = whole[held - 1 : held] or self._before
        return said

    def finish(self) -> str:
        """The rest: nothing comes any more, or it was waited for long enough."""
        whole = self._before + self._held
        said, _ = self._restorer.settled(whole, len(self._before), is_over=True)
        self._before, self._held = whole[-1:], ""
        return said


def first_of(values: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The values that get a token: each once, in order, as many as may."""
    distinct = dict.fromkeys((entity, value) for entity, value in values if len(value) <= VALUE_MAX)
    return tuple(distinct)[:VALUES_MAX]
