"""``affidavit policy backtest``: what would a candidate have said to what callers really asked?

Each recorded question of a span is asked of the candidate, in two processes of OPA without a network, and its answer is
held against the recorded one: not against what the policy would say today.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ext_proc.app.authoring.backtest_page import page
from ext_proc.app.authoring.rerun import put_on_record, span_of
from ext_proc.app.commands import save
from ext_proc.evidence.questions import leaf_count, recorded
from ext_proc.evidence.visible import visible
from ext_proc.policy import bundle as bundles
from ext_proc.policy.again import Asker, Failed
from ext_proc.policy.differing import EFFECTS, differences, effects
from ext_proc.policy.question import NotAskedError, read_asked
from ext_proc.policy.trial.opa_program import find_opa

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.questions import Recorded
    from ext_proc.evidence.versions import VersionedStore
    from ext_proc.model import PolicyVersion
    from ext_proc.policy.question import Asked

LOT: Final = 1000
AT_ONCE: Final = 2
EXAMPLES_MAX: Final = 20
CHANGED_MAX: Final = 100_000
"""So many are listed one by one; the counts are always complete."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An exchange that the candidate would have answered otherwise. No content, and nobody's name."""

    exchange_id: str
    at: str
    connection: str
    model: str
    effects: tuple[str, ...]
    reasons_before: tuple[str, ...]
    reasons_now: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """What came of it. ``unread`` counts by state those whose question cannot be read (erased, none kept, damaged)."""

    candidate: PolicyVersion
    decisions: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    by_model: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    changed: list[Changed] = field(default_factory=list)
    changed_count: int = 0
    seconds: float = 0.0

    def take(self, one: Recorded, question: Asked, answer: Any) -> None:
        """One answer of the candidate."""
        self.decisions += 1
        now = None if isinstance(answer, Failed) else answer
        found = effects(question.result, now, question.input.get("findings") or ())
        if not found:
            return
        self.changed_count += 1
        made = _changed(one, question, now, found)
        for name in found:
            self.counts[name] += 1
            self.by_model[name, made.connection, made.model] += 1
        if len(self.changed) < CHANGED_MAX:
            self.changed.append(made)

    def examples(self, effect: str, limit: int = EXAMPLES_MAX) -> list[Changed]:
        """Some that have this effect, the first ones."""
        return list(islice((one for one in self.changed if effect in one.effects), limit))

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "candidate": {"revision": self.candidate.revision, "digest": self.candidate.digest},
            "decisions": self.decisions,
            "unread": dict(self.unread),
            "counts": {name: self.counts[name] for name in EFFECTS},
            "changed_count": self.changed_count,
            "changed": [asdict(one) for one in self.changed],
            "seconds": round(self.seconds, 3),
        }


def _changed(one: Recorded, question: Asked, now: Any, found: tuple[str, ...]) -> Changed:
    told = question.input
    connection, request = told.get("connection") or {}, told.get("request") or {}
    return Changed(
        one.exchange_id,
        str(one.leaf["at"]),
        str(connection.get("name")),
        str(request.get("model")),
        found,
        _reasons(question.result),
        _reasons(now),
        tuple(difference.field for difference in differences(question.result, now)),
    )


def _reasons(answer: Any) -> tuple[str, ...]:
    said = answer.get("reasons") if isinstance(answer, dict) else None
    return tuple(map(str, said)) if isinstance(said, list) else ()


def backtest(
    found: Iterable[Recorded], candidate: Asker, version: PolicyVersion, told: Callable[[int], None] = lambda _: None
) -> Report:
    """Ask the candidate everything.

    Args:
        found: recorded decisions, in any order.
        candidate: entered.
        version: its own.
        told: hears how many were answered so far.

    Raises:
        EvidenceError: the store cannot be read.
        ConfigError: OPA cannot be run.
    """
    report = Report(version)
    began = monotonic()
    waiting: deque[tuple[list[tuple[Recorded, Asked]], Future[list[Any]]]] = deque()

    def take() -> None:
        lot, future = waiting.popleft()
        for (one, question), answer in zip(lot, future.result(), strict=True):
            report.take(one, question, answer)
        told(report.decisions)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for lot in _lots(found, report):
                waiting.append((lot, pool.submit(candidate.ask_all, [question.text for _, question in lot])))
                if len(waiting) > 2 * AT_ONCE:
                    take()
            while waiting:
                take()
        finally:
            pool.shutdown(cancel_futures=True)
    report.seconds = monotonic() - began
    return report


def _lots(found: Iterable[Recorded], report: Report) -> Iterator[list[tuple[Recorded, Asked]]]:
    lot: list[tuple[Recorded, Asked]] = []
    for one in found:
        try:
            question = read_asked(one.body) if one.body is not None else None
        except NotAskedError:
            question, state = None, "damaged"
        else:
            state = one.state
        if question is None:
            report.unread[state] += 1
            continue
        lot.append((one, question))
        if len(lot) == LOT:
            yield lot
            lot = []
    if lot:
        yield lot


# The command -------------------------------------------------------------------------------------------------------


def run(
    store: VersionedStore,
    options: argparse.Namespace,
    decision: str,
    keyring: KeyRing,
    journal: Journal,
    console_url: str | None,
) -> int:
    """The command. Exit status: 0 the candidate says the same everywhere, 1 not, or nothing could be asked."""
    since, until = span_of(options)
    opa = find_opa(options.opa)
    with _bundle(opa, options.bundle) as (file, version), Asker(opa, file, decision) as candidate:
        put_on_record(journal, options.by, options.purpose, None, since, until)
        with _bar(leaf_count(store, since, until), is_quiet=options.json) as (read, told):
            found = recorded(store, keyring.opener(), since=since, until=until, progress=read)
            report = backtest(found, candidate, version, told)
    if options.html is not None:
        save(options.html, page(report, options.since, options.until, console_url))
    if options.json:
        print(json.dumps(report.to_json(), sort_keys=True))
    else:
        _show(report, options.html)
    return 0 if report.decisions and not report.changed_count else 1


@contextmanager
def _bundle(opa: Path, given: Path) -> Iterator[tuple[Path, PolicyVersion]]:
    """A bundle file as it is, or the bundle of a folder of sources."""
    if not given.is_dir():
        yield given, bundles.read_version(given)
        return
    with tempfile.TemporaryDirectory(prefix="affidavit-candidate-") as name:
        file = Path(name) / "bundle.tar.gz"
        yield file, bundles.build(opa, given, file)


@contextmanager
def _bar(total: int, *, is_quiet: bool) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """How many records are read, and how many decisions are made again."""
    console = Console(stderr=True)
    shown = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    with nullcontext() if is_quiet or not console.is_terminal else shown:
        task = shown.add_task("reading records", total=total)
        yield (
            lambda count: shown.update(task, completed=count),
            lambda count: shown.update(task, description=f"{count} decisions"),
        )


def _show(report: Report, html: Path | None) -> None:
    console = Console(highlight=False)
    table = Table("effect", "connection", "model", "calls", box=None)
    for (name, connection, model), count in _sorted(report):
        table.add_row(name, visible(connection), visible(model), str(count))
    if report.by_model:
        console.print(table)
    for name in EFFECTS:
        ids: Sequence[str] = [visible(one.exchange_id) for one in report.examples(name, 3)]
        if ids:
            console.print(f"{name}: affidavit records show {' | '.join(ids)}", markup=False, soft_wrap=True)
    unread = "".join(f", {count} {state}" for state, count in sorted(report.unread.items()))
    rate = report.decisions / report.seconds if report.seconds else 0
    console.print(
        f"{report.decisions} decisions, {report.changed_count} would differ{unread} ({rate:.0f}/s)", soft_wrap=True
    )
    if html is not None:
        console.print(f"written: {html}", markup=False)


def _sorted(report: Report) -> list[tuple[tuple[str, str, str], int]]:
    return sorted(report.by_model.items(), key=lambda one: (EFFECTS.index(one[0][0]), -one[1], one[0]))
