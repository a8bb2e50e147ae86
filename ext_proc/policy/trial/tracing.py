"""Which lines of the sources had a part in a decision: OPA's coverage, read for people.

A line is covered where an expression on it was looked at. What starts a line without a blank is a rule's head: covered
from its first column on, the rule gave its value (of a rule in one line the rest may have been looked at in vain).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc.policy.trial.defaults import DECISION
from ext_proc.policy.trial.opa_program import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NO_RULE: Final = re.compile(r"package\b|import\b|default\b|[#}\])\s]|$|\w+ :?= [\"\[{\d]")
"""Nor a constant: OPA does not say whether it was looked at."""


Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the sources."""

    file: str
    row: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.file, self.row


@dataclass(frozen=True, slots=True)
class Traced:
    """A decision (None: none), the covered lines, and those whose rule gave a value; by file and row."""

    answer: Any
    covered: frozenset[Place]
    fired: frozenset[Place]


def trace(opa: Path, folder: Path, question: Any, decision: str = DECISION, *more: str) -> Traced:
    """Decide one question, and remember how; ``more``: options of `opa eval`.

    Raises:
        ConfigError: OPA gives no answer; errors in built-ins are errors.
    """
    answer = evaluate(
        opa, folder, question, "data." + decision.replace("/", "."), "--coverage", "--strict-builtin-errors", *more
    )
    result = answer.get("result")
    value = result[0]["expressions"][0]["value"] if result else None
    return Traced(value, frozenset(_covered(answer)), frozenset(_fired(answer)))


def reached(opa: Path, folder: Path, questions: Sequence[Any], decision: str = DECISION) -> frozenset[Place]:
    """The rules that gave a value to any of the questions.

    Raises:
        ConfigError: OPA gives no answer.
    """
    name = "data." + decision.replace("/", ".")
    query = f"[d | some q in input; d := {name} with input as q]"
    return frozenset(_fired(evaluate(opa, folder, questions, query, "--coverage")))


def heads(folder: Path) -> list[Line]:
    """The first line of every rule and function that is not a test; a `default` or a constant is none."""
    return [line for line in _lines(folder) if not _NO_RULE.match(line.text)]


def lines_of(folder: Path, covered: frozenset[Place]) -> list[Line]:
    """The covered lines, in order."""
    return [line for line in _lines(folder) if line.place in covered]


def difference(folder: Path, before: Traced, after: Traced) -> Line | None:
    """The rule that let a call pass: one that fell silent, else one that spoke only now, nearest to what it is about.

    Of several the deepest in the folders: a concern says why, the rules that collect concerns only pass it on.
    """
    rules = heads(folder)
    silent = [rule for rule in rules if rule.place in before.fired - after.fired]
    new = [rule for rule in rules if rule.place in after.fired - before.fired]
    for several in ([one for one in silent if _says_no(one)], [one for one in new if not _says_no(one)], silent, new):
        if several:
            return max(several, key=lambda line: (line.file.count("/"), -line.row))
    return None


def _says_no(line: Line) -> bool:
    """Is it one of a set, such as `reasons` and `deny`?"""
    return " contains " in line.text


def _covered(answer: dict[str, Any]) -> Iterator[Place]:
    for file, span in _spans(answer):
        yield from ((file, row) for row in range(span["start"]["row"], span["end"]["row"] + 1))


def _fired(answer: dict[str, Any]) -> Iterator[Place]:
    yield from ((file, span["start"]["row"]) for file, span in _spans(answer) if span["start"]["col"] == 1)


def _spans(answer: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, report in answer.get("coverage", {}).get("files", {}).items():
        yield from ((file.removeprefix("./"), span) for span in report.get("covered", ()))


def _lines(folder: Path) -> Iterator[Line]:
    for path in sorted(folder.rglob("*.rego")):
        if not path.name.endswith("_test.rego"):
            name = str(path.relative_to(folder))
            for row, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
                yield Line(name, row, text)
