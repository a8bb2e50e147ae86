"""The commands ``affidavit policy try`` and ``policy explain``: one question, the decision, and how it came to it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from ext_proc.app.authoring.policy_check import told
from ext_proc.errors import ConfigError
from ext_proc.evidence.visible import visible
from ext_proc.policy.trial import judging, tracing
from ext_proc.policy.trial.defaults import DECISION
from ext_proc.policy.trial.opa_program import evaluate, find_opa, sources
from ext_proc.policy.trial.schema import problems, question_schema

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED, NOT_ALLOWED = 0, 1
_PAUSE_SECONDS: Final = 0.3
# Lists where there may be nothing: an object with one undefined value would be undefined altogether.
_QUERY: Final = """{
  "decision": [d | d := data.%s],
  "texts": [t | t := data.inference.reasons],
  "concerns": {name: {
    "allow": allow,
    "reasons": [r | some r in data.inference.concerns[name].reasons],
    "demands": [d | some d in data.inference.concerns[name].demands],
    "demand": [d | d := data.inference.concerns[name].demand; d != null]
  } | some name; allow := data.inference.concerns[name].allow}
}"""


def run(policy: Path, source: Path, opa: Path | None, decision: str = DECISION, *, as_json: bool, watch: bool) -> int:
    """Decide once, or again whenever a file changes. Exit status: 0 allowed (perhaps held first), 1 not."""
    if watch:
        return watched(
            [policy, source],
            lambda: _tell(policy, source, opa, decision, as_json=as_json),
            lambda: time.sleep(_PAUSE_SECONDS),
        )
    return _tell(policy, source, opa, decision, as_json=as_json)


def watched(paths: list[Path], again: Callable[[], int], pause: Callable[[], None]) -> int:
    """Do it, and again after each change, until Ctrl-C. What goes wrong meanwhile is said, and is being mended."""
    seen = None
    while True:
        now = _stamps(paths)
        if now != seen:
            seen = now
            try:
                again()
            except ConfigError as error:
                print(error.detail, file=sys.stderr, flush=True)
            print("waiting for changes …  (Ctrl-C ends)", flush=True)
        pause()


def _stamps(paths: list[Path]) -> dict[str, int]:
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else (path,))]
    stamps = {}
    for file in files:
        try:
            stamps[str(file)] = file.stat().st_mtime_ns
        except OSError:  # an editor that replaces the file just now
            continue
    return stamps


def _tell(policy: Path, source: Path, opa: Path | None, decision: str, *, as_json: bool) -> int:
    program, folder, question = find_opa(opa), sources(policy), read_question(source)
    said = evaluate(program, folder, question, _QUERY % decision.replace("/", "."), "--strict-builtin-errors")
    value = said["result"][0]["expressions"][0]["value"]
    answer = value["decision"][0] if value["decision"] else None
    texts = value["texts"][0] if value["texts"] else {}
    codes = answer.get("reasons", ()) if isinstance(answer, dict) else ()
    reasons = [{"code": code, "text": texts.get(code)} for code in codes]
    is_passed = judging.decision_of(answer) is not None
    if as_json:
        whole = {"allowed": is_passed, "decision": answer, "reasons": reasons, "concerns": _concerns(value)}
        print(json.dumps(whole, ensure_ascii=False), flush=True)
    else:
        _show(answer, reasons, _concerns(value), is_passed=is_passed)
    return ALLOWED if is_passed else NOT_ALLOWED


def _concerns(value: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"allow": one["allow"] is True, "reasons": one["reasons"], "demands": one["demands"] + one["demand"]}
        for name, one in sorted(value["concerns"].items())
    }


def read_question(source: Path) -> dict[str, Any]:
    """The question in a file, or on standard input (`-`). What the gate would not ask is said, and asked.

    Raises:
        ConfigError: it cannot be read, or is no JSON object.
    """
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text()
        question = json.loads(text)
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{source}: not valid JSON") from None
    if not isinstance(question, dict):
        raise ConfigError(f"{source}: not one question: a JSON object is wanted (docs/policy-input.md)")
    for wrong in problems(question_schema(), question):
        print(f"note: {wrong}: the gate never asks like this", file=sys.stderr)
    return question


def _show(answer: Any, reasons: list[dict[str, Any]], concerns: dict[str, Any], *, is_passed: bool) -> None:
    console = Console(highlight=False)
    if answer is None:
        console.print("no decision: the rule is undefined, and the gate answers 503")
    else:
        console.print(told(answer), style="bold", markup=False)
        if isinstance(answer, dict) and answer.get("allow") is True and not is_passed:
            console.print("not exactly a decision (opa/schemas/decision.json): the gate answers 503")
    for reason in reasons:
        console.print(
            f"  {reason['code']}: {reason['text'] or 'no text in data.inference.reasons'}", markup=False, soft_wrap=True
        )
    table = Table("concern", "says", "reasons", "people")
    for name, one in concerns.items():
        people = "; ".join(str(demand.get("reason", "")) for demand in one["demands"] if isinstance(demand, dict))
        table.add_row(name, "yes" if one["allow"] else "NO", ", ".join(map(str, one["reasons"])), people)
    if concerns:
        console.print(table)
    console.print(json.dumps(answer, indent=2, ensure_ascii=False), markup=False)


def explain(policy: Path, source: str, opa: Path | None, decision: str = DECISION, *, as_json: bool) -> int:
    """Which rules had a part in the answer to the question in a file, with their lines. Exit status: 0 allowed, 1 not.

    Raises:
        ConfigError: there is no such question, or no answer.
    """
    program, folder, question = find_opa(opa), sources(policy), read_question(Path(source))
    traced = tracing.trace(program, folder, question, decision)
    return show_traced(folder, traced, {}, as_json=as_json)


def show_traced(folder: Path, traced: tracing.Traced, recorded: dict[str, Any], *, as_json: bool) -> int:
    """Say it; to machines with ``recorded``, what there is to say of the record. Exit status: 0 allowed, 1 not."""
    lines = tracing.lines_of(folder, traced.covered)
    rules = [line for line in tracing.heads(folder) if line.place in traced.fired]
    if as_json:
        places = [[{"file": one.file, "row": one.row, "text": one.text} for one in some] for some in (rules, lines)]
        whole = {"decision": traced.answer, "rules": places[0], "lines": places[1], **recorded}
        print(json.dumps(whole, ensure_ascii=False))
    else:
        _show_lines(traced.answer, rules, lines)
    return ALLOWED if judging.decision_of(traced.answer) is not None else NOT_ALLOWED


def _show_lines(answer: Any, rules: list[tracing.Line], lines: list[tracing.Line]) -> None:
    console = Console(highlight=False)
    console.print(told(answer), style="bold", markup=False)
    fired = {rule.place for rule in rules}
    for file in dict.fromkeys(line.file for line in lines):
        console.print(f"\n{visible(file)}", style="bold", markup=False)
        for line in lines:
            if line.file == file:
                mark = ">" if line.place in fired else " "
                console.print(f"{mark}{line.row:5} {visible(line.text.expandtabs(4))}", markup=False, soft_wrap=True)
    console.print(f"\n{len(rules)} rules gave a value (>), {len(lines)} lines were looked at")
