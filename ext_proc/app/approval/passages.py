"""Bodies as people at the desk read them: text by text, with what was masked marked. Pure.

What is marked is what the redaction took out, where it stood; never what merely looks like it: a caller can write
``[EMAIL]`` too, and people who agree to a call must not take it for an address that the model does not get.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ext_proc.console import seen
from ext_proc.evidence.aligning import aligned
from ext_proc.evidence.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ext_proc.model import Removal

PASSAGES_MAX: Final = 500
"""Texts of one body that are shown one by one. Where there are more, the whole body is shown as it is written."""
LABEL_MAX: Final = 200
"""Characters of where a text stands: names of members are a caller's."""
MARKS_MAX: Final = 1000
"""Of one body. What is beyond stands there unmarked."""


class Mark(NamedTuple):
    """A masked span: of the text at ``label`` the code points ``start`` to ``end``, and what stands there instead."""

    label: str
    start: int
    end: int
    entity: str
    action: str


def marks_of(body: str, forwarded: str, removals: Sequence[Removal]) -> tuple[list[Mark], list[Mark]]:
    """What was masked, where it stood in the body as it came, and where what the model gets stands for it.

    What cannot be placed for sure (in a body with more texts than are shown, in JSON within a text, in a member's name)
    is left out.
    """
    old, new = _unambiguous(body), _unambiguous(forwarded)
    spans: dict[str, list[Removal]] = {}
    for one in removals:
        spans.setdefault(one.channel.removeprefix("/"), []).append(one)
    came: list[Mark] = []
    goes: list[Mark] = []
    for label in old.keys() & new.keys() & spans.keys():
        if len(came) < MARKS_MAX and not _is_json(old[label]):  # what is in there has the same label
            gone = _apart(spans[label])
            places = aligned(old[label], [(one.start, one.end) for one in gone], new[label])
            for one, place in zip(gone, places, strict=True):
                if place is not None:
                    came.append(Mark(label, one.start, one.end, one.entity, one.action.value))
                    goes.append(Mark(label, *place, one.entity, one.action.value))
    return came[:MARKS_MAX], goes[:MARKS_MAX]


def passages(body: str, marks: Sequence[Mark] = ()) -> tuple[seen.Passage, ...]:
    """The texts of a body, one by one, with the marks. What models read and screens do not show is made visible."""
    found: dict[str, list[Mark]] = {}
    for one in marks:
        found.setdefault(one.label, []).append(one)
    return tuple(seen.Passage(visible(label), _segments(text, found.get(label, ()))) for label, text in _listed(body))


def _segments(text: str, marks: Sequence[Mark]) -> tuple[seen.Segment, ...]:
    made: list[seen.Segment] = []
    at = 0
    for one in sorted(marks, key=lambda mark: mark.start):
        if at <= one.start < one.end <= len(text):
            made += [
                seen.Segment(text[at : one.start]),
                seen.Segment(text[one.start : one.end], one.entity, one.action),
            ]
            at = one.end
    made.append(seen.Segment(text[at:]))
    return tuple(replace(one, text=visible(one.text)) for one in made if one.text) or (seen.Segment(""),)


def _listed(body: str) -> list[tuple[str, str]]:
    """Every text with where it stands; or all of it as one."""
    try:
        texts = list(islice(_texts(json.loads(body), ""), PASSAGES_MAX + 1)) if body else []
    except (ValueError, RecursionError):
        texts = [("body", body)]
    return texts if len(texts) <= PASSAGES_MAX else [("body", body)]


def _unambiguous(body: str) -> Mapping[str, str]:
    """Texts by where they stand, where nothing else does: names of members can look like places."""
    texts = _listed(body)
    counted = Counter(label for label, _ in texts)
    return {label: text for label, text in texts if counted[label] == 1}


def _texts(value: Any, label: str) -> Iterator[tuple[str, str]]:
    """Every value with where it stands. A name that does not fit there is a text of its own."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if len(name) > LABEL_MAX:
                yield f"{label}/(name of a member)", name
            yield from _texts(inner, _joint(label, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, _joint(label, str(index)))
    else:
        yield label or "body", value if isinstance(value, str) else json.dumps(value)


def _joint(label: str, name: str) -> str:
    """Where something stands, in a form that does not grow without end."""
    joined = f"{label}/{name}" if label else name
    return joined if len(joined) <= LABEL_MAX else f"{joined[: LABEL_MAX - 1]}…"


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in {"{", "["}:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _apart(removals: Sequence[Removal]) -> list[Removal]:
    kept: list[Removal] = []
    for one in sorted(removals, key=lambda removal: (removal.start, -removal.end)):
        if one.start < one.end and (not kept or one.start >= kept[-1].end):
            kept.append(one)
    return kept
