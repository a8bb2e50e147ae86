"""Where a text may be cut so that its parts can be looked at one by one; what of a span counts. Pure.

Every cut is decided by the text up to it and a character or two behind it, never by how the text came: so a stream has
the same parts whatever its pieces.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ext_proc.model import Span

PART_MAX: Final = 4096
"""Characters of a whole text that are looked at together."""
SENTENCE_MAX: Final = 512
"""Characters of a sentence; a longer one is cut between two words."""
WINDOW_MAX: Final = 160
"""Characters of a window."""
WINDOW_WORDS: Final = 8
_WINDOW_WORDS_MAX: Final = 12

_OURS: Final = ("WITHHELD", "FIELD")
"""What stands in the place of something that is no rule's find."""
_BEGUN: Final = re.compile(r"[\[<][A-Z0-9_]{0,64}(?::[a-p]{0,8})?\Z|\*{1,4}.{0,3}\Z", re.DOTALL)
_BEGUN_MAX: Final = 80

# A full stop after a title or an initial ends no sentence: the name would be torn from it.
_TITLES: Final = ("Mr", "Mrs", "Ms", "Dr", "St", "Sr", "Jr", "Prof", "Mme", "Hr", "Fr", "Sra")
_SENTENCE_END: Final = re.compile(
    r"\n|[。！？]|(?:[!?\u2026]|\."  # noqa: RUF001 - full stops of other scripts
    + "".join(rf"(?<!\b{title}\.)" for title in _TITLES)
    + r"(?<!\b[^\W\d_]\.))[.!?\"'\u201d\u2019)\]]*(?=\s)"
)
_WORD: Final = re.compile(r"\S+")
_FIRST_LETTER: Final = re.compile(r"(?<![^\W_])[^\W\d_]")
_BLANK: Final = re.compile(r"\s+")

_LETTER: Final = re.compile(r"[^\W\d_]")
_IDENTIFIER: Final = re.compile(r"\S*[0-9_]\S*|[^\w\s]*[a-z][a-z./:+-]*")
"""One word with a digit or an underscore, or all in lower case, is the name of a thing: ``get_weather``, ``gpt-4o``."""


class Cut(Protocol):
    """Where the first part of a text ends."""

    def __call__(self, text: str) -> int | None:
        """The end of the part that ``text`` begins with; None where more of the text must come first."""
        ...


def is_prose(text: str, *, words_min: int = 1) -> bool:
    """Can there be a name in it? What looks like a label of a protocol's is none, nor is a number."""
    if _LETTER.search(text) is None:
        return False
    words = text.split(None, 2)
    return len(words) > 1 or (words_min == 1 and _IDENTIFIER.fullmatch(words[0]) is None)


def has_letters(text: str) -> bool:
    """Else there is nothing to ask about."""
    return _LETTER.search(text) is not None


def sentence_end(text: str, limit: int = SENTENCE_MAX) -> int | None:
    """`Cut` after a sentence or a line; of a very long one, between two words."""
    found = _SENTENCE_END.search(text, 0, limit + 1)
    if found is not None and found.end() <= limit:
        return found.end()
    return _at_limit(text, limit) if len(text) > limit else None


def window_end(text: str) -> int | None:
    """`Cut` after eight words, or a few more where a name could be going on; or where a sentence ends."""
    sentence = sentence_end(text, WINDOW_MAX)
    before = ""
    for count, word in enumerate(_WORD.finditer(text)):
        if sentence is not None and word.end() >= sentence:
            return sentence
        if word.end() == len(text):
            return None  # the word may go on
        is_name_going_on = _has_capital(before) and _has_capital(word[0]) and count < _WINDOW_WORDS_MAX
        if count >= WINDOW_WORDS and not is_name_going_on:
            return word.start()
        before = word[0]
    return sentence


def _has_capital(word: str) -> bool:
    """Does a word of it begin with one? A bracket, a quotation mark or a placeholder may stand before the name."""
    return any(found[0].isupper() for found in _FIRST_LETTER.finditer(word))


def _at_limit(text: str, limit: int) -> int:
    blanks = [found.end() for found in _BLANK.finditer(text, limit // 2, limit)]
    if blanks:
        return blanks[-1]
    begun = _BEGUN.search(text, max(limit - _BEGUN_MAX, 1), limit)
    return begun.start() if begun is not None else limit


def cut_up(text: str, cut: Cut, reach: int) -> tuple[list[str], str]:
    """The parts of a text that are over, and what is left of it.

    Args:
        text: it.
        cut: where.
        reach: characters that ``cut`` must see at most.
    """
    found: list[str] = []
    begin = 0
    while (end := cut(text[begin : begin + reach])) is not None:
        found.append(text[begin : begin + end])
        begin += end
    return found, text[begin:]


def parts(text: str) -> Iterator[tuple[int, str]]:
    """A whole text in parts that a recogniser can be asked about: where each begins, and what it says."""
    sentences, rest = cut_up(text, sentence_end, SENTENCE_MAX + 1)
    begin = size = 0
    for sentence in (*sentences, rest):
        if size and size + len(sentence) > PART_MAX:
            yield begin, text[begin : begin + size]
            begin, size = begin + size, 0
        size += len(sentence)
    yield begin, text[begin:]


def outside(span: Span, taken: Iterable[tuple[int, int]], text: str) -> Iterator[Span]:
    """What of ``span`` is not ``taken`` (in order): without blanks at its pieces' ends."""
    start = span.start
    for low, high in taken:
        if high <= start:
            continue
        if low >= span.end:
            break
        yield from _trimmed(span, start, low, text)
        start = high
    yield from _trimmed(span, start, span.end, text)


def _trimmed(span: Span, start: int, end: int, text: str) -> Iterator[Span]:
    said = text[start : max(start, end)]
    if any(character.isalnum() for character in said):
        begin = start + len(said) - len(said.lstrip())
        yield replace(span, start=begin, end=begin + len(said.strip()))


def placeholder_of(entities: Iterable[str]) -> re.Pattern[str]:
    """What stands for a value that was taken out, in all forms that a decision can ask for.

    Only of entities that there are: else a name would be none in brackets, and a model can write brackets, too.
    """
    known = "|".join(map(re.escape, sorted({*entities, *_OURS})))
    return re.compile(rf"\[(?:{known})(?::[a-p]{{8}})?\]|<(?:{known})(?:_[A-Z0-9]{{2,12}})?>|\*{{4}}")


CUTS: Final[dict[str, tuple[Cut, int]]] = {
    "sentence": (sentence_end, SENTENCE_MAX + 1),
    "window": (window_end, WINDOW_MAX + 1),
}
"""By the name of a mode: where a stream is cut, and how many characters decide about it."""
