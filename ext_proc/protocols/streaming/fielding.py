"""Field rules on an answer that streams: on each event, and on the texts that come in pieces over many events. Pure.

An author writes a path once, of the whole answer (``$.choices[*].message.content``): each dialect says where in it the
parts of an event belong (`Dialect.whole`), and every value goes by both of its places. What of an event is no piece of
a text is changed in the event. A text in pieces has a masker of its own, which needs no more of it than its beginning,
or which waits for its end: where rules lead into what may be JSON, all of it is held.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ext_proc.model import Action, FieldAction
from ext_proc.protocols.document import KEY_SHOWN
from ext_proc.protocols.field_json import LOOSE, json_in
from ext_proc.protocols.field_tree import FieldPass
from ext_proc.protocols.fielded import Fielded, left_out, moved, path_of
from ext_proc.protocols.json_text import JsonError
from ext_proc.protocols.streaming.dialect import LABELS, PADDING, Treatment
from ext_proc.protocols.streaming.held import HeldJson, PassThrough
from ext_proc.protocols.streaming.masking import StreamRefused, fed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from ext_proc.model import FieldRule, Redaction, Removal
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
    """What is done about a text in pieces: what a rule says, or what rules say of values in it; its place on record.

    ``whole`` is its place in the whole answer.
    """

    rule: FieldRule | None
    state: State
    place: Place
    included: frozenset[str]
    whole: Place = ()

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
        self._in_pieces: set[Place] = set()
        self._held: dict[Place, tuple[HeldJson, Callable[[], Masker]]] = {}

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
        self.tell(one.done.removals, one.where)
        self.maskers.take((), one.done.blocked)
        return one.fielded

    def tell(self, removals: Sequence[Removal], where: Mapping[int, Whole]) -> None:
        """Put on record what was taken out; a field that several events say once, as in the whole answer.

        Args:
            removals: of one event, or of one text.
            where: by removal (its id), where in the whole answer that is, if events may say it again.
        """
        seen: Counter[Hashable] = Counter()
        for one in removals:
            found = where.get(id(one))
            if found is None or one.action is Action.BLOCK:
                self.maskers.take([one], ())
            elif not (found.within == "" and found.place in self._in_pieces):
                of = (
                    found,
                    one.entity,
                    one.rule,
                    one.version,
                    one.action,
                    (one.start, one.end) if found.within else (),
                )
                seen[of] += 1
                self.maskers.take_once((of, seen[of]), one)

    def begun(self, whole: Place) -> None:
        """The text at ``whole`` has a masker that tells what is taken out of it."""
        self._in_pieces.add(whole)

    def mind(self, place: Place, plan: _Plan) -> None:
        """From here on ``plan`` is for the text in pieces at ``place``, unless a stricter one is."""
        known = self._plans.get(place)
        if known is None or (plan.is_strict and not known.is_strict):
            self._plans[place] = plan

    def known(self, about: Place) -> _Plan | None:
        """The plan for a text, if there is one."""
        return self._plans.get(about)

    def begins_alone(self, about: Place, plan: _Plan) -> None:
        """The text begins with JSON that is whole, and was masked as such: with ``plan``, it is not held any more."""
        held = self._held.get(about)
        if about not in self._plans:
            self._plans[about] = plan
        elif held is not None and held[0].is_blank:
            self._plans[about] = plan
            held[0].stay_text(held[1])

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

        def of_included() -> Masker:
            return usual() if plan.rule is None else PassThrough(excluded)

        def of_text() -> Masker:
            return self.maskers.watched(self.fields.masker(left_out(lacking), path)) if lacking else of_included()

        def of_unreadable() -> Masker:
            rule = states.reaching(plan.state)
            return of_text() if lacking or rule is None else self.maskers.watched(self.fields.masker(rule, path))

        def of_tree(root: list[Any]) -> str:
            return self._of_tree(root, plan, excluded)

        if not plan.state.goes_on:
            return of_text()
        held = HeldJson(of_text, of_unreadable, of_tree)
        if about is not None:
            self._held[about] = held, of_included
        return held

    def _of_tree(self, root: list[Any], plan: _Plan, excluded: Callable[[int], None]) -> str:
        try:
            made = self.mask_tree(root, plan.state, plan.place, plan.included)
        except JsonError:
            raise StreamRefused("stream_too_deep") from None
        excluded(made.coverage.excluded_bytes)
        self.tell(made.removals, self._within(made.removals, plan))
        self.maskers.take((), made.blocked)
        return made.body.decode()

    def _within(self, removals: Sequence[Removal], plan: _Plan) -> dict[int, Whole]:
        return within(removals, self.fields.show(path_of(plan.place)), plan.whole) if plan.whole else {}


class Whole(NamedTuple):
    """Where in the whole answer something was taken out: at a place, or further in, in a text of JSON there."""

    place: Place
    within: str = ""


def within(removals: Sequence[Removal], path: str, place: Place) -> dict[int, Whole]:
    """Where removals of the text at ``path`` are, which stands at ``place`` in the whole answer."""
    return {id(one): Whole(place, one.channel.removeprefix(path) or "/") for one in removals}


class _EventPass(FieldPass):
    """One look at one event."""

    keeps_texts = True

    def __init__(self, stream: EventFields, dialect: Dialect, whole: Mapping[Place, Place]) -> None:
        super().__init__(stream.fields)
        self.done = self.fielded = EventFielded()
        self._stream = stream
        self._dialect = dialect
        self._whole = whole
        self.where: dict[int, Whole] = {}

    def removed(self, rule: FieldRule, place: Place, size: int) -> None:
        """See `FieldPass.removed`."""
        super().removed(rule, place, size)
        if self._dialect.repeats:
            self.where[id(self.done.removals[-1])] = Whole(self._place_in_whole(place))

    def _place_in_whole(self, place: Place) -> Place:
        for size in range(len(place), 0, -1):
            found = self._whole.get(place[:size])
            if found is not None:
                return (*found, *place[size:])
        return place

    def _take(self, made: Redaction, place: Place) -> None:
        """What was taken out of a text of JSON."""
        if self._dialect.repeats:
            self.where |= within(made.removals, self._show(path_of(place)), self._place_in_whole(place))
        self.done.removals.extend(made.removals)
        self.done.blocked.extend(made.blocked)

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
            whole = self._place_in_whole(place) if self._dialect.repeats else ()
            plan = _Plan(rule, state, about, included, whole)
            if treatment is Treatment.UNKNOWN and not plan.is_strict and state.goes_on:
                plan = self._alone(holder, key, plan, self._stream.known(about))
            self.fielded.planned.setdefault(id(holder), {})[key] = about
            self._stream.mind(about, plan)
            if whole and holder[key] and self._stream.is_strict(about):
                self._stream.begun(whole)
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
            self._take(made, plan.place)
            holder[key] = made.body.decode()
            alone = _Plan(plan.rule, states.nowhere, plan.place, states.including, plan.whole)
            self._stream.begins_alone(plan.place, alone)
            return plan
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
        self._take(made, place)
        self.done.excluded_bytes += made.coverage.excluded_bytes
        holder[key] = made.body.decode()
        self.done.settle(holder, key)
        return True
