"""Does a policy fail open? Ask it, spoil what was asked, ask again: the answer must not get weaker.

Found is only what also holds as the gate asks: strictly, where an error in a built-in is a refusal. For each kind,
field and denial that fell silent there is one finding, with the shortest example.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import ConfigError
from ext_proc.policy.trial import judging, tracing
from ext_proc.policy.trial.defaults import ENTITIES, MUST_BE_KNOWN, SEED
from ext_proc.policy.trial.disguises import BY_CHANCE, PARTS, days, disguised, single
from ext_proc.policy.trial.mutations import UNKNOWN_ENTITY, Mutant, mutants, omissions
from ext_proc.policy.trial.questions import Corpus, is_allowed, is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ext_proc.model import Decision
    from ext_proc.policy.trial.opa_program import Server
    from ext_proc.policy.trial.questions import Question
    from ext_proc.policy.trial.tracing import Line

WHOLE: Final = 20
"""Questions that are spoiled in every way: those that tell most. Of the others some ways each are drawn."""
DRAWN: Final = 6
_GUISES: Final = 3
_OTHERS: Final = 3
_TRIED: Final = 5
"""Examples of one kind that are asked strictly, before it is taken that none holds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A way in which the policy fails open: ``changes`` in ``field`` make ``before`` into ``after``.

    ``cases`` is how many there were of it, ``question`` the shortest of them, spoiled by the first of the changes;
    ``asked`` is it before.
    """

    kind: str
    field: str
    changes: tuple[str, ...]
    asked: Question
    question: Question
    before: Any
    after: Any
    cases: int
    where: Line | None = None


@dataclass(slots=True)
class Found:
    """What came of it.

    ``left_out`` are no findings: denials that fall silent where the caller leaves a parameter out, or for another
    caller on another day, which can be meant.
    """

    findings: list[Finding] = field(default_factory=list)
    left_out: list[Finding] = field(default_factory=list)
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
    whole: int = WHOLE,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> Found:
    """Spoil the questions of the corpus and judge the answers; ``told`` hears how many are answered, of how many.

    The first ``whole`` that tell something are spoiled in every way, the others in some.

    Raises:
        ConfigError: OPA fails.
    """
    drawn = [(corpus.questions[number], corpus.answers[number], mutant) for number, mutant in _drawn(corpus, whole)]
    drawn += _drawn_of_others(server, corpus)
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done, len(drawn))

    answers = server.ask_all([mutant.of(asked) for asked, _, mutant in drawn], more)
    cases: dict[tuple[str, str, str], list[_Case]] = {}
    for (asked, before, mutant), after in zip(drawn, answers, strict=True):
        kind = _kind(before, after, mutant, may_be_unknown)
        if kind is not None:
            case = _Case(kind, mutant, asked, before, after)
            cases.setdefault((kind, mutant.field, _reasons(case.before)), []).append(case)
    told_apart = as_others(server, corpus)
    findings = [finding for several in cases.values() for finding in _confirmed(server, several, may_be_unknown)]
    findings += [one for one in told_apart if one.kind != judging.AS_ANOTHER]
    return Found(
        findings=sorted(findings, key=lambda one: (list(judging.TEXTS).index(one.kind), one.field)),
        fields=sorted({mutant.field for _, _, mutant in drawn} | {BY_CHANCE}),
        questions=len(corpus.questions),
        allowed=corpus.count(lambda answer: judging.decision_of(answer) is not None),
        held=corpus.count(_is_held),
        mutants=len(drawn),
        left_out=[
            *silent_if_left_out(server, corpus),
            *(one for one in told_apart if one.kind == judging.AS_ANOTHER),
        ],
    )


def as_others(server: Server, corpus: Corpus) -> list[Finding]:
    """Is anything weaker for another caller on another day? Of the exchange's id alone that is a finding: whoever is
    denied asks again. Of the others it can be meant (a day from which on something holds), and is asked about.

    Raises:
        ConfigError: OPA fails.
    """
    chance, every = Random(SEED), days()  # noqa: S311 - no secret: the same each time
    telling = [number for number in range(len(corpus.questions[: corpus.telling])) for _ in range(_GUISES)]
    asked = [disguised(corpus.questions[number], chance.choice(every), chance) for number in telling]
    found: dict[tuple[str, str], Finding] = {}
    for number, other, answer in zip(telling, asked, server.ask_all(asked), strict=True):
        question, before = corpus.questions[number], corpus.answers[number]
        kind = judging.weaker(judging.decision_of(before), judging.decision_of(answer))
        if kind is None:
            continue
        alone = [(part, one) for part, one in single(question, other) if _is_weaker(server, before, one)]
        part, shown = alone[0] if alone else (", ".join(PARTS), other)
        is_found = part == BY_CHANCE
        if is_found or kind == judging.DENY_BECAME_ALLOW:
            kind = kind if is_found else judging.AS_ANOTHER
            made = Finding(kind, part, ("another",), question, shown, before, server.ask(shown), 1)
            found.setdefault((part, _reasons(before)), made)
    return list(found.values())


def _is_weaker(server: Server, before: Any, question: Question) -> bool:
    return judging.weaker(judging.decision_of(before), judging.decision_of(server.ask(question))) is not None


def silent_if_left_out(server: Server, corpus: Corpus) -> list[Finding]:
    """Denials that a caller gets round by saying nothing: of a limit on `max_tokens`, who leaves it out.

    No schema forbids it and the gate asks it every day, so it is judged by who wrote the rule: in a limit for everybody
    it can be meant (the service has a limit of its own), in one for interns hardly.

    Raises:
        ConfigError: OPA fails.
    """
    drawn = [
        (number, mutant)
        for number in range(corpus.telling)
        if not is_allowed(corpus.answers[number])
        for mutant in omissions(corpus.questions[number])
    ]
    answers = server.ask_all([mutant.of(corpus.questions[number]) for number, mutant in drawn])
    found: dict[tuple[str, str], Finding] = {}
    for (number, mutant), after in zip(drawn, answers, strict=True):
        asked, before = corpus.questions[number], corpus.answers[number]
        if judging.decision_of(after) is None:
            continue
        one = Finding(judging.LEFT_OUT, mutant.field, (mutant.change,), asked, mutant.of(asked), before, after, 1)
        found.setdefault((mutant.field, _reasons(before)), one)
    told = {key: set(one.before.get("reasons") or ()) for key, one in found.items()}
    smaller = {key for key in told if not any(told[other] < told[key] for other in told if other[0] == key[0])}
    return [one for key, one in found.items() if key in smaller]  # each code by itself, where it was seen by itself


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


def _drawn(corpus: Corpus, whole: int) -> Iterator[tuple[int, Mutant]]:
    chance = Random(SEED)  # noqa: S311 - no secret: the same each time
    chosen = set(_most_telling(corpus)[:whole])
    for number in range(len(corpus.questions)):
        every = list(mutants(corpus.questions[number]))
        for mutant in every if number in chosen else chance.sample(every, min(DRAWN, len(every))):
            yield number, mutant


def _drawn_of_others(server: Server, corpus: Corpus) -> Iterator[tuple[Question, Any, Mutant]]:
    """Some questions that are allowed, by others on other days; and then by nobody, for something nobody knows."""
    chance = Random(SEED)  # noqa: S311 - no secret: the same each time
    allowed = [number for number in range(corpus.telling) if is_allowed(corpus.answers[number])][:_OTHERS]
    asked = [disguised(corpus.questions[number], day, chance) for number in allowed for day in days()]
    for question, before in zip(asked, server.ask_all(asked), strict=True):
        for mutant in mutants(question):
            if _is_of_nobody(mutant):
                yield question, before, mutant


def _is_of_nobody(mutant: Mutant) -> bool:
    return mutant.field in MUST_BE_KNOWN and mutant.change in ("an unknown word", "emptied")


def _most_telling(corpus: Corpus) -> list[int]:
    """Those first that say something new, with few reasons: of several, one that falls silent is not seen."""
    seen, ranked = set[str](), []
    for number, answer in enumerate(corpus.answers[: corpus.telling]):
        said = f"{is_allowed(answer)} {is_held(answer)} {_reasons(answer)}"
        reasons = answer.get("reasons") if isinstance(answer, dict) else None
        ranked.append((said in seen, len(reasons) if isinstance(reasons, list) else 0, number))
        seen.add(said)
    return [number for _, _, number in sorted(ranked)]


def _kind(before: Any, after: Any, mutant: Mutant, may_be_unknown: frozenset[str]) -> str | None:
    decided = judging.decision_of(after) if is_allowed(after) else None
    if decided is None:
        return None
    kind = judging.weaker(judging.decision_of(before), decided)
    if mutant.is_malformed:
        return kind or judging.MALFORMED_ALLOWED
    if {mutant.field, mutant.path[0]} & may_be_unknown:
        return None
    return kind or _kind_of_unknown(decided, mutant)


def _kind_of_unknown(decided: Decision, mutant: Mutant) -> str | None:
    """What is nobody's to allow, whatever was said of the question before."""
    if mutant.path == (ENTITIES, UNKNOWN_ENTITY) and judging.shows(decided, UNKNOWN_ENTITY):
        return judging.UNMASKED
    return judging.UNKNOWN_ALLOWED if _is_of_nobody(mutant) else None


def _confirmed(server: Server, cases: list[_Case], may_be_unknown: frozenset[str]) -> Iterator[Finding]:
    """The shortest that also holds strictly."""
    for case in sorted(cases, key=lambda one: one.length)[:_TRIED]:
        before, after = server.ask(case.asked), server.ask(case.question)
        if _kind(before, after, case.mutant, may_be_unknown) == case.kind:
            changes = tuple(dict.fromkeys([case.mutant.change, *(one.mutant.change for one in cases)]))
            yield Finding(case.kind, case.mutant.field, changes, case.asked, case.question, before, after, len(cases))
            return


def _reasons(answer: Any) -> str:
    return json.dumps(answer.get("reasons")) if isinstance(answer, dict) else ""


def _is_held(answer: Any) -> bool:
    decided = judging.decision_of(answer)
    return decided is not None and decided.approval is not None
