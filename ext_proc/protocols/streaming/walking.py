"""One event: every string, key and number in it, each to its text or looked at as a whole. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols.document import KEY_SHOWN, digits_of, is_measure
from ext_proc.protocols.json_text import DEPTH_MAX
from ext_proc.protocols.streaming.channels import WITHHELD
from ext_proc.protocols.streaming.dialect import ALL, DROPPED, LABELS, PADDING, Treatment
from ext_proc.protocols.streaming.masking import StreamRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.protocols.streaming.channels import Channel, Channels, Place
    from ext_proc.protocols.streaming.dialect import Dialect
    from ext_proc.protocols.streaming.fielding import EventFielded, EventFields
    from ext_proc.protocols.streaming.masking import Limits

_SEVERAL: Final = 2
_PIECES: Final = frozenset({Treatment.TEXT, Treatment.ARGUMENTS, Treatment.EMPTY})
_NUMBER_MAX: Final = 10**9
_COUNTED: Final = frozenset({"index", "sequence_number"})
"""Keys of numbers that count events and items: below `_NUMBER_MAX` they say nothing else."""
_TOLD: Final = _COUNTED | {"created"}
"""Keys of numbers in most events, where no text ever stands."""


class Walk:
    """Changes events in place, so that what is written from them is what was looked at.

    Args:
        channels: the stream's texts.
        dialect: what its events mean.
        limits: see `Limits`.
        offered: names of the tools that the caller offered: the model may name those.
        fields: field rules, if there are any: they come first.
    """

    def __init__(
        self,
        channels: Channels,
        dialect: Dialect,
        limits: Limits,
        offered: frozenset[str] = frozenset(),
        fields: EventFields | None = None,
    ) -> None:
        self._channels = channels
        self._dialect = dialect
        self._limits = limits
        self._offered = offered
        self._values = 0
        self._closing: Sequence[Place] = ()
        self._touched: list[tuple[Channel, Place]] = []
        self._fields = fields
        self._fielded: EventFielded | None = None

    def event(self, holder: list[Any], closing: Sequence[Place]) -> list[tuple[Channel, Place]]:
        """Change the event in ``holder``, a list of one; give the channels that have a piece in it, and where.

        Raises:
            StreamRefused: see `Channels`, or the event is too deep, or holds too many values.
        """
        self._values, self._closing, self._touched = 0, closing, []
        if self._fields is not None:
            self._fielded = self._fields.event(holder, self._dialect)
            self._channels.excluded_bytes += self._fielded.excluded_bytes
        self._value(holder, 0, holder[0], "", (), "", 0)
        return self._touched

    def _value(self, holder: Any, key: Any, value: Any, shape: str, place: Place, context: str, depth: int) -> None:
        if self._fielded is not None and self._fielded.is_settled(holder, key):
            return
        kind = type(value)
        if kind is str:
            self._text(holder, key, value, shape, place, context)
        elif kind is dict:
            self._object(value, shape, place, depth)
        elif kind is list:
            if any(type(item) is not dict for item in value):
                self._refuse_piece(shape)
            self._list(value, shape, place, context, depth)
        elif kind is int or kind is float:
            if key not in _TOLD:
                self._refuse_piece(shape)
            self._number(holder, key, value, place, context)

    def _refuse_piece(self, shape: str) -> None:
        """Where a text's pieces stand, no number may, nor a list of such: JavaScript's and shells' readers join them.

        A list of parts (objects) may: nobody makes text of it by joining.
        """
        if self._dialect.treatment(shape) in _PIECES:
            raise StreamRefused("stream_not_json")

    def _object(self, node: dict[str, Any], shape: str, place: Place, depth: int) -> None:
        self._count(len(node), depth)
        renames: list[tuple[str, str]] = []
        prefix = f"{shape}/" if shape else ""
        for key, value in node.items():
            said = self._said_key(node, key, place)
            if said != key:
                renames.append((key, said))
            if key in _INDEXES and self._dialect.is_json and not _is_index(value):
                raise StreamRefused("stream_not_json")
            if value is None or value is True or value is False:
                continue
            if key == DROPPED:
                node[key] = [] if type(value) is list else None
            else:
                inner = f"{prefix}{key if len(key) <= KEY_SHOWN else '*'}"
                self._value(node, key, value, inner, (*place, said), key, depth + 1)
        if renames:
            _rename(node, dict(renames))

    def _said_key(self, node: dict[str, Any], key: str, place: Place) -> str:
        if self._fielded is not None and (id(node), key) in self._fielded.names:
            return self._fielded.names[id(node), key]
        return key if key in _KNOWN else self._channels.whole(place, "", key, restores=False)

    def _list(self, node: list[Any], shape: str, place: Place, context: str, depth: int) -> None:
        self._count(len(node), depth)
        if len(node) > 1:
            self._join(node, place)
        inner = f"{shape}/*" if shape else "*"
        for position, value in enumerate(node):
            index = value.get("index") if type(value) is dict else None
            at = index if type(index) is int else position
            self._value(node, position, value, inner, (*place, at), context, depth + 1)

    def _join(self, node: list[Any], place: Place) -> None:
        """Texts in a row are read in a row: where a rule hits over several, the first gets all of them."""
        parts = [
            item
            for item in node
            if type(item) is dict
            and type(item.get("text")) is str
            and type(item.get("index")) is not int
            and not self._is_apart(item, "text")
        ]
        if len(parts) < _SEVERAL:
            return
        text = "".join(part["text"] for part in parts)
        if not self._channels.is_clean((*place, "*", "text"), "text", text):
            for part in parts:
                part["text"] = ""
            parts[0]["text"] = text

    def _is_apart(self, holder: Any, key: Any) -> bool:
        """Does a rule say something about it, so that it must not be moved, nor anything into it?"""
        if self._fielded is None:
            return False
        return self._fielded.is_settled(holder, key) or self._has_rule(self._fielded.about(holder, key))

    def _has_rule(self, about: Place | None) -> bool:
        """Is a rule about the text itself? (Rules that only may lead into it do not keep it from being looked at.)"""
        plan = self._fields.known(about) if self._fields is not None and about is not None else None
        return plan is not None and plan.rule is not None

    def _count(self, more: int, depth: int) -> None:
        self._values += more
        if self._values > self._limits.values:
            raise StreamRefused("stream_too_many_values")
        if depth > DEPTH_MAX:
            raise StreamRefused("stream_too_deep")

    def _number(self, holder: Any, key: Any, value: float, place: Place, context: str) -> None:
        if key not in _TOLD and not self._channels.number(place, context, repr(value)):
            holder[key] = WITHHELD
            return
        if (key in _COUNTED and abs(value) < _NUMBER_MAX) or is_measure(value, context):
            self._channels.structure_bytes += 8
            return
        text = digits_of(value)
        said = self._channels.whole(place, context, text)
        if said != text:
            holder[key] = said

    def _text(self, holder: Any, key: Any, value: str, shape: str, place: Place, context: str) -> None:
        if key in LABELS or key == PADDING:
            said = self._named(key, value, place)
            if said is not None:
                holder[key] = said
                return
        channels = self._channels
        treatment = self._dialect.treatment(shape)
        if treatment is Treatment.EMPTY:
            if value:
                raise StreamRefused("stream_text_out_of_place")
            return
        if treatment is Treatment.OPAQUE:
            of = self._dialect.place(shape, place)
            said = channels.packed(of, value)
            if said is None and self._dialect.repeats and channels.ends_packed(of, value):
                said = WITHHELD
            if said is not None:
                holder[key] = said
                return
            treatment = Treatment.WHOLE if self._dialect.repeats else Treatment.UNKNOWN
        if treatment is Treatment.WHOLE or treatment is Treatment.WHOLE_ARGUMENTS:
            is_json = treatment is Treatment.WHOLE_ARGUMENTS
            is_final = is_json or self._dialect.repeats
            said = channels.whole(place, context, value, is_json=is_json, restores=is_final)
            at = self._dialect.whole_at(shape, place)
            if at is not None and channels.goes_on(at, value) and said == value:
                said = WITHHELD
            holder[key] = said if is_final else channels.restored(place, said)
        else:
            about = self._fielded.about(holder, key) if self._fielded is not None else None
            holder[key] = self._piece(value, shape, place, context, treatment, about)

    def _named(self, key: str, value: str, place: Place) -> str | None:
        if key == PADDING:
            return "x" * len(value)
        if value in self._offered and key == "name":
            return value
        return self._channels.label(place, value)

    def _piece(
        self, value: str, shape: str, place: Place, context: str, treatment: Treatment, about: Place | None
    ) -> str:
        of = self._dialect.place(shape, place)
        is_unknown = treatment is Treatment.UNKNOWN
        kind = "unknown" if is_unknown else ("arguments" if treatment is Treatment.ARGUMENTS else "text")
        channel = self._channels.channel(of, context, kind=kind, about=about)
        said = ""
        if channel.is_mixed and self._channels.is_more_in(channel, context, value):
            said, value = self._channels.flush(channel), WITHHELD
        if is_unknown and not self._has_rule(about) and not self._channels.is_clean(of, context, value):
            # By itself too: a reader may take it for a whole.
            if self._channels.is_begun_before(channel, context, value):
                said = self._channels.flush(channel)
            value = self._channels.whole(of, context, value, restores=False)
        if self._fields is not None and about is not None and not channel.is_fielded and self._fields.is_strict(about):
            value = self._fields.late(about, channel.path, value)
        said += self._channels.feed(channel, value)
        if any(of[: len(scope)] == scope for scope in self._closing if scope == ALL or not is_unknown):
            said += self._channels.close(of, channel)
        self._touched.append((channel, place))
        return said


_INDEXES: Final = frozenset({"command_index", "content_index", "index", "output_index", "summary_index"})
"""Which text a piece is of: written otherwise (``1.0``, ``"1"``) it would be another one to us, and not to a reader."""


def _is_index(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


_KNOWN: Final = LABELS | {
    "annotation", "annotations", "arguments", "choices", "content", "content_block", "content_index", "created",
    "delta",
    "done", "error", "finish_reason", "function", "function_call", "index", "input", "item", "logprobs", "message",
    "obfuscation", "output", "output_index", "part", "partial_json", "reasoning", "reasoning_content", "refusal",
    "response", "sequence_number", "signature", "stop_sequence", "summary_index", "text", "thinking", "tool_calls",
    "usage", "completion_tokens", "input_tokens", "output_tokens", "prompt_tokens", "total_tokens",
}  # fmt: skip
"""Keys that protocols use: they need no look."""


def _rename(node: dict[str, Any], names: dict[str, str]) -> None:
    """Give keys their new names, each in its place; one that is taken gets a number."""
    items = list(node.items())
    taken = {key for key, _ in items if key not in names}
    counts: dict[str, int] = {}
    node.clear()
    for key, value in items:
        name = new = names.get(key, key)
        while key in names and name in taken:
            counts[new] = counts.get(new, 1) + 1
            name = f"{new}_{counts[new]}"
        taken.add(name)
        node[name] = value
