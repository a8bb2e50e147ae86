"""`ext_proc.telemetry`: names that alerts stand on, and a log of one JSON object a line."""

from __future__ import annotations

import json
import subprocess
import sys

from prometheus_client import REGISTRY

from ext_proc import telemetry
from ext_proc.model import Secret

NAMES = {
    "affidavit_exchange_seconds": ("connection",),
    "affidavit_streams_aborted": (),
    "affidavit_authentications": ("result",),
    "affidavit_decisions": ("result",),
    "affidavit_redaction_scanned_bytes": ("direction",),
    "affidavit_model_tokens": ("connection", "kind"),
    "affidavit_approvals": ("outcome",),
    "affidavit_hold_seconds": ("state",),
    "affidavit_jwks_fetches": ("issuer", "result"),
    "affidavit_evidence_commit_seconds": (),
    "affidavit_evidence_commit_records": (),
    "affidavit_evidence_ship_seconds": (),
    "affidavit_worker_restarts": ("role",),
    "affidavit_console_request_seconds": ("route", "status"),
    "affidavit_exchanges": ("connection", "outcome", "code"),
    "affidavit_step_seconds": ("step",),
    "affidavit_exchanges_in_flight": (),
    "affidavit_removals": ("direction", "entity"),
    "affidavit_evidence_unshipped_bytes": (),
    "affidavit_evidence_objects": (),
    "affidavit_evidence_failures": ("code",),
    "affidavit_worker_starts": ("role",),
}


def test_metric_names_and_labels() -> None:
    """Who renames one breaks somebody's alert. No label can hold what a caller says: subjects, models, paths."""
    ours = {
        one._name: one._labelnames  # type: ignore[attr-defined]
        for one in vars(telemetry).values()
        if hasattr(one, "_labelnames") and hasattr(one, "_documentation")
    }
    assert {name: ours[name] for name in NAMES} == NAMES
    labels = {label for names in ours.values() for label in names}
    assert labels.isdisjoint({"subject", "model", "path", "user", "group", "exchange", "tenant"})
    assert all(metric.documentation for metric in REGISTRY.collect() if metric.name.startswith("affidavit_"))


def _samples(name: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in REGISTRY.collect()
        if metric.name == name
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_what_was_counted_is_told() -> None:
    """A step on a bucket's edge belongs into it, as `Histogram.observe` has it; told twice, counted once."""
    telemetry.tell_metrics()
    before = _samples("affidavit_exchanges"), _samples("affidavit_exchanges_in_flight")
    for seconds in (0.0001, 0.0005, 0.3, 11.0):
        telemetry.step_took("TestTally", seconds)
        telemetry.STEP_SECONDS.labels("TestObserve").observe(seconds)
    for _ in range(3):
        telemetry.exchange_began()
    telemetry.exchange_ended("a", "completed", "", 0.2)
    telemetry.exchange_ended("a", "refused", "denied", 0.2)
    assert _samples("affidavit_exchanges") == before[0], "not before it is told"
    telemetry.tell_metrics()
    telemetry.tell_metrics()

    steps = _samples("affidavit_step_seconds")
    told = {key: value for key, value in steps.items() if "TestTally" in key}
    observed = {
        tuple("TestTally" if k == "TestObserve" else k for k in key): steps[key]
        for key in steps
        if "TestObserve" in key
    }
    assert told == observed and sum(told.values()) > 4
    ended = _samples("affidavit_exchanges")
    for labels in (("a", "completed", ""), ("a", "refused", "denied")):
        key = ("affidavit_exchanges_total", *labels)
        assert ended[key] == before[0].get(key, 0) + 1
    [(key, in_flight)] = _samples("affidavit_exchanges_in_flight").items()
    assert in_flight == before[1].get(key, 0) + 1


def _logged(code: str) -> list[dict[str, object]]:
    """Standard error of a process that logs; nothing may be on standard output, which is for answers."""
    program = f"from ext_proc import telemetry\ntelemetry.set_up_logging()\nlog = telemetry.logger()\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_log_lines_are_json_with_level_and_time() -> None:
    first, second = _logged("log.info('exchange', code=None)\nlog.error('stream failed', exchange='a')")
    assert (first["event"], first["level"], first["code"]) == ("exchange", "info", None)
    assert str(first["timestamp"]).endswith("Z")
    assert (second["level"], second["exchange"]) == ("error", "a")


def test_traceback_is_one_line() -> None:
    [line] = _logged("try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('bug')")
    assert "ZeroDivisionError" in str(line["exception"])


def test_line_breaks_of_a_value_do_not_forge_a_line() -> None:
    [line] = _logged("log.info('event', detail='a\\n{\"event\": \"forged\"}')")
    assert line["event"] == "event"


def test_secret_in_a_log_call_is_not_shown() -> None:
    [line] = _logged("from ext_proc.model import Secret\nlog.info('event', token=Secret('sk-planted'))")
    assert "sk-planted" not in json.dumps(line)
    assert repr(Secret("")) in str(line["token"])
