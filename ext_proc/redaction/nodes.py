"""A pattern as places that wait for characters: what `liveness` follows a text with.

Read from the parse tree of `re` itself. What is read says yes more often than the pattern: upper counts are only kept
as how long a match may be, look-behind only where it is one character at the beginning, back references not at all.
"""

from __future__ import annotations

import math
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ACCEPT: Final = -1
"""In a node's ways on: here a match may end."""

_parser: Any = import_module("re._parser")  # has no stub; `sre_parse`, its public name, is deprecated
_MAXREPEAT: Final = _parser.MAXREPEAT
_IGNORECASE: Final = int(re.IGNORECASE)
_DOTALL: Final = int(re.DOTALL)
_COUNT_MAX: Final = 64
"""Least counts up to here are told apart."""

Ends: TypeAlias = "list[set[int]]"
"""Of what was read so far: the ways on that lead to what is read next."""


class Tests:
    """What characters are asked for: each question once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._tests: list[Callable[[str], bool]] = []
        self._passed: dict[str, frozenset[int]] = {}

    def number(self, op: Any, argument: Any, flags: int) -> int:
        """Of the question that an item of a pattern asks."""
        name = f"{op} {argument} {flags & (_IGNORECASE | _DOTALL)}"
        if name not in self._numbers:
            self._numbers[name] = len(self._tests)
            self._tests.append(_tester(str(op), argument, flags))
        return self._numbers[name]

    def passed(self, char: str) -> frozenset[int]:
        """The numbers of those that ``char`` passes. Kept: call it with characters that stand for many."""
        passed = self._passed.get(char)
        if passed is None:
            passed = self._passed[char] = self.asked(char)
        return passed

    def asked(self, char: str) -> frozenset[int]:
        """The same, not kept."""
        return frozenset(number for number, test in enumerate(self._tests) if test(char))


class Node:
    """A place in a pattern that waits for one character.

    ``test``: which of `Tests` the character must pass. ``ways``: nodes after it, and `ACCEPT`. ``most``: how many
    characters a match has at most when it waits here. ``is_open``: it may wait here for as long as it likes.
    ``resists``: a placeholder in the text does not end it, or makes it one; None while that was not asked.
    ``site`` and ``counts``: which item of the pattern, and in which turn of the repeats around it: what a later turn
    accepts, an earlier one may not yet.
    """

    __slots__ = ("counts", "is_open", "most", "resists", "rule", "site", "test", "ways")

    def __init__(self, rule: int, test: int, most: float, site: tuple[int, ...], counts: tuple[int, ...]) -> None:
        self.rule = rule
        self.test = test
        self.most = most
        self.site = site
        self.counts = counts
        self.ways: set[int] = set()
        self.is_open = False
        self.resists: bool | None = None


class PatternReader:
    """Reads one pattern into nodes."""

    def __init__(self, nodes: list[Node], tests: Tests, rule: int, flags: int) -> None:
        self._nodes = nodes
        self._tests = tests
        self._rule = rule
        self._flags = flags
        self.is_lazy = False
        self.barred: set[int] = set()
        """A match does not begin after a character that passes one of these."""
        self.is_at_boundary = False
        """Nor does it begin where a word goes on."""
        self._site = (0, 0)
        self._exact: tuple[int, ...] = ()
        self.entry: set[int] = set()

    def read(self, pattern: str) -> None:
        """Read a whole pattern."""
        tree = _parser.parse(pattern, self._flags & ~int(re.DEBUG))
        for op, argument in tree:
            if str(op) == "ASSERT_NOT" and argument[0] < 0 and len(argument[1]) == 1 and _is_one(argument[1][0]):
                self.barred.add(self._tests.number(argument[1][0][0], argument[1][0][1], self._flags))
            elif str(op) == "AT" and str(argument) == "AT_BOUNDARY":
                self.is_at_boundary = True
            elif str(op) not in ("ASSERT", "ASSERT_NOT"):
                break
        ends, _ = self._items(tree, [self.entry], 0, ())
        for end in ends:
            end.add(ACCEPT)

    def _items(self, tree: Any, ends: Ends, most: float, counts: tuple[int, ...]) -> tuple[Ends, float]:
        for index, (op, argument) in enumerate(tree):
            self._site = id(tree), index
            ends, most = self._item(str(op), argument, ends, most, counts)
        return ends, most

    def _item(self, op: str, argument: Any, ends: Ends, most: float, counts: tuple[int, ...]) -> tuple[Ends, float]:
        match op:
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return self._repeat(op, argument, ends, most, counts)
            case "SUBPATTERN" | "ATOMIC_GROUP":
                return self._group(argument, ends, most, counts)
            case "BRANCH":
                made = [self._items(branch, ends, most, counts) for branch in argument[1]]
                return [end for several, _ in made for end in several], max(length for _, length in made)
            case "ASSERT" | "ASSERT_NOT":
                if argument[0] > 0:
                    self._ahead(argument[1], ends, most, counts)
                return ends, most
            case "AT":
                return self._at(str(argument), ends, most, counts)
            case "LITERAL" | "NOT_LITERAL" | "IN" | "ANY":
                return self._consumed(self._tests.number(op, argument, self._flags), ends, most, counts)
            case _:
                raise ValueError(f"a pattern uses {op.lower()}, which cannot be followed in a stream")

    def _ahead(self, tree: Any, ends: Ends, most: float, counts: tuple[int, ...]) -> None:
        """What is looked at ahead is a branch without a way on: alive until it is known.

        What must not follow a value, or must (the end of a word), may be another thing once a placeholder is there.
        """
        first = len(self._nodes)
        self._items(tree, ends, most, counts)
        for node in self._nodes[first:]:
            if node.most > most:  # at the first place, the hit before it says the same
                node.resists = True

    def _group(self, argument: Any, ends: Ends, most: float, counts: tuple[int, ...]) -> tuple[Ends, float]:
        if not isinstance(argument, tuple):
            return self._items(argument, ends, most, counts)
        _, more, less, inner = argument
        outer, self._flags = self._flags, (self._flags | more) & ~less
        read = self._items(inner, ends, most, counts)
        self._flags = outer
        return read

    def _consumed(self, test: int, ends: Ends, most: float, counts: tuple[int, ...]) -> tuple[Ends, float]:
        node = Node(self._rule, test, most, (self._rule, *self._site, *self._exact), counts)
        self._nodes.append(node)
        for end in ends:
            end.add(len(self._nodes) - 1)
        return [node.ways], most + 1

    def _at(self, where: str, ends: Ends, most: float, counts: tuple[int, ...]) -> tuple[Ends, float]:
        if where in ("AT_END", "AT_END_STRING"):
            return [], most  # not while text may come; at the end everything is looked at
        if where in ("AT_BOUNDARY", "AT_NON_BOUNDARY"):
            self._consumed(self._tests.number("ANY", None, _DOTALL), ends, most, counts)
        return ends, most

    def _repeat(self, op: str, argument: Any, ends: Ends, most: float, counts: tuple[int, ...]) -> tuple[Ends, float]:
        low, high, body = argument
        if not high:
            return ends, most
        self.is_lazy |= op == "MIN_REPEAT" and high is _MAXREPEAT
        if low == high == 1:
            return self._items(body, ends, most, counts)
        before, first = ends, len(self._nodes)
        turns = max(1, min(low, _COUNT_MAX))
        # Counts are exact where starts are few: else one start for many.
        is_exact = low == high == turns and bool(self.barred)
        exact = self._exact
        inner: Ends = []
        entry: set[int] = set()
        start = most
        for turn in range(turns):
            entry, first, start = set(), len(self._nodes), most
            if is_exact:
                self._exact = (*exact, turn)
            inner, most = self._items(body, [*ends, entry], most, counts if is_exact else (*counts, turn))
            if turn < turns - 1:
                ends = inner
        self._exact = exact
        if high != 1 and not is_exact:  # the last turn again and again
            for end in inner:
                end.update(entry)
            is_open = high is _MAXREPEAT or most == math.inf
            more = math.inf if is_open else (most - start) * (high - turns)
            most += more
            for node in self._nodes[first:]:
                node.most += more
                node.is_open |= high is _MAXREPEAT
        return (inner if low else [*before, *inner]), most


def _is_one(item: Any) -> bool:
    return str(item[0]) in ("LITERAL", "NOT_LITERAL", "IN", "ANY")


def is_word(char: str) -> bool:
    r"""Is it what ``\w`` means here?"""
    return char < "\x80" and (char.isalnum() or char == "_")


def _anything(_char: str) -> bool:
    return True


def _tester(op: str, argument: Any, flags: int) -> Callable[[str], bool]:
    """Is a character of the class? In any case where the pattern is read so."""
    exact = _exact(op, argument, flags)
    if not flags & _IGNORECASE:
        return exact
    return lambda char: exact(char) or exact(char.lower()) or exact(char.upper())


def _exact(op: str, argument: Any, flags: int) -> Callable[[str], bool]:
    match op:
        case "LITERAL":
            return chr(argument).__eq__
        case "NOT_LITERAL":
            return chr(argument).__ne__
        case "ANY":
            return _anything if flags & _DOTALL else "\n".__ne__
        case _:
            return _of_class(argument)


def _of_class(items: Sequence[Any]) -> Callable[[str], bool]:
    is_not = str(items[0][0]) == "NEGATE"
    ranges: list[tuple[str, str]] = []
    categories: list[str] = []
    for op, argument in items[is_not:]:
        match str(op):
            case "LITERAL":
                ranges.append((chr(argument), chr(argument)))
            case "RANGE":
                ranges.append((chr(argument[0]), chr(argument[1])))
            case "CATEGORY":
                categories.append(str(argument))
            case other:
                raise ValueError(f"a pattern uses {other.lower()}, which cannot be followed in a stream")
    return lambda char: (
        (any(low <= char <= high for low, high in ranges) or any(_is_of(char, name) for name in categories))
        is not is_not
    )


def _is_of(char: str, category: str) -> bool:
    """Patterns are ASCII (``re.ASCII``): so are their categories."""
    is_ascii = char < "\x80"
    if category.endswith("DIGIT"):
        found = is_ascii and char.isdigit()
    elif category.endswith("SPACE"):
        found = is_ascii and char in " \t\n\r\f\v"
    elif category.endswith("WORD"):
        found = is_word(char)
    else:
        raise ValueError(f"a pattern uses {category.lower()}, which cannot be followed in a stream")
    return found is not ("NOT_" in category)
