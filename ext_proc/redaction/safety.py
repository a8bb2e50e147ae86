"""Is a pattern safe to run on what strangers write? Read from its parse tree, when rules load.

A pattern is bounded: how long a match can be, and how far it looks around, is known. It never tries more ways to read
one text than a small number, so a scan is linear in the text. What is refused is refused with the reason and with what
to write instead. The parser is the one of `re` itself: what is judged here is what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_parser: Any = import_module("re._parser")  # has no stub; `sre_parse`, its public name, is deprecated

LENGTH_MAX: Final = 4096
"""Of a match, or of the part of an open-ended one that decides: what a stream may have to hold back."""
LOOKBEHIND_MAX: Final = 64
LOOKAHEAD_MAX: Final = 64
WAYS_MAX: Final = 8192
"""Ways to read one text that a pattern may have: each costs time when the text is no match in the end."""

# A set of characters is a number: bit n for character n, bit 128 for every character beyond ASCII.
_OTHER: Final = 128


def _set(*ranges: tuple[int, int]) -> int:
    return sum((1 << min(high, _OTHER) + 1) - (1 << min(low, _OTHER)) for low, high in ranges)


_ALL: Final = _set((0, _OTHER))
_DIGITS: Final = _set((48, 57))
_WORD: Final = _set((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Final = _set((9, 13), (32, 32))
_CATEGORIES: Final = {
    "CATEGORY_DIGIT": _DIGITS,
    "CATEGORY_NOT_DIGIT": _ALL & ~_DIGITS,
    "CATEGORY_WORD": _WORD,
    "CATEGORY_NOT_WORD": _ALL & ~_WORD,
    "CATEGORY_SPACE": _SPACE,
    "CATEGORY_NOT_SPACE": _ALL & ~_SPACE,
}
_FLAGS: Final = re.compile(r"\(\?[a-zA-Z-]+\)")
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


class UnsafePattern(Exception):
    """Why a pattern is refused, and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a match is, and how many characters around it have a say."""

    min_length: int
    max_length: int
    lookbehind: int
    lookahead: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known of a piece of a pattern: ``ways`` of the variable piece that it ends in, over ``chars``."""

    least: int = 0
    most: int = 0
    behind: int = 0
    ahead: int = 0


def bounds(pattern: str, *, is_known_safe: bool = False) -> Bounds:
    """The bounds of a pattern.

    Args:
        pattern: the pattern.
        is_known_safe: do not ask again whether it could take long.

    Raises:
        UnsafePattern: it has none, or may take more time than the text is long.
    """
    tree = _parsed(pattern)
    whole = _measure(tree)
    if is_known_safe:
        return Bounds(whole.least, whole.most, whole.behind, whole.ahead)
    _check_flags(tree.state.flags)
    _Ways().walk(tree)
    if whole.most > LENGTH_MAX:
        raise UnsafePattern(f"a match may have {whole.most} characters", f"bound the repeats: {LENGTH_MAX} at most")
    if whole.behind > LOOKBEHIND_MAX:
        raise UnsafePattern(f"it looks {whole.behind} characters back", f"look back {LOOKBEHIND_MAX} at most")
    if whole.ahead > LOOKAHEAD_MAX:
        raise UnsafePattern(f"it looks {whole.ahead} characters ahead", f"look ahead {LOOKAHEAD_MAX} at most")
    return Bounds(whole.least, whole.most, whole.behind, whole.ahead)


def is_one_class(pattern: str) -> bool:
    """Does it match exactly one character, whatever the text around?"""
    if pattern.startswith("("):  # flags, which stand at the beginning of a whole pattern only
        return False
    tree = _parsed(pattern)
    return len(tree) == 1 and str(tree[0][0]) in ("LITERAL", "NOT_LITERAL", "IN", "ANY")


def is_plain(pattern: str) -> bool:
    """Do all engines of the gate, some of which read bytes, find the same with it? Classes must be of ASCII."""
    in_class = False
    for index, char in enumerate(pattern):
        if char in "[]" and (index == 0 or pattern[index - 1] != "\\"):
            in_class = char == "["
        is_odd = (
            in_class or pattern[index - 1 : index] == "\\" or pattern[index + 1 : index + 2] in ("?", "*", "+", "{")
        )
        if not char.isascii() and is_odd:
            return False
    # A pattern of bytes ends at a zero; and `(?a)` is Python's alone.
    return "\\u" not in pattern and "\0" not in pattern and not _FLAGS.match(pattern) and _is_plain(_parsed(pattern))


def overlap(one: str, other: str) -> bool:
    """May a match of ``other`` begin with a character of the class ``one``?"""
    return bool(_first(_parsed(other)) & _first(_parsed(one)))


def _parsed(pattern: str) -> Any:
    try:
        return _parser.parse(pattern, re.ASCII)
    except (re.error, ValueError) as error:  # the latter: flags that contradict each other
        raise UnsafePattern(f"it is no regular expression ({error})", "mend it; try it with Python's `re`") from None
    except (RecursionError, OverflowError):
        raise UnsafePattern("it is nested or counts beyond measure", "write it shorter") from None


def _check_flags(flags: int) -> None:
    """What is counted here takes letters for themselves."""
    if flags & (re.IGNORECASE | re.DOTALL):
        raise UnsafePattern("it changes what letters or `.` mean", "write [Aa] for any case, [^x] for any character")


# How long -------------------------------------------------------------------------------------------------------------


def _measure(tree: Iterable[Any]) -> _Part:
    least = most = behind = ahead = 0
    parts = [_measure_one(str(op), argument) for op, argument in tree]
    for part in parts:
        behind = max(behind, part.behind - least)
        least, most = least + part.least, most + part.most
    following = 0
    for part in reversed(parts):
        ahead = max(ahead, part.ahead - following)
        following += part.least
    return _Part(least, most, behind, ahead)


def _measure_one(op: str, argument: Any) -> _Part:  # noqa: PLR0911 - one for each kind
    match op:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
            return _Part(1, 1)
        case "AT":
            return _measure_at(str(argument))
        case "SUBPATTERN":
            return _measure(argument[3])
        case "ATOMIC_GROUP":
            return _measure(argument)
        case "BRANCH":
            several = [_measure(one) for one in argument[1]]
            return _Part(
                min(one.least for one in several),
                max(one.most for one in several),
                max(one.behind for one in several),
                max(one.ahead for one in several),
            )
        case "ASSERT" | "ASSERT_NOT":
            return _measure_look(*argument)
        case "GROUPREF" | "GROUPREF_EXISTS":
            raise UnsafePattern("it refers back to a group", "say what the group may hold a second time")
        case _ if op in _REPEATS:
            return _measure_repeat(*argument)
        case _:
            raise UnsafePattern(f"it uses {op.lower()}", "use classes, groups, counted repeats and look-around only")


def _measure_at(where: str) -> _Part:
    if where in ("AT_BOUNDARY", "AT_NON_BOUNDARY"):
        return _Part(behind=1, ahead=1)
    if where in ("AT_END_STRING", "AT_END"):  # `$` also stands before a last line end
        return _Part(ahead=2)
    return _Part(behind=1)


def _measure_look(direction: int, inner: Any) -> _Part:
    seen = _measure(inner)
    if direction > 0:
        return _Part(ahead=seen.most + seen.ahead)
    if seen.least != seen.most:  # `re` parses it, and does not compile it
        raise UnsafePattern(
            f"it looks back at {seen.least} to {seen.most} characters",
            "write a look-back for each length: (?:(?<=a)|(?<=bc))",
        )
    return _Part(behind=seen.most + seen.behind)


def _measure_repeat(low: int, high: Any, inner: Any) -> _Part:
    if high is _parser.MAXREPEAT:
        raise UnsafePattern(
            "it repeats without a bound",
            "write {0,200} for *, {1,200} for +; or, if a value has no end that it is known by, put the class after "
            "its conclusive beginning in `run`",
        )
    one = _measure(inner)
    return _Part(one.least * low, one.most * high, one.behind, one.ahead)


# How many ways --------------------------------------------------------------------------------------------------------


class _Ways:
    """Goes through a pattern and counts the ways to read one text.

    Variable repeats that stand next to each other and share characters multiply. A character between them that
    neither has ends that: where a repeat ends is known then, and only the ways to come there in spite of that are
    left. Those are never taken back, nor are those of branches that can read the same text: each is tried when the
    pattern fails later.
    """

    def __init__(self) -> None:
        self.chars = 0
        self.ways = 1
        self.widest = 1
        """Ways of the one repeat of them that has most."""
        self.kept_here = 1
        """Of the ways, those that a separator does not end."""
        self.kept = 1
        """Those of all that went before, and of branches."""
        self.is_ambiguous = False
        """Can one text be read in two ways?"""

    def walk(self, tree: Iterable[Any]) -> None:
        for op, argument in tree:
            self._one(str(op), argument)

    def _one(self, op: str, argument: Any) -> None:
        if op in _REPEATS:
            self._repeat(*argument)
        elif op == "SUBPATTERN":
            _check_flags(argument[1])
            self.walk(argument[3])
        elif op == "ATOMIC_GROUP":
            self._atomic(argument)
        elif op == "BRANCH":
            self._branch(argument[1])
        elif op in ("ASSERT", "ASSERT_NOT"):
            _Ways().walk(argument[1])
        elif op != "AT":
            self._separated_by(_chars(op, argument))

    def _separated_by(self, chars: int) -> None:
        if not chars & self.chars:
            self._end()

    def _end(self) -> None:
        self.kept *= self.kept_here
        self.chars, self.ways, self.widest, self.kept_here = 0, 1, 1, 1

    def _begin(self, ways: int, *, shares: bool) -> None:
        """Another thing that can end in several places."""
        if shares:
            self.kept_here *= min(ways, self.widest)
        self.widest = max(self.widest, ways)

    def _atomic(self, tree: Any) -> None:
        inner = _Ways()
        inner.walk(tree)  # once it has matched, it is never tried another way
        if _measure(tree).least:
            self._separated_by(_first(tree))
        self.ways = max(self.ways, inner.ways)
        self.is_ambiguous |= inner.is_ambiguous and inner.ways > WAYS_MAX

    def _branch(self, branches: list[Any]) -> None:
        ends = [self._after(branch) for branch in branches]
        shares = bool(self.chars & _any(_first(branch) for branch in branches))
        self.chars = _any(end.chars for end in ends)
        self.ways = max(end.ways for end in ends)
        self.widest = max(end.widest for end in ends)
        self.kept_here = max(end.kept_here for end in ends)
        self.kept = max(end.kept for end in ends)
        self.is_ambiguous |= any(end.is_ambiguous for end in ends)
        optional = [branch for branch in branches if not _measure(branch).least]
        choices = _choices([branch for branch in branches if _measure(branch).least])
        if choices > 1 or optional:
            self.is_ambiguous = True
            self.chars |= _any(_all(branch) for branch in branches)
        if optional:  # one that may be empty is like a `?` after the others
            self._begin(2, shares=shares)
            self.ways *= 2
        self.kept *= choices * max(len(optional), 1)
        self._check()

    def _after(self, branch: Any) -> _Ways:
        one = _Ways()
        one.chars, one.ways, one.widest = self.chars, self.ways, self.widest
        one.kept_here, one.kept = self.kept_here, self.kept
        one.walk(branch)
        return one

    def _repeat(self, low: int, high: int, inner: Any) -> None:
        if low == high == 1:
            self.walk(inner)
        elif len(inner) == 1 and str(inner[0][0]) in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            self._run(low, high, _chars(str(inner[0][0]), inner[0][1]))
        else:
            self._repeat_of_several(low, high, inner)

    def _run(self, low: int, high: int, chars: int) -> None:
        if low == high:
            self._separated_by(chars)
            return
        if chars & self.chars:
            self.is_ambiguous = True
            self._begin(high - low + 1, shares=True)
            self.chars, self.ways = self.chars | chars, self.ways * (high - low + 1)
        elif low:
            self._end()
            self._begin(high - low + 1, shares=False)
            self.chars, self.ways = chars, high - low + 1
        else:
            self._begin(high + 1, shares=False)
            self.chars, self.ways = self.chars | chars, max(self.ways, high + 1)
        self._check()

    def _repeat_of_several(self, low: int, high: int, inner: Any) -> None:
        once, twice = _Ways(), _Ways()
        once.walk(inner)
        if high > 1:
            twice.walk(inner)
            twice.walk(inner)
            if twice.is_ambiguous and high > 2:
                raise UnsafePattern(
                    "a repeat holds a repeat of the same characters, and one text can be read in very many ways",
                    "end the inner part with a character that its own repeat cannot match, or write it as one class",
                )
        base = self.ways if self.chars & _first(inner) else 1
        may_be_empty = low != high and not _measure(inner).least  # to leave it out reads the same
        self.is_ambiguous |= once.is_ambiguous or twice.is_ambiguous or may_be_empty or (low != high and base > 1)
        rounds = min(high, 2)  # of more, none is ambiguous
        if low:
            for _ in range(rounds):
                self.walk(inner)
        else:
            self.chars, self.ways = self.chars | once.chars, max(self.ways, once.ways)
            most = once if rounds == 1 else twice
            self.kept *= most.kept * most.kept_here
        if may_be_empty:
            self.kept *= high - low + 1
        if low != high:  # how often it goes round is a choice too
            self._begin(high - low + 1, shares=base > 1)
            self.chars |= _all(inner)
            self.ways = max(self.ways, base) * (high - low + 1)
        self._check()

    def _check(self) -> None:
        if self.ways > WAYS_MAX:
            raise UnsafePattern(
                f"repeats that share characters stand side by side: {self.ways} ways to read one text",
                "join them into one class, or put between them a character that neither can match",
            )
        if self.ways * self.kept > WAYS_MAX:
            raise UnsafePattern(
                f"branches or repeats can read the same: {self.ways * self.kept} ways to read one text, and more",
                "keep one of the branches that are alike, or put what they share before them; join repeats into one",
            )


def _choices(branches: list[Any]) -> int:
    """How many of the branches can read the same text? (Python's parser takes out what they begin with alike.)"""
    heads = [_head(branch) for branch in branches]
    return max((sum(_meet(one, other) for other in heads) for one in heads), default=1)


def _meet(one: list[int], other: list[int]) -> bool:
    """Can what begins with the one begin with the other, too?"""
    return all(mine & theirs for mine, theirs in zip(one, other, strict=False))


def _head(tree: Any) -> list[int]:
    """The sets of characters, one by one, that a match begins with, as far as there is only one for each place."""
    found: list[int] = []
    for op, argument in tree:
        name = str(op)
        if name in ("AT", "ASSERT", "ASSERT_NOT"):
            continue
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            found.append(_chars(name, argument))
        elif name == "SUBPATTERN" and (inner := _fixed(argument[3])) is not None:
            found += inner
        else:
            part = _measure_one(name, argument)
            return [*found, _chars(name, argument)] if part.least else found
    return found


def _fixed(tree: Any) -> list[int] | None:
    """`_head` of what has one length, and no branches: all of it."""
    part = _measure(tree)
    head = _head(tree)
    return head if part.least == part.most == len(head) else None


def _all(tree: Any) -> int:
    """Characters that a match can hold."""
    found = 0
    for op, argument in tree:
        name = str(op)
        if name in _REPEATS:
            found |= _all(argument[2])
        elif name == "SUBPATTERN":
            found |= _all(argument[3])
        elif name == "ATOMIC_GROUP":
            found |= _all(argument)
        elif name == "BRANCH":
            found |= _any(_all(branch) for branch in argument[1])
        elif name not in ("AT", "ASSERT", "ASSERT_NOT"):
            found |= _chars(name, argument)
    return found


def _is_plain(tree: Any) -> bool:
    return all(_is_plain_one(str(op), argument) for op, argument in tree)


def _is_plain_one(op: str, argument: Any) -> bool:  # noqa: PLR0911 - one for each kind
    match op:
        case "LITERAL":
            return True
        case "IN":
            return not any(str(kind) == "NEGATE" or "_NOT_" in str(what) for kind, what in argument)
        case "AT":
            return str(argument) == "AT_BOUNDARY"
        case "SUBPATTERN":
            return _is_plain(argument[3])
        case "BRANCH":
            return all(map(_is_plain, argument[1]))
        case "MAX_REPEAT" | "MIN_REPEAT":
            return _is_plain(argument[2])
        case _:
            return False


def _first(tree: Any) -> int:
    """Characters that a match can begin with."""
    found = 0
    for op, argument in tree:
        name = str(op)
        if name in ("AT", "ASSERT", "ASSERT_NOT"):
            continue
        found |= _chars(name, argument)
        if _measure_one(name, argument).least:
            break
    return found


def _chars(op: str, argument: Any) -> int:  # noqa: PLR0911 - one for each kind
    match op:
        case "LITERAL":
            return 1 << min(int(argument), _OTHER)
        case "NOT_LITERAL":
            return _ALL & ~(1 << int(argument)) if argument < _OTHER else _ALL
        case "ANY":
            return _ALL & ~(1 << 10)
        case "IN":
            return _class(argument)
        case "SUBPATTERN":
            return _first(argument[3])
        case "ATOMIC_GROUP":
            return _first(argument)
        case "BRANCH":
            return _any(_first(one) for one in argument[1])
        case _ if op in _REPEATS:
            return _first(argument[2])
        case _:
            return 0


def _class(items: list[Any]) -> int:
    found = 0
    is_negated = False
    for op, argument in items:
        match str(op):
            case "NEGATE":
                is_negated = True
            case "LITERAL":
                found |= 1 << min(argument, _OTHER)
            case "RANGE":
                found |= _set(argument)
            case "CATEGORY":
                found |= _CATEGORIES[str(argument)]
            case _:
                pass
    return (_ALL & ~found) | 1 << _OTHER if is_negated else found


def _any(sets: Iterable[int]) -> int:
    found = 0
    for one in sets:
        found |= one
    return found
