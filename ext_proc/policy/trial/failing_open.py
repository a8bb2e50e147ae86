"""Does a policy fail open? Ask it, spoil what was asked, ask again: the answer must not get weaker.

Found is only what also holds as the gate asks: strictly, where an error in a built-in is a refusal. For each field and
kind there is one example, the shortest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import ConfigError
from ext_proc.policy.trial import judging, tracing
from ext_proc.policy.trial.mutations import UNKNOWN_ENTITY, Mutant, mutants
from ext_proc.policy.trial.questions import SEED, Corpus, is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ext_proc.policy.trial.opa_program import Server
    from ext_proc.policy.trial.questions import Question
    from ext_proc.policy.trial.tracing import Line

WHOLE: Final = 20
"""Questions that are spoiled in every way: those with the newest answers. Of the others some ways each are drawn."""
DRAWN: Final = 8
_MUST_BE_KNOWN: Final = ("identity.groups", "request.operation", "request.model")
_ENTITIES: Final = "findings"
OPEN: Final = (*_MUST_BE_KNOWN, _ENTITIES)
"""Fields of which a policy may mean to let pass what it does not know."""
_TRIED: Final = 5
"""Examples of one kind that are asked strictly, before it is taken that none holds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A way in which the policy fails open: ``change`` in ``field`` makes ``before`` into ``after``.

    ``cases`` is how many there were of it, ``question`` the shortest of them, spoiled; ``asked`` is it before.
    """

    kind: str
    field: str
    change: str
    asked: Question
    question: Question
    before: Any
    after: Any
    cases: int
    where: Line | None = None


@dataclass(slots=True)
class Found:
    """What came of it."""

    findings: list[Finding] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    questions: int = 0
    allowed: int = 0
    held: int = 0
    mutants: int = 0
    unreached: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Case:
    kind: str
    mutant: Mutant
    asked: Question
    before: Any
    after: Any

    @property
    def question(self) -> Question:
        return self.mutant.of(self.asked)

    @property
    def length(self) -> int:
        return len(json.dumps(self.question))


def try_questions(server: Server, questions: Sequence[Question]) -> Corpus:
    """An author's own questions. All of them tell something: they were chosen.

    Raises:
        ConfigError: the policy allows none of them.
    """
    corpus = Corpus(list(questions), [server.ask(one) for one in questions], len(questions))
    if not any(map(is_allowed, corpus.answers)):
        raise ConfigError("the policy allows none of the questions, so nothing can be said about it: add one")
    return corpus


def search(
    server: Server,
    corpus: Corpus,
    may_be_unknown: frozenset[str] = frozenset(),
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> Found:
    """Spoil the questions of the corpus and judge the answers; ``told`` hears how many are answered, of how many.

    Raises:
        ConfigError: OPA fails.
    """
    drawn = list(_drawn(corpus))
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done, len(drawn))

    answers = server.ask_all([mutant.of(corpus.questions[number]) for number, mutant in drawn], more)
    cases: dict[tuple[str, str, str], list[_Case]] = {}
    for (number, mutant), after in zip(drawn, answers, strict=True):
        kind = _kind(corpus.answers[number], after, mutant, may_be_unknown)
        if kind is not None:
            case = _Case(kind, mutant, corpus.questions[number], corpus.answers[number], after)
            cases.setdefault((kind, mutant.field, mutant.change), []).append(case)
    findings = [finding for several in cases.values() for finding in _confirmed(server, several, may_be_unknown)]
    return Found(
        findings=sorted(findings, key=lambda one: (list(judging.TEXTS).index(one.kind), one.field, one.change)),
        fields=sorted({mutant.field for _, mutant in drawn}),
        questions=len(corpus.questions),
        allowed=corpus.count(lambda answer: judging.decision_of(answer) is not None),
        held=corpus.count(_is_held),
        mutants=len(drawn),
    )


def locate(opa: Path, folder: Path, finding: Finding, decision: str) -> Line | None:
    """The rule that made the difference; None if no rule did: then none looks at the field."""
    try:
        before = tracing.trace(opa, folder, finding.asked, decision)
        after = tracing.trace(opa, folder, finding.question, decision)
    except ConfigError:
        return None  # the question before is an error already
    return tracing.difference(folder, before, after)


def unreached(opa: Path, folder: Path, corpus: Corpus, decision: str) -> list[Line]:
    """Rules that none of the questions made speak: nothing is said about them."""
    covered = tracing.reached(opa, folder, corpus.questions, decision)
    return [line for line in tracing.heads(folder) if (line.file, line.row) not in covered]


def _drawn(corpus: Corpus) -> Iterator[tuple[int, Mutant]]:
    chance = Random(SEED)  # noqa: S311 - no secret: the same each time
    for number in range(len(corpus.questions)):
        every = list(mutants(corpus.questions[number]))
        is_whole = number < min(corpus.telling, WHOLE)
        for mutant in every if is_whole else chance.sample(every, min(DRAWN, len(every))):
            yield number, mutant


def _kind(before: Any, after: Any, mutant: Mutant, may_be_unknown: frozenset[str]) -> str | None:
    if not is_allowed(after):
        return None
    decided = judging.decision_of(after)
    if decided is None:
        return None
    kind = judging.weaker(judging.decision_of(before), decided)
    if kind is None and mutant.is_malformed:
        return judging.MALFORMED_ALLOWED
    if mutant.is_malformed:
        return kind
    if mutant.field in may_be_unknown or (mutant.path[0] == _ENTITIES and _ENTITIES in may_be_unknown):
        return None
    if mutant.path == (_ENTITIES, UNKNOWN_ENTITY) and judging.shows(decided, UNKNOWN_ENTITY):
        return judging.UNMASKED
    if kind is None and mutant.field in _MUST_BE_KNOWN and mutant.change in ("an unknown word", "emptied"):
        return judging.UNKNOWN_ALLOWED
    return kind


def _confirmed(server: Server, cases: list[_Case], may_be_unknown: frozenset[str]) -> Iterator[Finding]:
    """The shortest that also holds strictly."""
    for case in sorted(cases, key=lambda one: one.length)[:_TRIED]:
        before, after = server.ask(case.asked), server.ask(case.question)
        if _kind(before, after, case.mutant, may_be_unknown) == case.kind:
            mutant = case.mutant
            yield Finding(
                case.kind, mutant.field, mutant.change, case.asked, case.question, before, after, len(cases)
            )
            return


def _is_held(answer: Any) -> bool:
    decided = judging.decision_of(answer)
    return decided is not None and decided.approval is not None
