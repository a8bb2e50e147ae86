"""The command ``affidavit policy check``: does a policy compile, decide the same again, fail closed?"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ext_proc.app.authoring import policy_reports
from ext_proc.app.commands import save
from ext_proc.policy.trial import defaults, failing_open, judging, questions, static, vocabulary
from ext_proc.policy.trial.opa_program import AT_ONCE, LIBRARY, find_opa, serving, sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ext_proc.policy.problem import Problem
    from ext_proc.policy.trial.failing_open import Finding, Found
    from ext_proc.policy.trial.tracing import Line

CLEAN, FOUND = 0, 1
_ROWS_MAX: Final = 25


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is checked, and how. ``opa`` None: the one that is found; ``inputs`` None: questions are made."""

    policy: Path
    opa: Path | None = None
    inputs: Path | None = None
    questions: int = defaults.QUESTIONS
    seed: int = defaults.SEED
    may_be_unknown: tuple[str, ...] = ()
    decision: str = defaults.DECISION


@dataclass(slots=True)
class Checked:
    """What came of it. ``found`` is None where the sources do not compile."""

    problems: list[Problem] = field(default_factory=list)
    found: Found | None = None
    asked: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Is nothing wrong?"""
        return not self.problems and (self.found is None or not self.found.findings)


def check(options: CheckOptions, told: Callable[[int, int], None] = lambda _done, _all: None) -> Checked:
    """All of it.

    Raises:
        ConfigError: it could not be done: no OPA, no sources, no questions, or none that is allowed.
    """
    opa, folder = find_opa(options.opa), sources(options.policy)
    made = Checked(static.problems_of(opa, folder))
    if any(problem.code in ("strict", "schema") for problem in made.problems):
        return made
    with serving(opa, folder, options.decision) as server:
        made.problems += static.open_doors(server)
        began = monotonic()
        if options.inputs is not None:
            corpus = failing_open.try_questions(server, questions.read(options.inputs))
        else:
            corpus = questions.generate(server, vocabulary.read(folder), options.questions, options.seed)
        found = failing_open.search(server, corpus, frozenset(options.may_be_unknown), told=told)
        made.asked, made.seconds = server.asked, monotonic() - began

    def placed(finding: Finding) -> Finding:
        return replace(finding, where=failing_open.locate(opa, folder, finding, options.decision))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found.findings = list(pool.map(placed, found.findings))
        found.left_out = list(pool.map(placed, found.left_out))
    found.unreached = failing_open.unreached(opa, folder, corpus, options.decision)
    made.found = found
    return made


def run(options: CheckOptions, *, as_json: bool, junit: Path | None, sarif: Path | None) -> int:
    """The command. Exit status: 0 nothing wrong, 1 something found (2, could not run, is raised as ConfigError)."""
    checked = _with_progress(options)
    for path, write in ((junit, policy_reports.junit), (sarif, policy_reports.sarif)):
        if path is not None:
            save(path, write(options.policy, checked))
    if as_json:
        print(json.dumps(policy_reports.as_json(options.policy, checked), ensure_ascii=False))
    else:
        _show(options, checked)
    return CLEAN if checked.ok else FOUND


def _with_progress(options: CheckOptions) -> Checked:
    if not sys.stderr.isatty():
        return check(options)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("spoiled questions", total=None)
        return check(options, lambda done, every: progress.update(task, completed=done, total=every))


def _show(options: CheckOptions, checked: Checked) -> None:
    console = Console(highlight=False)
    for problem in checked.problems:
        place = f"{options.policy / problem.file}:{problem.row}" if problem.row else str(options.policy / problem.file)
        console.print(f"{place}: {problem.text} ({problem.code})", markup=False, soft_wrap=True)
        if problem.remedy:
            console.print(f"    {problem.remedy}", markup=False, soft_wrap=True)
    found = checked.found
    if found is None:
        console.print("the policy does not compile: whether it fails open was not looked at")
        return
    if found.findings:
        _show_findings(console, options, found.findings)
    for one in found.left_out:
        where = f" ({one.where})" if one.where else ""
        how = "with another" if one.kind == judging.AS_ANOTHER else "if the caller leaves out"
        text = f"{told(one.before)}{where}: allowed {how} {one.field}. Is that meant?"
        console.print(text, markup=False, soft_wrap=True)
    if found.unreached:
        _show_unreached(console, options.policy, found.unreached)
    speed = checked.asked / max(checked.seconds, 1e-9)
    console.print(
        f"{options.policy}: {len(checked.problems)} problems in the sources, fails open in {len(found.findings)} ways; "
        f"{found.questions} questions ({found.allowed} allowed, {found.held} of them held), {found.mutants} spoiled; "
        f"{checked.asked} decisions, {speed:.0f}/s",
        markup=False,
        soft_wrap=True,
    )


def _show_unreached(console: Console, policy: Path, unreached: list[Line]) -> None:
    """By file, those first that are not as they ship: what an author wrote, or changed."""
    rows: dict[str, list[int]] = {}
    for line in unreached:
        rows.setdefault(line.file, []).append(line.row)
    own = [name for name in rows if not _is_shipped(policy / name, name)]
    shipped = [name for name in rows if name not in own]
    console.print(f"{len(unreached)} rules that no question reached, so nothing is said of them:", soft_wrap=True)
    for name in own[:_ROWS_MAX]:
        console.print(f"    {name}: line {', '.join(map(str, rows[name]))}", markup=False, soft_wrap=True)
    if len(own) > _ROWS_MAX:
        console.print(f"    and {len(own) - _ROWS_MAX} more files")
    if shipped:
        count = sum(len(rows[name]) for name in shipped)
        console.print(
            f"    {count} in {len(shipped)} files that are as they ship (most are off until data say so)",
            soft_wrap=True,
        )


def _is_shipped(path: Path, name: str) -> bool:
    shipped = LIBRARY / name
    return shipped.is_file() and shipped.read_bytes() == path.read_bytes()


def _show_findings(console: Console, options: CheckOptions, findings: list[Finding]) -> None:
    for one in findings[:_ROWS_MAX]:  # a line each, whole: it may be a pipe that reads them
        place = f"{options.policy / str(one.where)}: " if one.where else "no rule minds: "
        case = f"{one.cases} case{'s' if one.cases > 1 else ''}"
        spoiled = f"{one.field} {', '.join(one.changes)}"
        text = f"{place}{one.kind}: {spoiled}: {told(one.before)} -> {told(one.after)} ({case})"
        console.print(text, markup=False, soft_wrap=True)
    if len(findings) > _ROWS_MAX:
        console.print(f"and {len(findings) - _ROWS_MAX} more (--json)")
    for kind in dict.fromkeys(one.kind for one in findings):
        console.print(f"{kind}: {judging.TEXTS[kind]}", markup=False, soft_wrap=True)
    shortest = min(findings, key=lambda one: len(json.dumps(one.question)))
    console.print(
        f"\nthe smallest example ({shortest.kind}: {shortest.field}, {shortest.changes[0]}); try it with",
        soft_wrap=True,
    )
    console.print(f"affidavit policy try --policy {options.policy} --input -", markup=False, soft_wrap=True)
    console.print(json.dumps(shortest.question), markup=False, soft_wrap=True)


def told(answer: Any) -> str:
    """A decision in a word or two."""
    if not isinstance(answer, dict) or "allow" not in answer:
        return "no decision"
    if answer["allow"] is not True:
        reasons = answer.get("reasons")
        return f"denied: {', '.join(map(str, reasons))}" if isinstance(reasons, list) and reasons else "denied"
    return "held" if answer.get("approval") else "allowed"
