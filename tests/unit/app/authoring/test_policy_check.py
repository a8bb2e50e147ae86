"""`affidavit policy check`: what it prints for people and machines, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from ext_proc.app.authoring import policy_check
from ext_proc.cli import main
from ext_proc.policy.trial import judging
from tests.fakes.policies import ORDINARY, POSITIVE, chat, question_schema, write
from tests.fakes.policy import ROOT

if TYPE_CHECKING:
    from pathlib import Path

Said = pytest.CaptureFixture[str]


@pytest.fixture
def ordinary(tmp_path: Path) -> Path:
    return write(tmp_path / "ordinary", ORDINARY)


@pytest.fixture
def positive(tmp_path: Path) -> Path:
    return write(tmp_path / "positive", POSITIVE, {"question": question_schema(), "groups": ["staff"]})


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Two questions are enough for what is printed: `questions` has tests of its own."""
    path = tmp_path / "asked.json"
    day = chat(request={"model": "gpt-small"}, findings={}, identity={"groups": ["staff"]})
    path.write_text(json.dumps([day, {**day, "time": {**day["time"], "hour": 3}}]))
    return path


def _check(*arguments: str | Path) -> int:
    return main(["policy", "check", *map(str, arguments)])


def test_clean(positive: Path, asked: Path, capsys: Said) -> None:
    assert _check(positive, "--inputs", asked) == 0
    said = capsys.readouterr()
    assert "0 problems in the sources, fails open in 0 ways; 2 questions (2 allowed, 0 of them held)" in said.out
    assert re.search(r"[1-9]\d* decisions, \d+/s", said.out)
    assert said.err == ""


def test_findings_for_people(ordinary: Path, asked: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # as in CI
    assert _check(ordinary, "--inputs", asked) == 1
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if "time.hour" in line and "deny_became_allow" in line)
    rule = next(number for number, line in enumerate(ORDINARY.splitlines(), 1) if "at_night" in line)
    assert "denied: at_night" in row
    assert f"policy.rego:{rule}" in row
    assert f"affidavit policy try --policy {ordinary} --input -" in said
    example = next(line for line in said.splitlines() if line.startswith("{"))
    json.loads(example)


def test_smallest_example_can_be_tried(
    ordinary: Path, asked: Path, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check(ordinary, "--inputs", asked)
    example = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    (tmp_path / "example.json").write_text(example)
    assert main(["policy", "try", "--policy", str(ordinary), "--input", str(tmp_path / "example.json")]) == 0
    assert capsys.readouterr().out.startswith("allowed\n")


def test_for_machines(ordinary: Path, asked: Path, capsys: Said) -> None:
    assert _check(ordinary, "--inputs", asked, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    [hour] = [one for one in told["findings"] if (one["kind"], one["field"]) == ("deny_became_allow", "time.hour")]
    assert (told["ok"], told["questions"], told["allowed"]) == (False, 2, 1)
    assert hour["where"]["text"].startswith('deny contains "at_night"')
    assert hour["before"]["reasons"] == ["at_night"]
    assert hour["after"]["allow"] is True
    assert "left out" in hour["changes"]
    assert told["decisions"] > told["spoiled"] > 100


def test_reports(ordinary: Path, asked: Path, tmp_path: Path, capsys: Said) -> None:
    junit, sarif = tmp_path / "report.xml", tmp_path / "report.sarif"
    assert _check(ordinary, "--inputs", asked, "--junit", junit, "--sarif", sarif) == 1

    fields = ET.fromstring(junit.read_text()).find("testsuite[@name='fields']")
    assert fields is not None
    failed = {case.get("name") for case in fields if case.find("failure") is not None}
    assert {"time.hour", "identity.groups"} <= failed
    assert int(fields.get("failures", "0")) == len(failed)
    assert int(fields.get("tests", "0")) == len(fields) > len(failed)  # request.stream, for one, is not asked about
    run = json.loads(sarif.read_text())["runs"][0]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert set(judging.TEXTS) <= rules
    assert {result["ruleId"] for result in run["results"]} <= rules
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert all(place["artifactLocation"]["uri"].startswith(ordinary.as_posix()) for place in places)
    assert any(place.get("region", {}).get("startLine") for place in places)


def test_reports_of_what_is_clean(positive: Path, asked: Path, tmp_path: Path) -> None:
    junit, sarif = tmp_path / "report.xml", tmp_path / "report.sarif"
    assert _check(positive, "--inputs", asked, "--junit", junit, "--sarif", sarif) == 0
    assert ET.fromstring(junit.read_text()).findall(".//failure") == []
    assert json.loads(sarif.read_text())["runs"][0]["results"] == []


def test_what_does_not_compile(tmp_path: Path, capsys: Said) -> None:
    folder = write(tmp_path, "package inference\n\ndecision := nothing\n")
    junit = tmp_path / "report.xml"
    assert _check(folder, "--junit", junit) == 1
    said = capsys.readouterr().out
    assert f"{folder}/policy.rego:3: " in said
    assert "does not compile: whether it fails open was not looked at" in said
    assert ET.fromstring(junit.read_text()).find(".//testcase[@name='strict']/failure") is not None


def test_clock_is_a_problem_and_the_rest_is_looked_at(positive: Path, asked: Path, capsys: Said) -> None:
    rule = positive / "policy.rego"
    rule.write_text(rule.read_text() + "\nnow := time.now_ns()\n")
    assert _check(positive, "--inputs", asked) == 1
    said = capsys.readouterr().out
    assert "undefined function time.now_ns (capabilities)\n    the question has the time: input.time" in said
    assert "1 problems in the sources, fails open in 0 ways" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such folder"),
        ([str(ROOT / "docs")], "no .rego file in it"),
        ([str(ROOT / "opa"), "--opa", "/nowhere/opa"], "/nowhere/opa: no OPA to run; name it with --opa"),
        ([str(ROOT / "opa"), "--inputs", "/nowhere/questions"], "/nowhere/questions: No such file"),
    ],
)
def test_could_not_run(arguments: list[str], said: str, capsys: Said) -> None:
    assert _check(*arguments) == 2
    assert said in capsys.readouterr().err


def test_rules_that_no_question_reached_are_ones_own_first(
    tmp_path: Path, asked: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is as it ships is counted, not listed."""
    folder = write(tmp_path / "policy", ORDINARY + '\ndeny contains "never" if input.identity.subject == ""\n')
    (tmp_path / "library").mkdir()
    shutil.copy(folder / "policy.rego", tmp_path / "library")
    _check(folder, "--inputs", asked)
    row = 1 + (folder / "policy.rego").read_text().splitlines().index(
        'deny contains "never" if input.identity.subject == ""'
    )
    assert re.search(rf"no question reached.*\n    policy\.rego: line .*\b{row}\n", capsys.readouterr().out)
    monkeypatch.setattr(policy_check, "LIBRARY", tmp_path / "library")
    _check(folder, "--inputs", asked)
    said = capsys.readouterr().out
    assert "policy.rego: line" not in said
    assert re.search(r"\d in 1 files that are as they ship", said)


def test_what_a_caller_may_leave_out_is_asked_about(ordinary: Path, tmp_path: Path, capsys: Said) -> None:
    """Exit status 1 here is for other reasons."""
    few = chat(request={"model": "gpt-small"}, findings={}, identity={"groups": ["staff"]})
    many = chat(request={"model": "gpt-small", "parameters": {"max_tokens": 1001}}, findings={})
    path = tmp_path / "many.json"
    path.write_text(json.dumps([few, many]))
    _check(ordinary, "--inputs", path)
    said = capsys.readouterr().out
    assert "denied: too_many_tokens (policy.rego:" in said
    assert "allowed if the caller leaves out request.parameters.max_tokens. Is that meant?" in said


def test_report_that_cannot_be_written(positive: Path, asked: Path, tmp_path: Path, capsys: Said) -> None:
    assert _check(positive, "--inputs", asked, "--sarif", tmp_path / "no" / "report.sarif") == 2
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--any", "time.hour"], ["--questions", "0"], []])
def test_wrong_arguments(arguments: list[str], capsys: Said) -> None:
    assert (_check("opa", *arguments) if arguments else _check()) == 2
    assert "usage: affidavit policy check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "no decision"),
        ("yes", "no decision"),
        ({"allow": False}, "denied"),
        ({"allow": 1}, "denied"),
        ({"allow": False, "reasons": ["a", "b"]}, "denied: a, b"),
        ({"allow": True, "approval": None}, "allowed"),
        ({"allow": True, "approval": {"count": 1}}, "held"),
    ],
)
def test_told(answer: Any, said: str) -> None:
    assert policy_check.told(answer) == said
