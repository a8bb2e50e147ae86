"""A body as channels of text, and back.

A `Document` owns the parsed tree. A *slot* says where in it a channel's text lives: in one place, or, for a stream
read as a whole, in the fragments of many events. `Document.rewritten` writes the edits into the tree and renders it:
call it once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ext_proc.model import Edit, Usage
from ext_proc.protocols.json_text import DEPTH_MAX, JsonError, Written, parse, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ext_proc.model import ToolCall
    from ext_proc.protocols.fielded import Fielded
    from ext_proc.protocols.tools import Asked

NUMBER_MIN: Final = 1000
"""Numbers below have at most three digits: no rule is that short, but for a card's code (`is_short`)."""
LISTED_NUMBER_MIN: Final = 10**8
LISTED_FEW: Final = 16
"""In a list of more numbers than this (token ids, vectors) only those of nine digits and more are looked at."""
_TELLING: Final = re.compile(
    r"account|acct|birth|card|coord|credential|cv[vcn]|cv.?code|dob|driver|fax|iban|insur|latitude|licen[cs]e|location"
    r"|longitude|medic|mobile|pass(?:word|wd|code|phrase|port)|patient|phone|policy|pwd|routing|secret|security|social|ssn"
    r"|tax|telephone|verification"
    r"|(?:^|[ _-])(?:2fa|dl|gps|id|lat|lng|lon|mrn|nhs|nino|npi|otp|pin|sin|tel|tin)(?:$|[ _-])"
    r"|(?-i:(?:\b|[a-z0-9])(?:Gps|Lat|Lng|Lon|Mrn|Nhs|Npi|Otp|Pin|Sin|Tel|Tin)(?![a-z])"
    r"|\b(?:gps|lat|lng|lon|mrn|nhs|npi|otp|pin|sin|tel|tin)(?=[A-Z0-9]))|[^ -~]|[&%\\=]",
    re.IGNORECASE,
)
"""Keys that say what numbers are: those are looked at, however many there are, and with a fraction. (What a disguised
key says, the rules know.) More of them than the rules know of do no harm, fewer do: `redaction.detect` has those."""
FRACTION_MIN: Final = 10**8
"""Other numbers with a fraction are measures and probabilities below this: one in ten would pass Luhn's check."""

_CODE: Final = re.compile(
    r"cv[vcn]|cv.?code|security.?code|verification.?(?:code|value|number)|[^ -~]|[&%\\=]", re.IGNORECASE
)
"""Keys of numbers that are somebody's with three digits."""
_SAYS_NOTHING: Final = frozenset({"no", "num", "number", "numbers", "raw", "text", "v", "val", "value", "values"})
"""Keys that tell of a value only together with the one above."""
_EXPONENT: Final = re.compile("[eE]")
_WITHHELD: Final = "[WITHHELD]"
_EXACT_MAX: Final = 1e22
"""Floats below have all their digits (IEEE 754: powers of ten are exact up to here)."""
KEY_SHOWN: Final = 32
"""A longer key is ``*`` in a path: paths of many children would otherwise grow with the square of the body."""

NESTED_LEVELS: Final = 3
"""JSON inside a string inside JSON ...: read this deep, then scanned as text."""


class Channel(NamedTuple):
    """One piece of text. ``path`` is JSON-pointer-like; ``context`` is the nearest key (``password`` says a lot).

    ``cuts`` are offsets at which parts meet that could also be read apart (the text parts of one message): such text
    is looked at as a whole and part by part. (A tuple: a body has dozens, and a frozen dataclass costs three times as
    much to make.)
    """

    path: str
    text: str
    kind: str
    context: str = ""
    cuts: tuple[int, ...] = ()


Place = tuple[Any, Any, tuple[tuple[Any, Any, Any], ...]]
"""Holder and key of a piece of text, and what to put elsewhere (holder, key, value) if it is edited."""


@dataclass(slots=True)
class _Fragment:
    """A place of text. ``also``: what becomes of places that say the same in another way, if this one is edited."""

    holder: Any
    key: Any
    text: str
    also: tuple[tuple[Any, Any, Any], ...] = ()


@dataclass(slots=True)
class _Nested:
    """A string that is itself JSON: written again if a slot between ``first`` and ``last`` was edited."""

    fragments: list[_Fragment]
    root: list[Any]
    first: int
    last: int


def is_short(size: float, context: str) -> bool:
    """Is a number too short for any rule, under that key?"""
    return size < NUMBER_MIN and not _CODE.search(context)


def is_telling(context: str) -> bool:
    """Does a key say what its numbers are?"""
    return _is_telling(context) if len(context) <= KEY_SHOWN else _TELLING.search(context) is not None


@lru_cache(maxsize=128)
def _is_telling(context: str) -> bool:
    """Every component of an embedding asks."""
    return _TELLING.search(context) is not None


def is_measure(value: float, context: str) -> bool:
    """Is a number too short for any rule under that key, or a fraction that it says nothing of?"""
    if not isinstance(value, int) and not value.is_integer():
        return abs(value) < FRACTION_MIN and not is_telling(context)
    return is_short(abs(value), context)


def told_by(parent: str, key: str) -> str:
    """What says what a value is: its key, and the one above where that says nothing (``{"ssn": {"value": ...}}``)."""
    if key.lower() in _SAYS_NOTHING and len(parent) <= KEY_SHOWN * 2 and is_telling(parent):
        return f"{parent} {key} {parent}"  # an account's number, and what stands right after a password's name
    return key


def mantissa(written: str) -> tuple[str, float]:
    """The digits of a number as they were written, without the power of ten, and what they are by themselves.

    ``4111111111111111e-12`` is a small number to one reader, and a card to another.
    """
    digits = _EXPONENT.split(written)[0]
    return digits, float(digits) if "." in digits else int(digits)


def digits_of(value: float) -> str:
    """A number as whoever reads it next sees it: 4.1e15 and 4100000000000000.0 are the same digits.

    Only as many as a float holds: ``1e308`` would be 309, and none of them anybody's.
    """
    is_digits = not isinstance(value, int) and value.is_integer() and abs(value) < _EXACT_MAX
    return str(int(value)) if is_digits else str(value)


@dataclass(slots=True)
class Facts:
    """What an answer says of itself."""

    model_served: str | None = None
    model_fingerprint: str | None = None
    usage: Usage = field(default_factory=Usage)
    finish_reasons: tuple[str, ...] = ()


class Document:
    """A body that was read whole.

    Args:
        protocol: the operation's protocol.
        operation: what is done: ``chat``, ``embedding`` ...
        decoded: the body with its content encoding undone.
        to_bytes: renders the tree.
    """

    def __init__(self, protocol: str, operation: str, decoded: bytes, to_bytes: Callable[[], bytes]) -> None:
        self.protocol = protocol
        self.operation = operation
        self.decoded = decoded
        self.model: str | None = None
        self.is_stream = False
        self.parameters: Mapping[str, int | float | str | bool | None] = {}
        self.tool_names: frozenset[str] = frozenset()  # of a request: what the model may call
        self.tool_results: tuple[str, ...] = ()  # of a request: ids of the calls whose results it brings
        self.conversation = ""  # of a request: what it calls the conversation that it goes on with
        self.facts = Facts()
        self.structure_bytes = 0
        self.has_fractions = False
        self.fielded: Fielded | None = None  # what field rules did before any channel was made
        self._to_bytes = to_bytes
        self._channels: list[Channel] = []
        self._slots: list[tuple[_Fragment, ...]] = []
        self._nested: list[_Nested] = []
        self._claimed: set[tuple[int, Any]] = set()  # places that belong to a channel of fragments already
        self._tools: Callable[[], list[Asked]] = list

    @property
    def channels(self) -> Sequence[Channel]:
        """Every piece of text, in the order of the body."""
        return self._channels

    def set_tools(self, tools: Callable[[], list[Asked]]) -> None:
        """Say how to find the tool calls in the tree as it stands."""
        self._tools = tools

    # Reading -------------------------------------------------------------------------------------------------------

    def add_tree(self, holder: Any, path: str = "", is_structure: Callable[[str, Any], bool] | None = None) -> None:
        """Make channels of everything in ``holder`` (a list or an object) that no channel of fragments has yet.

        Raises:
            JsonError: nested too deeply.
        """
        self._walk(holder, path, "", "text", NESTED_LEVELS, 0, is_structure or _never)

    def add_text(self, holder: Any, key: Any, path: str) -> None:
        """Make one channel of ``holder[key]``."""
        self._slot(Channel(path, holder[key], "text"), _Fragment(holder, key, holder[key]))

    def add_disguised(self, holder: Any, key: Any, path: str, said: str) -> None:
        """Make a channel of what ``holder[key]`` says in another way; what is found there takes all of it out.

        After `add_tree`: what this makes of the place stands.
        """
        self._slot(Channel(path, said, "text"), _Fragment(holder, key, said, ((holder, key, _WITHHELD),)))

    def add_fragments(
        self,
        fragments: Sequence[Place],
        path: str,
        context: str,
        *,
        is_json: bool = False,
        has_cuts: bool = False,
        cuts: Sequence[int] = (),
    ) -> None:
        """Make one channel of text that came in pieces (``holder[key]`` each).

        Args:
            fragments: holder and key of each; what to put elsewhere (holder, key, value) if it is edited.
            path: the channel's.
            context: the channel's.
            is_json: tool-call arguments.
            has_cuts: the pieces could also be read apart.
            cuts: offsets of ends where several pieces together could; the last is the text's.
        """
        parts = [_Fragment(holder, key, holder[key], also) for holder, key, also in fragments]
        self._claimed.update((id(part.holder), part.key) for part in parts)
        whole = "".join(part.text for part in parts)
        if is_json and self._add_nested(parts, whole, path, "arguments", NESTED_LEVELS, _never):
            return
        if has_cuts:
            cuts = tuple(accumulate(len(part.text) for part in parts))
        kind = "arguments" if is_json else "text"
        self._slot(Channel(path, whole, kind, context, tuple(cuts)), *parts)

    def is_claimed(self, holder: Any, key: Any) -> bool:
        """Does the place belong to a channel of fragments already, or to a field rule?"""
        return (id(holder), key) in self._claimed or (self.fielded is not None and self.fielded.is_settled(holder, key))

    def _slot(self, channel: Channel, *fragments: _Fragment) -> None:
        self._channels.append(channel)
        self._slots.append(fragments)

    def _walk(
        self,
        node: Any,
        path: str,
        context: str,
        kind: str,
        levels: int,
        depth: int,
        is_structure: Callable[[str, Any], bool],
    ) -> None:
        if depth > DEPTH_MAX:
            raise JsonError("nested too deeply")
        if isinstance(node, dict):
            for key in node:
                self._slot(Channel(path, key, "key"), _Fragment(node, None, key))
                said = told_by(context, key)
                self._value(node, key, f"{path}/{pointer(key)}", said, kind, levels, depth, is_structure)
        else:
            self._join_parts(node, path)
            for index in range(len(node)):
                self._value(node, index, f"{path}/{index}", context, kind, levels, depth, is_structure)

    def _value(  # noqa: PLR0913, PLR0917 - as above
        self,
        holder: Any,
        key: Any,
        path: str,
        context: str,
        kind: str,
        levels: int,
        depth: int,
        is_structure: Callable[[str, Any], bool],
    ) -> None:
        value = holder[key]
        if self.fielded is not None and self.fielded.is_settled(holder, key):
            return
        if isinstance(value, str):
            if self._claimed and (id(holder), key) in self._claimed:
                return
            if is_structure(path, value):
                self.structure_bytes += len(value)
            elif not self._add_nested([_Fragment(holder, key, value)], value, path, kind, levels, is_structure):
                self._slot(Channel(path, value, kind, context), _Fragment(holder, key, value))
        elif isinstance(value, dict | list):
            self._walk(value, path, context, kind, levels, depth + 1, is_structure)
        elif isinstance(value, bool) or value is None:
            self.structure_bytes += 4
        else:
            self._number(holder, key, path, value, context)

    def _number(self, holder: Any, key: Any, path: str, value: Any, context: str) -> None:
        self.has_fractions = self.has_fractions or isinstance(value, float)
        texts: list[str] = []
        if isinstance(value, Written):
            digits, by_themselves = mantissa(value.written)
            texts += [digits] if not _is_measure(holder, by_themselves, context) else []
        if not _is_measure(holder, value, context):
            texts.append(digits_of(value))
        if not texts:
            self.structure_bytes += 8
        for text in dict.fromkeys(texts):  # of several, the last that is edited stands
            self._slot(Channel(path, text, "number", context), _Fragment(holder, key, text))

    def _join_parts(self, parts: list[Any], path: str) -> None:
        """Text parts of one message are read in a row: a value split over them is one text."""
        texts: list[Place] = [
            (part, "text", ())
            for part in parts
            if isinstance(part, dict)
            and isinstance(said := part.get("text"), str)
            and not self.is_claimed(part, "text")
            and not _is_nested(said)
        ]
        if len(texts) > 1:
            self.add_fragments(texts, f"{path}/*/text", "text", has_cuts=True)

    def _add_nested(
        self,
        fragments: list[_Fragment],
        text: str,
        path: str,
        kind: str,
        levels: int,
        is_structure: Callable[[str, Any], bool],
    ) -> bool:
        """Is ``text`` itself a JSON object or array? Then its strings are the channels."""
        if levels == 0 or not _looks_nested(text):
            return False
        try:
            root = self._parsed(fragments) or [parse(text, as_written=True)]
        except JsonError:
            return False
        if not isinstance(root[0], dict | list):
            return False
        first = len(self._slots)
        self._walk(root[0], path, "", kind, levels - 1, 0, is_structure)
        self._nested.append(_Nested(fragments, root, first, len(self._slots)))
        return True

    def _parsed(self, fragments: list[_Fragment]) -> list[Any] | None:
        """What field rules made of a string of JSON: they know its values by where they are."""
        if self.fielded is None or len(fragments) != 1:
            return None
        return self.fielded.parsed.get(id(fragments[0].holder), {}).get(fragments[0].key)

    # Writing -------------------------------------------------------------------------------------------------------

    def rewritten(self, edits: Mapping[int, Sequence[Edit]]) -> bytes:
        """The body with ``edits`` (by channel index, sorted, not overlapping) made. Call once."""
        renames: dict[int, tuple[Any, str, str]] = {}
        for index, made in edits.items():
            channel, fragments = self._channels[index], self._slots[index]
            if made and channel.kind == "key":
                renames[index] = (fragments[0].holder, channel.text, with_edits(channel.text, made))
            elif made:
                _write(fragments, made)
        edited = sorted(index for index, made in edits.items() if made)
        for nested in self._nested:  # inner ones were added first
            begin, end = bisect_left(edited, nested.first), bisect_left(edited, nested.last)
            if begin < end:
                # Keys before the text that holds them is written; that text before its own key gets another name.
                _rename([renames.pop(index) for index in edited[begin:end] if index in renames])
                _put_whole(nested.fragments, render(nested.root[0]))
        _rename(list(renames.values()))
        return self._to_bytes()

    def field_edits(self) -> dict[int, Sequence[Edit]]:
        """The new names that field rules give to keys, as edits of their channels."""
        names = self.fielded.names if self.fielded is not None else {}
        return {
            index: [Edit(0, len(channel.text), names[place])]
            for index, channel in enumerate(self._channels if names else ())
            if channel.kind == "key" and (place := (id(self._slots[index][0].holder), channel.text)) in names
        }

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools asked for, as the tree stands (after `rewritten`: as released)."""
        return tuple(one.told() for one in self._tools())


def _never(_path: str, _value: Any) -> bool:
    return False


def with_edits(text: str, edits: Sequence[Edit]) -> str:
    """The text with its edits made; they are in order and do not overlap."""
    parts: list[str] = []
    at = 0
    for edit in edits:
        parts += (text[at : edit.start], edit.replacement)
        at = edit.end
    parts.append(text[at:])
    return "".join(parts)


def _write(fragments: Sequence[_Fragment], edits: Sequence[Edit]) -> None:
    """Each fragment gets the edited text of its own range; a replacement lands where its span begins."""
    begin = current = 0
    for fragment in fragments:
        end = begin + len(fragment.text)
        while current < len(edits) and edits[current].end <= begin:
            current += 1
        parts: list[str] = []
        at = begin
        index = current
        while index < len(edits) and edits[index].start < end:
            edit = edits[index]
            parts.append(fragment.text[at - begin : max(edit.start, begin) - begin])
            if edit.start >= begin:
                parts.append(edit.replacement)
            at = min(edit.end, end)
            index += 1
        if index > current:
            parts.append(fragment.text[at - begin :])
            fragment.holder[fragment.key] = "".join(parts)
            for holder, key, value in fragment.also:
                holder[key] = value
        begin = end


def _put_whole(fragments: Sequence[_Fragment], text: str) -> None:
    for index, fragment in enumerate(fragments):
        fragment.holder[fragment.key] = text if index == 0 else ""


def _rename(renames: Sequence[tuple[Any, str, str]]) -> None:
    """Give keys (holder, old, new) their new names; one that is taken gets a number."""
    by_holder: dict[int, tuple[Any, dict[str, str]]] = {}
    for holder, old, new in renames:
        by_holder.setdefault(id(holder), (holder, {}))[1][old] = new
    for holder, names in by_holder.values():
        taken = {key for key in holder if key not in names}
        counts: dict[str, int] = {}
        items: list[tuple[str, Any]] = []
        for key, value in holder.items():
            name = new = names.get(key, key)
            while key in names and name in taken:
                counts[new] = counts.get(new, 1) + 1
                name = f"{new}_{counts[new]}"
            taken.add(name)
            items.append((name, value))
        holder.clear()
        holder.update(items)


def pointer(key: str) -> str:
    """A key as a part of a path (RFC 6901), so that no key can look like a path."""
    return key.replace("~", "~0").replace("/", "~1") if len(key) <= KEY_SHOWN else "*"


def _looks_nested(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _is_nested(text: str) -> bool:
    if not _looks_nested(text):
        return False
    try:
        parse(text)
    except JsonError:
        return False
    return True


def _is_measure(holder: Any, value: Any, context: str) -> bool:
    """`is_measure`, or one of very many that their key says nothing of."""
    if is_measure(value, context):
        return True
    is_listed = isinstance(holder, list) and len(holder) > LISTED_FEW
    return is_listed and abs(value) < LISTED_NUMBER_MIN and not is_telling(context)
