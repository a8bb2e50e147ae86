"""Which lines of the sources had a part in a decision: OPA's coverage, read for people.

A line is covered where an expression on it held. A rule's first line is its head: covered, the rule gave its value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc.policy.trial.opa_program import DECISION, evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NO_RULE: Final = re.compile(r"package\b|import\b|default\b|[#}\])\s]|$|\w+ :?= [\"\[{\d]")
"""Nor a constant: OPA does not say whether it was looked at."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the sources."""

    file: str
    row: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True)
class Traced:
    """A decision (None: none) and the covered lines, by file and row."""

    answer: Any
    covered: frozenset[tuple[str, int]]


def trace(opa: Path, folder: Path, question: Any, decision: str = DECISION) -> Traced:
    """Decide one question, and remember how.

    Raises:
        ConfigError: OPA gives no answer; errors in built-ins are errors.
    """
    answer = evaluate(
        opa, folder, question, "data." + decision.replace("/", "."), "--coverage", "--strict-builtin-errors"
    )
    result = answer.get("result")
    return Traced(result[0]["expressions"][0]["value"] if result else None, _covered(answer))


def reached(opa: Path, folder: Path, questions: Sequence[Any], decision: str = DECISION) -> frozenset[tuple[str, int]]:
    """What any of the questions covers.

    Raises:
        ConfigError: OPA gives no answer.
    """
    name = "data." + decision.replace("/", ".")
    query = f"[d | some q in input; d := {name} with input as q]"
    return _covered(evaluate(opa, folder, questions, query, "--coverage"))


def heads(folder: Path) -> list[Line]:
    """The first line of every rule and function that is not a test; a `default` or a constant is none."""
    return [line for line in _lines(folder) if not _NO_RULE.match(line.text)]


def lines_of(folder: Path, covered: frozenset[tuple[str, int]]) -> list[Line]:
    """The covered lines, in order."""
    return [line for line in _lines(folder) if (line.file, line.row) in covered]


def difference(folder: Path, before: Traced, after: Traced) -> Line | None:
    """The rule that let a call pass: one that fell silent, else one that spoke only now, nearest to what it is about.

    Of several the deepest in the folders: a concern says why, the rules that collect concerns only pass it on.
    """
    rules = heads(folder)
    silent = [rule for rule in rules if _is_in(rule, before) and not _is_in(rule, after)]
    new = [rule for rule in rules if _is_in(rule, after) and not _is_in(rule, before)]
    for several in ([one for one in silent if _says_no(one)], [one for one in new if not _says_no(one)], silent, new):
        if several:
            return max(several, key=lambda line: (line.file.count("/"), -line.row))
    return None


def _says_no(line: Line) -> bool:
    """Is it one of a set, such as `reasons` and `deny`?"""
    return " contains " in line.text


def _is_in(line: Line, traced: Traced) -> bool:
    return (line.file, line.row) in traced.covered


def _covered(answer: dict[str, Any]) -> frozenset[tuple[str, int]]:
    return frozenset(
        (file.removeprefix("./"), row)
        for file, report in answer.get("coverage", {}).get("files", {}).items()
        for span in report.get("covered", ())
        for row in range(span["start"]["row"], span["end"]["row"] + 1)
    )


def _lines(folder: Path) -> Iterator[Line]:
    for path in sorted(folder.rglob("*.rego")):
        if not path.name.endswith("_test.rego"):
            name = str(path.relative_to(folder))
            for row, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
                yield Line(name, row, text)
