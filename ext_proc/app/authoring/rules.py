"""The command ``affidavit rules test``: tries a pack of redaction rules before a gateway runs with it."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from time import process_time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from ext_proc.app.exchange.rule_packs import read_pack
from ext_proc.errors import ConfigError
from ext_proc.redaction import packs
from ext_proc.redaction.detect import Detector
from ext_proc.redaction.rules import PACKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ext_proc.model import Span
    from ext_proc.redaction.packs import Pack, Problem
    from ext_proc.redaction.rule import Rule

FOUND_NOTHING_WRONG, SAMPLE_FAILED, REFUSED = 0, 1, 2
_PROSE: Final = (
    "We looked at the numbers again, and they seem fine to me. Could you send the short version to the team? "
)
_SECONDS: Final = 0.3
"""CPU time that each speed is measured for: enough for two digits."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that did not do as it says: ``found`` is what its rule found, ``why`` where it found nothing."""

    rule: str
    text: str
    wanted: str | None
    found: tuple[str, ...]
    why: str = ""


@dataclass(slots=True)
class Tried:
    """What came of it."""

    names: tuple[str, ...]
    rules: int
    samples: int
    failures: list[Failure] = field(default_factory=list)
    without_samples: list[str] = field(default_factory=list)
    prose_mb_per_second: float = 0.0
    samples_mb_per_second: float = 0.0
    spans: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Did all samples do as they say?"""
        return not self.failures


def try_packs(several: Sequence[Pack], text: str = "") -> Tried:
    """Run packs on their own samples, and on ``text``."""
    rules = [rule for pack in several for rule in pack.rules]
    samples = [sample for pack in several for sample in pack.samples]
    by_id = {rule.id: rule for rule in rules}
    detector = Detector(rules)
    tried = Tried(tuple(pack.name for pack in several), len(rules), len(samples))
    for sample in samples:
        spans = detector.apart(sample.text, sample.key)
        found = tuple(sample.text[span.start : span.end] for span in spans if span.rule == sample.rule)
        if found if sample.found is None else sample.found not in found:
            why = "" if found else _why(by_id[sample.rule], detector.headed(sample.key) + sample.text)
            tried.failures.append(Failure(sample.rule, sample.text, sample.found, found, why))
    with_samples = {sample.rule for sample in samples}
    tried.without_samples = [rule.id for rule in rules if rule.id not in with_samples]
    tried.prose_mb_per_second = _speed(detector, [_PROSE * 10])
    tried.samples_mb_per_second = _speed(detector, [f"{_PROSE}{sample.text} " for sample in samples] or [_PROSE])
    tried.spans = [_told(text, span) for span in detector.scan(text)]
    return tried


def _why(rule: Rule, text: str) -> str:
    """What keeps a rule from finding anything in a text."""
    if re.search(rule.anchor, text, re.ASCII) is None:
        return "its anchor, or words, do not occur there"
    values = [match.group(1 if rule.pattern.groups else 0) for match in rule.pattern.finditer(text)]
    if not values:
        return "its pattern matches nothing there"
    if not any(rule.validator(value) for value in values):
        return f"its validator takes none of {values[:3]}"
    return "what its pattern matches is too far from its anchor: see `after`, and `before` where it begins before that"


def _told(text: str, span: Span) -> dict[str, Any]:
    value = text[span.start : span.end]
    return {"start": span.start, "end": span.end, "entity": span.entity, "rule": span.rule, "value": value}


def _speed(detector: Detector, texts: Iterable[str]) -> float:
    texts = list(texts)
    size = sum(len(text.encode(errors="replace")) for text in texts)
    detector.scan(texts[0])  # what is made at the first look is not its speed
    begin, rounds = process_time(), 0
    while (spent := process_time() - begin) < _SECONDS or not rounds:
        for text in texts:
            detector.scan(text)
        rounds += 1
    return size * rounds / max(spent, 1e-9) / 1e6


def run(path: Path | None, *, reads_stdin: bool, as_json: bool) -> int:
    """The command. Exit status: 0 as it says, 1 a sample failed, 2 refused."""
    try:
        text = sys.stdin.read() if reads_stdin else ""
        several = PACKS if path is None else (read_pack(path),)
    except packs.BadPack as bad:
        return _refused(str(path), bad.problems, as_json=as_json)
    except UnicodeDecodeError:
        problem = packs.Problem("text", "it is not UTF-8", "give it as UTF-8")
        return _refused("standard input", (problem,), as_json=as_json)
    except ConfigError as error:
        problem = packs.Problem("file", error.detail, "name a file that can be read")
        return _refused(str(path), (problem,), as_json=as_json)
    tried = try_packs(several, text)
    if as_json:
        print(json.dumps(_as_json(tried), ensure_ascii=False))
    else:
        _show(tried, has_text=reads_stdin)
    return FOUND_NOTHING_WRONG if tried.ok else SAMPLE_FAILED


def _as_json(tried: Tried) -> dict[str, Any]:
    failures = [
        {"rule": f.rule, "text": f.text, "wanted": f.wanted, "found": list(f.found), "why": f.why}
        for f in tried.failures
    ]
    return {
        "ok": tried.ok,
        "packs": list(tried.names),
        "rules": tried.rules,
        "samples": tried.samples,
        "failures": failures,
        "without_samples": tried.without_samples,
        "mb_per_second": {
            "prose": round(tried.prose_mb_per_second, 2),
            "samples": round(tried.samples_mb_per_second, 2),
        },
        "spans": tried.spans,
        "problems": [],
    }


def _refused(name: str, problems: Sequence[Problem], *, as_json: bool) -> int:
    if as_json:
        told = [{"where": one.where, "reason": one.reason, "remedy": one.remedy} for one in problems]
        print(json.dumps({"ok": False, "packs": [name], "problems": told}, ensure_ascii=False))
        return REFUSED
    print(f"{name} is refused:", file=sys.stderr)
    for one in problems:
        print(f"  {one.where}: {one.reason}\n      {one.remedy}", file=sys.stderr)
    return REFUSED


def _show(tried: Tried, *, has_text: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)  # a line is a line for whoever reads it by program
    for failure in tried.failures:
        wanted = "nothing" if failure.wanted is None else repr(failure.wanted)
        console.print(f"{failure.rule}: in {failure.text!r} wanted {wanted}, found {list(failure.found)}", markup=False)
        if failure.why:
            console.print(f"      {failure.why}", markup=False)
    if has_text:
        table = Table("start", "end", "entity", "rule", "value")
        for span in tried.spans:
            table.add_row(*(str(span[name]) for name in ("start", "end", "entity", "rule")), repr(span["value"]))
        console.print(table if tried.spans else "nothing is found in the text")
    if tried.without_samples:
        console.print(f"without samples (hits, misses): {', '.join(tried.without_samples)}", markup=False)
    right = tried.samples - len(tried.failures)
    rules = "1 rule" if tried.rules == 1 else f"{tried.rules} rules"
    console.print(
        f"{' and '.join(tried.names)}: {rules}, {right} of {tried.samples} samples as they say; "
        f"{tried.prose_mb_per_second:.0f} MB/s on prose, {tried.samples_mb_per_second:.1f} MB/s on samples"
    )
