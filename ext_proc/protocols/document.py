"""A body as channels of text, and back.

A `Document` owns the parsed tree. A *slot* says where in it a channel's text lives: in one place, or, for a stream
read as a whole, in the fragments of many events. `Document.rewritten` writes the edits into the tree and renders it:
call it once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import ToolCall, Usage
from ext_proc.protocols.json_text import DEPTH_MAX, JsonError, parse, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ext_proc.model import Edit

NUMBER_MIN: Final = 10**8
"""Numbers below have at most eight digits: no rule is that short, so they are structure."""

NESTED_LEVELS: Final = 3
"""JSON inside a string inside JSON ...: read this deep, then scanned as text."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One piece of text. ``path`` is JSON-pointer-like; ``context`` is the nearest key (``password`` says a lot)."""

    path: str
    text: str
    kind: str
    context: str = ""


@dataclass(slots=True)
class _Fragment:
    holder: Any
    key: Any
    text: str


@dataclass(slots=True)
class _Nested:
    """A string that is itself JSON: written again if a slot between ``first`` and ``last`` was edited."""

    fragments: list[_Fragment]
    root: list[Any]
    first: int
    last: int


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
        self.facts = Facts()
        self.structure_bytes = 0
        self._to_bytes = to_bytes
        self._channels: list[Channel] = []
        self._slots: list[tuple[_Fragment, ...]] = []
        self._nested: list[_Nested] = []
        self._claimed: set[tuple[int, Any]] = set()  # places that belong to a channel of fragments already
        self._tools: Callable[[], list[tuple[str, str]]] = list

    @property
    def channels(self) -> Sequence[Channel]:
        """Every piece of text, in the order of the body."""
        return self._channels

    def set_tools(self, tools: Callable[[], list[tuple[str, str]]]) -> None:
        """Say how to find the tool calls (name, arguments) in the tree as it stands."""
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

    def add_fragments(self, fragments: Sequence[tuple[Any, Any]], path: str, context: str, *, is_json: bool) -> None:
        """Make one channel of text that came in pieces (``holder[key]`` each); ``is_json``: tool-call arguments."""
        parts = [_Fragment(holder, key, holder[key]) for holder, key in fragments]
        self._claimed.update((id(holder), key) for holder, key in fragments)
        whole = "".join(part.text for part in parts)
        if is_json and self._add_nested(parts, whole, path, "arguments", NESTED_LEVELS, _never):
            return
        self._slot(Channel(path, whole, "arguments" if is_json else "text", context), *parts)

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
                self._value(node, key, f"{path}/{key}", key, kind, levels, depth, is_structure)
        else:
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
        elif abs(value) < NUMBER_MIN:
            self.structure_bytes += 8
        else:
            text = str(value)
            self._slot(Channel(path, text, "number", context), _Fragment(holder, key, text))

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
        head = text.lstrip()[:1]
        if head not in ("{", "[") or levels == 0:
            return False
        try:
            root = [parse(text)]
        except JsonError:
            return False
        if not isinstance(root[0], dict | list):
            return False
        first = len(self._slots)
        self._walk(root[0], path, "", kind, levels - 1, 0, is_structure)
        self._nested.append(_Nested(fragments, root, first, len(self._slots)))
        return True

    # Writing -------------------------------------------------------------------------------------------------------

    def rewritten(self, edits: Mapping[int, Sequence[Edit]]) -> bytes:
        """The body with ``edits`` (by channel index, sorted, not overlapping) made. Call once."""
        renamed: list[tuple[Any, str, str]] = []
        for index, made in edits.items():
            channel, fragments = self._channels[index], self._slots[index]
            if not made:
                continue
            if channel.kind == "key":
                renamed.append((fragments[0].holder, channel.text, _edited(channel.text, made)))
            else:
                _write(fragments, made)
        for holder, old, new in renamed:
            _rename(holder, old, new)
        edited = {index for index, made in edits.items() if made}
        for nested in self._nested:  # inner ones were added first
            if any(nested.first <= index < nested.last for index in edited):
                _put_whole(nested.fragments, render(nested.root[0]))
        return self._to_bytes()

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools asked for, as the tree stands (after `rewritten`: as released)."""
        return tuple(ToolCall(name, hashlib.sha256(said.encode()).hexdigest()) for name, said in self._tools())


def _never(_path: str, _value: Any) -> bool:
    return False


def _edited(text: str, edits: Sequence[Edit]) -> str:
    parts: list[str] = []
    at = 0
    for edit in edits:
        parts += (text[at : edit.start], edit.replacement)
        at = edit.end
    parts.append(text[at:])
    return "".join(parts)


def _write(fragments: Sequence[_Fragment], edits: Sequence[Edit]) -> None:
    """Each fragment gets the edited text of its own range; a replacement lands where its span begins."""
    begin = 0
    for fragment in fragments:
        end = begin + len(fragment.text)
        parts: list[str] = []
        at = begin
        for edit in edits:
            if edit.end <= begin or edit.start >= end:
                continue
            parts.append(fragment.text[at - begin : max(edit.start, begin) - begin])
            if edit.start >= begin:
                parts.append(edit.replacement)
            at = min(edit.end, end)
        parts.append(fragment.text[at - begin :])
        fragment.holder[fragment.key] = "".join(parts)
        begin = end


def _put_whole(fragments: Sequence[_Fragment], text: str) -> None:
    for index, fragment in enumerate(fragments):
        fragment.holder[fragment.key] = text if index == 0 else ""


def _rename(holder: dict[str, Any], old: str, new: str) -> None:
    name, count = new, 1
    while name in holder and name != old:
        count += 1
        name = f"{new}_{count}"
    items = [(name if key == old else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(items)
