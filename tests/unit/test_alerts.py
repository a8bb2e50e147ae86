"""The alerts and the dashboard: what they name is there, each alert has its page of the runbook, promtool agrees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc import telemetry
from ext_proc.app.serving.standing import Standing
from tests.fakes.configured import a_config
from tests.needed import absent

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "helm" / "affidavit" / "files"
SERIES = re.compile(r"\baffidavit_[a-z0-9_]+\b")
SCRAPED = {"job", "instance", "namespace", "pod"}
"""Labels that Prometheus itself puts on, the last two in Kubernetes only."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known() -> dict[str, set[str]]:
    """Every series that the gate can have, with its labels."""
    counted = telemetry.envoy_counters(dict.fromkeys(telemetry.ENVOY_EVENTS, 0.0))
    found = {one.name: set(one.labels) for one in counted.samples}
    for one in vars(telemetry).values():
        if isinstance(one, telemetry.Reading):
            found[one.name] = set(one.labels)
        elif hasattr(one, "_labelnames") and hasattr(one, "_documentation"):
            for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(one._type, ("",)):
                found[f"{one._name}{suffix}"] = {*one._labelnames, *(("le",) if suffix == "_bucket" else ())}
    return found


def expressions() -> list[tuple[str, str]]:
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    shown = [(panel["title"], one["expr"]) for panel in panels for one in panel.get("targets", ())]
    return [(rule["alert"], rule["expr"]) for rule in rules()] + shown


def test_what_is_named_is_there() -> None:
    named = {(where, name) for where, text in expressions() for name in SERIES.findall(text)}
    assert len({where for where, _ in named}) > 40
    assert sorted((where, name) for where, name in named if name not in known()) == []


def test_labels_that_are_named_are_there() -> None:
    """A misspelt label matches nothing, and is silent for ever."""
    for where, text in expressions():
        for name, inside in re.findall(r"\b(affidavit_\w+)\{([^}]*)\}", text):
            for label in re.findall(r"(\w+)\s*[=!]", inside):
                assert label in known()[name] | SCRAPED, f"{where}: {name} has no label {label}"
        own = {label for name in SERIES.findall(text) for label in known().get(name, set())}
        for inside in re.findall(r"by \(([^)]*)\)", text):
            for label in (one.strip() for one in inside.split(",")):
                assert label in own | SCRAPED | {"alertname"}, f"{where}: nothing has a label {label}"


def test_every_part_that_an_alert_names_is_one(tmp_path: Path) -> None:
    config, _ = a_config(tmp_path)
    parts = set(Standing.of(config, {}, 0.0).parts)
    assert all(part in telemetry.PART_READY.says for part in parts)
    named = {part for rule in rules() for part in re.findall(r'part="(\w+)"', rule["expr"])}
    assert named and named <= parts


def test_every_metric_is_shown() -> None:
    shown = {name for _, text in expressions() for name in SERIES.findall(text)}
    families = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in shown}
    missing = {
        re.sub(r"_(total|bucket|count|sum)$", "", name) for name in known()
    } - families - {"affidavit_worker_starts", "affidavit_evidence_unshipped_bytes"}  # fmt: skip
    assert missing == set()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"} and all(notes.values())
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^## (\w+)$", (REPOSITORY / page).read_text(), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert anchor in {heading.lower() for heading in headings}


def test_no_page_of_the_runbook_is_of_no_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (REPOSITORY / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    text = (REPOSITORY / "docs" / "runbook.md").read_text()
    assert set(re.findall(r"\(#(\w+)\)", text)) <= {heading.lower() for heading in headings}


def test_the_dashboard_is_up_to_date() -> None:
    command = [sys.executable, REPOSITORY / "scripts" / "make_dashboard.py", "--check"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def _promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        absent("promtool (Debian's package prometheus)")
    return subprocess.run([program, *arguments], cwd=folder, check=False, timeout=120, capture_output=True, text=True)


def test_promtool_reads_the_rules() -> None:
    done = _promtool("check", "rules", "alerts.yaml", folder=FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_each_alert_fires_and_is_silent_as_promtool_has_it(tmp_path: Path) -> None:
    shutil.copy(FILES / "alerts.yaml", tmp_path)
    vectors = (REPOSITORY / "tests" / "vectors" / "alerts_test.yaml").read_text()
    (tmp_path / "alerts_test.yaml").write_text(vectors)
    done = _promtool("test", "rules", "alerts_test.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [broken] = [one for one in yaml.safe_load(vectors)["tests"] if one["name"] == "everything is broken"]
    expected = {re.findall(r'"(\w+)"', one["labels"])[0] for one in broken["promql_expr_test"][0]["exp_samples"]}
    assert expected == {rule["alert"] for rule in rules()}
