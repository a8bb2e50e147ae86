"""A question spoiled in one field. Pure.

Two kinds. *Malformed* is what the schema forbids: a field is missing, null, of another type, a word that is not one of
its words, a number out of its range. The gate never asks such a question; a policy that allows it is one that would
also allow what the next version forgets to ask. *Unknown* is what fits the schema and says less, or something that
nobody has heard of, or more than there can be: an empty list of groups, a model of that name, a trillion bytes.

What says something else and nothing less is neither: another hour, no finding. What a caller may leave out
(`omissions`) stands between: a limit on `max_tokens` that does not speak of who says nothing may be meant, and is asked
about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc.policy.trial.questions import UNKNOWN
from ext_proc.policy.trial.schema import problems, question_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.policy.trial.questions import Question

Path = tuple[str | int, ...]

UNKNOWN_ENTITY: Final = "ZZ_NEVER_HEARD_OF"
MANY: Final = 10**12
_DROPPED: Final = object()
_OTHER_TYPES: Final[tuple[tuple[str, Any], ...]] = (
    ("null", None),
    ("a number", 7),
    ("a text", UNKNOWN),
    ("true", True),
    ("a list", []),
    ("an object", {}),
)
_OF_ITS_TYPE: Final[dict[type, tuple[tuple[str, Any], ...]]] = {
    str: (("an empty text", ""),),
    int: (("-1", -1), ("a fraction", 0.5)),
}
_SAYS_LESS: Final[dict[str, tuple[tuple[str, Any], ...]]] = {
    "identity.groups": (("emptied", []), ("an unknown word", [UNKNOWN])),
    "identity.client": (("null", None), ("an unknown word", UNKNOWN)),
    "identity.tenant": (("null", None), ("an unknown word", UNKNOWN)),
    "identity.issuer": (("an unknown word", UNKNOWN),),
    "connection.name": (("an unknown word", UNKNOWN),),
    "connection.protocol": (("an unknown word", UNKNOWN),),
    "request.method": (("an unknown word", UNKNOWN.upper()),),
    "request.path": (("an unknown word", f"/{UNKNOWN}"),),
    "request.operation": (("an unknown word", UNKNOWN),),
    "request.model": (("null", None), ("an empty text", ""), ("an unknown word", UNKNOWN)),
    "request.body_bytes": (("a trillion", MANY),),
    "request.text_bytes": (("a trillion", MANY),),
    "time.now": (("no time", f"{UNKNOWN}-{UNKNOWN}"),),
    "source.address": (("an empty text", ""), ("no address", UNKNOWN)),
}
_ADDED: Final[tuple[tuple[Path, str, Any], ...]] = (
    (("identity", "groups"), "an unknown word more", UNKNOWN),
    (("connection", "tags"), "an unknown word more", UNKNOWN),
    (("request", "betas"), "an unknown word more", UNKNOWN),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """How a question is spoiled: where, what is put there, and whether the schema forbids it."""

    path: Path
    change: str
    value: Any
    is_malformed: bool

    @property
    def field(self) -> str:
        """The field's name, with one name for all members of a list or a map."""
        return shown(self.path)

    def of(self, question: Question) -> Question:
        """The question, spoiled; what is not on the way to the place is shared with the one that is given."""
        made: Question = _changed(question, self.path, self.value)
        return made


def shown(path: Path) -> str:
    """``request.parameters.max_tokens``, ``identity.groups[]``."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def mutants(question: Question) -> Iterator[Mutant]:
    """Every one, each in one field."""
    for path, value in _fields(question, ()):
        yield from _malformed(path, value)
    yield from (mutant for mutant in _unknown(question) if mutant.of(question) != question)


def omissions(question: Question) -> Iterator[Mutant]:
    """What a caller may leave out of a body, left out: nothing is wrong with such a question, and it says less."""
    for name, value in question["request"]["parameters"].items():
        if value is not None and not name.endswith("_count"):
            yield Mutant(("request", "parameters", name), "left out", _DROPPED, is_malformed=False)


def _fields(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _fields(one, (*path, name))
    elif isinstance(value, list):
        for number, one in enumerate(value[:1]):  # one member stands for all
            yield from _fields(one, (*path, number))


def _malformed(path: Path, value: Any) -> Iterator[Mutant]:
    holder, own = _schema_at(path[:-1]), _schema_at(path)
    if path[-1] in holder.get("required", ()):
        yield Mutant(path, "left out", _DROPPED, is_malformed=True)
    for change, other in (*_OTHER_TYPES, *_OF_ITS_TYPE.get(type(value), ())):
        if (type(other) is not type(value) or other != value) and next(problems(own, other), None) is not None:
            yield Mutant(path, change, other, is_malformed=True)


def _schema_at(path: Path) -> dict[str, Any]:
    at = question_schema()
    for step in path:
        if isinstance(step, int):
            at = at["items"]
        else:
            known = at.get("properties", {})
            at = known[step] if step in known else at["additionalProperties"]
    return at


def _unknown(question: Question) -> Iterator[Mutant]:
    for name, changes in _SAYS_LESS.items():
        path: Path = tuple(name.split("."))
        for change, value in changes:
            yield Mutant(path, change, value, is_malformed=False)
    for path, change, word in _ADDED:
        yield Mutant(path, change, [*_at(question, path), word], is_malformed=False)
    for name, value in question["request"]["parameters"].items():
        path = ("request", "parameters", name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Mutant(path, "a trillion", MANY, is_malformed=False)
            yield Mutant(path, "a text", "unlisted", is_malformed=False)
        if name.endswith("_count"):  # the gate counts, whatever the caller leaves out
            yield Mutant(path, "left out", _DROPPED, is_malformed=False)
            yield Mutant(path, "null", None, is_malformed=False)
    for entity in question["findings"]:
        yield Mutant(("findings", entity), "a trillion", MANY, is_malformed=False)
    yield Mutant(("findings", UNKNOWN_ENTITY), "an unknown word", 1, is_malformed=False)


def _changed(value: Any, path: Path, other: Any) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return [*value[:step], _changed(value[step], rest, other) if rest else other, *value[step + 1 :]]
    made = dict(value)
    if rest:
        made[str(step)] = _changed(value[step], rest, other)
    elif other is _DROPPED:
        del made[str(step)]
    else:
        made[str(step)] = other
    return made


def _at(question: Question, path: Path) -> Any:
    at: Any = question
    for step in path:
        at = at[step]
    return at
