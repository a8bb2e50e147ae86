"""Field rules on parsed JSON: each value that a path leads to is changed in place, before anything is scanned. Pure.

What was changed or left out of the scan is *settled*: nobody looks at it again, else a masked date would be found as a
date of birth. A string that is JSON itself is read, changed and written again; one that only a careless reader takes
for JSON, where a rule leads into it, is masked whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Action, FieldAction, FieldRule, Keep, Removal
from ext_proc.protocols.document import NESTED_LEVELS, digits_of
from ext_proc.protocols.field_frame import KEYS, ROOT, is_frame
from ext_proc.protocols.field_json import BLANKS, LOOSE, json_in
from ext_proc.protocols.field_states import strictest
from ext_proc.protocols.fielded import Fielded, left_out, path_of, removal_of
from ext_proc.protocols.json_text import DEPTH_MAX, JsonError, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.protocols.field_states import State
    from ext_proc.protocols.fielded import Fields, Place

_LOGPROBS: Final = "field:logprobs"
_NOBODY: Final[frozenset[str]] = frozenset()
_PLACE_MAX: Final = (DEPTH_MAX + 2) * (NESTED_LEVELS + 1)


class FieldPass:
    """One look at one tree.

    Args:
        fields: the rules.
        is_answer: also take out the tokens that spell an answer once more, if anything of it was taken out.
        root: names at the top of the body that no list of included fields need name.
    """

    def __init__(self, fields: Fields, *, is_answer: bool = False, root: frozenset[str] = ROOT) -> None:
        self.states = fields.states
        self.done = Fielded()
        self._say = fields.say
        self._show = fields.show
        self._is_answer = is_answer
        self._root = root

    def run(
        self,
        holder: list[Any],
        state: State | None = None,
        place: Place = (),
        included: frozenset[str] = _NOBODY,
        levels: int = NESTED_LEVELS,
    ) -> Fielded:
        """Change what ``holder``, a list of one, holds.

        Args:
            holder: is changed.
            state: what the rules say of its place; nothing: it is a whole body.
            place: where it is.
            included: whose lists of included fields name it, or something that it is in.
            levels: how often JSON may be a string in JSON.

        Raises:
            JsonError: nested too deeply.
        """
        try:
            if self._value(holder, 0, state or self.states.root, place, included, levels):
                holder[0] = "" if isinstance(holder[0], str) else None
                self.done.settle(holder, 0)
            if self._is_answer and self.done.removals:
                self._without_tokens(holder[0], place, self.done.removals[0])
        except RecursionError:
            raise JsonError("nested too deeply") from None
        return self.done

    keeps_texts = False
    """Does a text that is dropped stay as an empty one?"""

    # Hooks of what reads events --------------------------------------------------------------------------------------

    def enter(self, state: State, place: Place) -> State:
        """The state of a place that may have another name."""
        del place
        return state

    def has_other_name(self, place: Place) -> bool:
        """Has the place another name? Then the members of an event stand there, and it must stay."""
        del place
        return False

    def item(self, node: Sequence[Any], position: int, state: State) -> tuple[str | int, State]:
        """What an item is called in places, and its state."""
        del node
        return position, self.states.after(state, position)

    def text(
        self,
        holder: Any,
        key: Any,
        state: State,
        rule: FieldRule | None,
        place: Place,
        included: frozenset[str],
    ) -> bool:
        """Is a text masked otherwise, or elsewhere?"""
        del holder, key, state, rule, place, included
        return False

    def is_root(self, place: Place) -> bool:
        """Is it the top of a body?"""
        return not place

    # On the way down -------------------------------------------------------------------------------------------------

    def _value(
        self,
        holder: Any,
        key: Any,
        state: State,
        place: Place,
        included: frozenset[str],
        levels: int,
        above: FieldRule | None = None,
    ) -> bool:
        """Change what stands there; must it go? ``above`` is about something that it is in."""
        if len(place) > _PLACE_MAX:
            raise JsonError("nested too deeply")
        included |= state.included
        may_differ = state.goes_on or bool(self.states.including - included)
        if above is None and state.act is None and not may_differ:
            return False
        value = holder[key]
        rule = self._stricter(above, state.act, self._left_out(key, value, state, included))
        if isinstance(value, str):
            return self._string(holder, key, state, place, included, levels, rule)
        if not isinstance(value, dict | list):
            return rule is not None and self._scalar(rule, holder, key, value, place)
        if rule is None and not may_differ:
            return False
        is_gone = rule is not None and rule.action is FieldAction.DROP and not self.has_other_name(place)
        if rule is not None and is_gone:
            self.removed(rule, place, _size(value))
        before = len(self.done.removals)
        if not is_gone or (self.states.may_block and state.goes_on):
            if isinstance(value, dict):
                self._object(value, state, place, included, levels, rule)
            else:
                self._list(value, state, place, included, levels, rule)
        if is_gone:
            self._only_blocks(before)
        return is_gone

    def _object(
        self,
        node: dict[str, Any],
        state: State,
        place: Place,
        included: frozenset[str],
        levels: int,
        rule: FieldRule | None,
    ) -> None:
        is_root = self.is_root(place)
        for key in list(node):
            here = (*place, key)
            inner = self.enter(self.states.after(state, key), here)
            kept = self.states.including if is_root and key in self._root else included
            if inner.key is not None and key not in KEYS:
                self._name(inner.key, node, key, place)
            if self._value(node, key, inner, here, kept, levels, rule):
                del node[key]

    def _list(
        self,
        node: list[Any],
        state: State,
        place: Place,
        included: frozenset[str],
        levels: int,
        rule: FieldRule | None,
    ) -> None:
        gone = []
        for position in range(len(node)):
            part, inner = self.item(node, position, state)
            here = (*place, part)
            if self._value(node, position, self.enter(inner, here), here, included, levels, rule):
                gone.append(position)
        if gone:
            self.done.without(node, gone)

    def _string(
        self,
        holder: Any,
        key: Any,
        state: State,
        place: Place,
        included: frozenset[str],
        levels: int,
        rule: FieldRule | None,
    ) -> bool:
        value = holder[key]
        if is_frame(key, value) or self.text(holder, key, state, rule, place, included):
            return False
        if rule is None or rule.action is FieldAction.EXCLUDE:
            if state.goes_on:
                return self._nested(holder, key, state, place, included, levels, rule)
            return rule is not None and self._excluded(holder, key, value)
        if self.states.may_block and state.goes_on and isinstance(root := json_in(value), list) and levels:
            before = len(self.done.removals)
            self._value(root, 0, state, place, included, levels - 1, rule)
            self._only_blocks(before)
        return self._text(rule, holder, key, value, place)

    def _nested(
        self,
        holder: Any,
        key: Any,
        state: State,
        place: Place,
        included: frozenset[str],
        levels: int,
        rule: FieldRule | None,
    ) -> bool:
        """Into a text that is JSON."""
        text = holder[key]
        found = json_in(text) if levels else LOOSE if text.lstrip(BLANKS)[:1] in ("{", "[") else None
        if not isinstance(found, list):
            lacking = self.states.including - included
            stricter = left_out(lacking) if lacking else None if found is None else self.states.reaching(state)
            if stricter is not None:
                return self._text(stricter, holder, key, text, place)
            return rule is not None and self._excluded(holder, key, text)  # only such a rule looks into texts
        before = len(self.done.removals)
        if self._value(found, 0, state, place, included, levels - 1, rule):
            return True
        self.done.parsed.setdefault(id(holder), {})[key] = found
        if len(self.done.removals) > before:
            holder[key] = render(found[0])
        return False

    def _left_out(self, key: Any, value: Any, state: State, included: frozenset[str]) -> FieldRule | None:
        """Is it on none of somebody's lists, and nothing below it either?"""
        lacking = self.states.including - included
        if not lacking or value is None or is_frame(key, value):
            return None
        if isinstance(value, dict | list | str) and not lacking - state.reaches:
            return None
        return left_out(lacking)

    def _stricter(self, *rules: FieldRule | None) -> FieldRule | None:
        return strictest(rule for rule in rules if rule is not None)

    # What is done ----------------------------------------------------------------------------------------------------

    def _only_blocks(self, before: int) -> None:
        """What was looked at for the sake of rules that block goes as a whole: its parts are not on record."""
        gone = self.done.removals[before:]
        self.done.removals[before:] = [one for one in gone if one.action is Action.BLOCK]

    def _excluded(self, holder: Any, key: Any, value: Any) -> bool:
        self.done.excluded_bytes += _size(value)
        self.done.settle(holder, key)
        return False

    def _text(self, rule: FieldRule, holder: Any, key: Any, value: str, place: Place) -> bool:
        if value:
            self.removed(rule, place, len(value))
        if rule.action is FieldAction.DROP and not self.keeps_texts:
            return True
        holder[key] = self._say(rule, value)
        self.done.settle(holder, key)
        return False

    def _scalar(self, rule: FieldRule, holder: Any, key: Any, value: Any, place: Place) -> bool:
        if is_frame(key, value):
            return False
        if rule.action is FieldAction.EXCLUDE:
            return self._excluded(holder, key, value)
        text = digits_of(value) if isinstance(value, int | float) and not isinstance(value, bool) else render(value)
        if rule.action is FieldAction.DROP:
            self.removed(rule, place, len(text))
            return True
        if value is None:
            return False
        self.removed(rule, place, len(text))
        if rule.action is FieldAction.MASK:
            empty = False if isinstance(value, bool) else 0
            holder[key] = None if rule.keep is Keep.NONE else empty
        else:
            holder[key] = self._say(rule, text)
        self.done.settle(holder, key)
        return False

    def _name(self, rule: FieldRule, node: dict[str, Any], key: str, place: Place) -> None:
        self.removed(rule, (*place, "*"), len(key))
        self.done.names[id(node), key] = self._say(rule, key)

    def removed(self, rule: FieldRule, place: Place, size: int) -> None:
        """Put on record what was taken out; or that it must not pass."""
        if rule.action is FieldAction.BLOCK:
            self.done.blocked.append(rule.entity)
        self.done.removals.append(removal_of(rule, self._show(path_of(place)), size))

    def _without_tokens(self, node: Any, place: Place, cause: Removal) -> None:
        """Tokens with their odds spell the answer once more."""
        if isinstance(node, list):
            for position, value in enumerate(node):
                self._without_tokens(value, (*place, position), cause)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key != "logprobs":
                    self._without_tokens(value, (*place, key), cause)
                elif value:
                    size = _size(value)
                    node[key] = [] if isinstance(value, list) else None
                    rule = FieldRule((), FieldAction.DROP, rule=_LOGPROBS, source=cause.version)
                    self.removed(rule, (*place, key), size)


def _size(value: Any) -> int:
    text = value if isinstance(value, str) else render(value)
    return len(text) if text.isascii() else len(text.encode())
