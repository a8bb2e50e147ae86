"""Field rules on an answer that streams: on each event, and on the texts that come in pieces over many events. Pure.

An author writes a path once, of the whole answer (``$.choices[*].message.content``): each dialect says where in it the
parts of an event belong (`Dialect.whole`), and every value goes by both of its places. What of an event is no piece of
a text is changed in the event. A text in pieces has a masker of its own, which needs no more of it than its beginning,
or which waits for its end: where rules lead into what may be JSON, all of it is held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from ext_proc.model import FieldAction
from ext_proc.protocols.document import KEY_SHOWN
from ext_proc.protocols.field_json import LOOSE, json_in
from ext_proc.protocols.field_tree import FieldPass
from ext_proc.protocols.fielded import Fielded, left_out, moved
from ext_proc.protocols.json_text import JsonError
from ext_proc.protocols.streaming.dialect import LABELS, PADDING, Treatment
from ext_proc.protocols.streaming.held import HeldJson, PassThrough
from ext_proc.protocols.streaming.masking import StreamRefused, fed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ext_proc.model import FieldRule, Redaction
    from ext_proc.protocols.field_states import State
    from ext_proc.protocols.fielded import Fields
    from ext_proc.protocols.streaming.channels import Place
    from ext_proc.protocols.streaming.dialect import Dialect
    from ext_proc.protocols.streaming.maskers import Maskers
    from ext_proc.protocols.streaming.masking import Masker

_IN_PIECES: Final = (Treatment.TEXT, Treatment.ARGUMENTS, Treatment.UNKNOWN)


class MaskTree(Protocol):
    """Masks a JSON text as one of a whole answer: field rules first, then what the scan finds."""

    def __call__(self, root: list[Any], state: State, place: Place, included: frozenset[str]) -> Redaction:
        """See the class; as for `FieldPass.run`."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done about a text in pieces: what a rule says, or what rules say of values in it; its place on record."""

    rule: FieldRule | None
    state: State
    place: Place
    included: frozenset[str]

    @property
    def is_strict(self) -> bool:
        """Does nothing of the text pass, or nothing but what a rule makes of it?"""
        return self.rule is not None and self.rule.action is not FieldAction.EXCLUDE


@dataclass(slots=True)
class EventFielded(Fielded):
    """What was done to an event.

    Attributes:
        planned: by holder (its id), then key: pieces of texts that rules are about, and the text's place. (To the
            event's reader it may be another one: the names of members in it may be masked.)
    """

    planned: dict[int, dict[Any, Place]] = field(default_factory=dict)

    def about(self, holder: Any, key: Any) -> Place | None:
        """The place that the text there was planned as, if rules are about it."""
        return self.planned.get(id(holder), {}).get(key)

    def without(self, node: list[Any], gone: Sequence[int]) -> None:
        """See `Fielded.without`."""
        Fielded.without(self, node, gone)  # `super()` does not know a class with slots by its first name
        planned = self.planned.pop(id(node), {})
        if planned:
            self.planned[id(node)] = moved(planned, gone)


class EventFields:
    """The field rules of one stream.

    Args:
        fields: the rules.
        maskers: of the stream.
        mask_tree: masks JSON that is whole.
    """

    def __init__(self, fields: Fields, maskers: Maskers, mask_tree: MaskTree) -> None:
        self.fields = fields
        self.mask_tree = mask_tree
        self.maskers = maskers
        self._plans: dict[Place, _Plan] = {}
        self._late: dict[Place, Masker] = {}

    def event(self, holder: list[Any], dialect: Dialect) -> EventFielded:
        """Change the event in ``holder``, a list of one.

        Raises:
            StreamRefused: a rule blocks, or it is nested too deeply.
        """
        one = _EventPass(self, dialect, dialect.whole(holder[0]))
        try:
            one.run(holder)
        except JsonError:
            raise StreamRefused("stream_too_deep") from None
        self.maskers.take(one.done.removals, one.done.blocked)
        return one.fielded

    def mind(self, place: Place, plan: _Plan) -> None:
        """From here on ``plan`` is for the text in pieces at ``place``, unless a stricter one is."""
        known = self._plans.get(place)
        if known is None or (plan.is_strict and not known.is_strict):
            self._plans[place] = plan

    def known(self, about: Place) -> _Plan | None:
        """The plan for a text, if there is one."""
        return self._plans.get(about)

    def is_strict(self, about: Place | None) -> bool:
        """Does a rule mask, drop or block the text that was planned as ``about``?"""
        return about is not None and about in self._plans and self._plans[about].is_strict

    def late(self, about: Place, path: str, text: str) -> str:
        """The next piece of a text that began before a strict rule was about it: as from here on it may pass.

        Raises:
            StreamRefused: the rule blocks.
        """
        rule = self._plans[about].rule
        if about not in self._late and rule is not None:
            self._late[about] = self.maskers.watched(self.fields.masker(rule, path))
        return fed(self._late[about], text)

    def masker(
        self,
        about: Place | None,
        path: str,
        usual: Callable[[], Masker],
        excluded: Callable[[int], None],
        *,
        is_plain: bool,
    ) -> Masker:
        """The masker of a text that begins.

        Args:
            about: its place as it was planned (`EventFielded.planned`); None: it was not.
            path: for records.
            usual: makes the masker that it has if no rule is about it.
            excluded: told how many bytes are not scanned.
            is_plain: it is what stands between events, which is no part of any JSON.
        """
        states = self.fields.states
        plan = _Plan(None, states.root, (), frozenset()) if is_plain else None
        if about is not None:
            plan = self._plans[about]
        if plan is None:
            return usual()
        if plan.rule is not None and plan.is_strict:
            return self.maskers.watched(self.fields.masker(plan.rule, path))
        lacking = states.including - plan.included

        def of_text() -> Masker:
            if lacking:
                return self.maskers.watched(self.fields.masker(left_out(lacking), path))
            return usual() if plan.rule is None else PassThrough(excluded)

        def of_unreadable() -> Masker:
            rule = states.reaching(plan.state)
            return of_text() if lacking or rule is None else self.maskers.watched(self.fields.masker(rule, path))

        def of_tree(root: list[Any]) -> str:
            try:
                made = self.mask_tree(root, plan.state, plan.place, plan.included)
            except JsonError:
                raise StreamRefused("stream_too_deep") from None
            excluded(made.coverage.excluded_bytes)
            self.maskers.take(made.removals, made.blocked)
            return made.body.decode()

        return HeldJson(of_text, of_unreadable, of_tree) if plan.state.goes_on else of_text()


class _EventPass(FieldPass):
    """One look at one event."""

    keeps_texts = True

    def __init__(self, stream: EventFields, dialect: Dialect, whole: Mapping[Place, Place]) -> None:
        super().__init__(stream.fields)
        self.done = self.fielded = EventFielded()
        self._stream = stream
        self._dialect = dialect
        self._whole = whole

    def enter(self, state: State, place: Place) -> State:
        """See `FieldPass.enter`."""
        other = self._whole.get(place)
        return state if other is None else self.states.both(state, self.states.at(other))

    def has_other_name(self, place: Place) -> bool:
        """See `FieldPass.has_other_name`."""
        return place in self._whole

    def is_root(self, place: Place) -> bool:
        """See `FieldPass.is_root`."""
        return self._whole.get(place, place) == ()

    def item(self, node: Sequence[Any], position: int, state: State) -> tuple[str | int, State]:
        """See `FieldPass.item`: an item that says its index is that one, and also the one that it stands as."""
        value = node[position]
        index = value.get("index") if type(value) is dict else None
        inner = self.states.after(state, position)
        if type(index) is not int:
            return position, inner
        return index, self.states.both(self.states.without_passes(inner), self.states.after(state, index))

    def text(
        self,
        holder: Any,
        key: Any,
        state: State,
        rule: FieldRule | None,
        place: Place,
        included: frozenset[str],
    ) -> bool:
        """See `FieldPass.text`."""
        if key == PADDING:
            return True  # what is read next puts other characters there
        if key in LABELS:
            return False
        shape = "/".join(["*" if isinstance(part, int) else part if len(part) <= KEY_SHOWN else "*" for part in place])
        treatment = self._dialect.treatment(shape)
        if treatment in _IN_PIECES:
            about = self._dialect.place(shape, place)
            plan = _Plan(rule, state, about, included)
            if treatment is Treatment.UNKNOWN and not plan.is_strict and state.goes_on:
                plan = self._alone(holder, key, plan, self._stream.known(about))
            self.fielded.planned.setdefault(id(holder), {})[key] = about
            self._stream.mind(about, plan)
            return True
        if treatment is Treatment.EMPTY:
            return True
        is_open = rule is None or rule.action is FieldAction.EXCLUDE
        return is_open and state.goes_on and self._is_masked_whole(holder, key, state, place, included)

    def _alone(self, holder: Any, key: Any, plan: _Plan, known: _Plan | None) -> _Plan:
        """A text of which nobody says that it is in pieces: what a reader sees who takes it for a whole.

        One that begins with JSON that is whole is never JSON together with what follows: its pieces are alone.
        """
        text, states = holder[key], self.states
        found = json_in(text)
        lacking = states.including - plan.included
        if isinstance(found, list):
            made = self._stream.mask_tree(found, plan.state, plan.place, plan.included)
            self.done.removals.extend(made.removals)
            self.done.blocked.extend(made.blocked)
            holder[key] = made.body.decode()
            return plan if known else _Plan(plan.rule, states.nowhere, plan.place, states.including)
        is_alone = known is not None and known.state is states.nowhere
        rule = None
        if found is LOOSE or is_alone:
            rule = left_out(lacking) if lacking else states.reaching(plan.state) if found else None
        if rule is not None and text:
            self.removed(rule, plan.place, len(text))
            holder[key] = self._say(rule, text)
        return plan

    def _is_masked_whole(self, holder: Any, key: Any, state: State, place: Place, included: frozenset[str]) -> bool:
        """A text of JSON that is there whole: as the same text in pieces."""
        root = json_in(holder[key])
        if not isinstance(root, list):
            return False
        made = self._stream.mask_tree(root, state, place, included)
        self.done.removals.extend(made.removals)
        self.done.blocked.extend(made.blocked)
        self.done.excluded_bytes += made.coverage.excluded_bytes
        holder[key] = made.body.decode()
        self.done.settle(holder, key)
        return True
