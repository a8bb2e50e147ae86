"""What `policy check` found, for machines: JSON, JUnit (each field of the question is a test case), SARIF 2.1.0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from ext_proc import __version__
from ext_proc.policy.trial import judging

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.app.authoring.policy_check import Checked
    from ext_proc.policy.trial.failing_open import Finding
    from ext_proc.policy.trial.tracing import Line

_STATIC: Final = {
    "strict": "does not compile, or not strictly",
    "schema": "looks at a field that the question does not have",
    "layout": "not laid out as `opa fmt` does",
    "default_allow": "allows what no rule speaks of",
    "authz": "lets others do at OPA what only its operator may",
    "capabilities": "calls what answers differently each time, or the network",
}

LEFT_OUT: Final = "a call that is denied is allowed when the caller says nothing: no finding, but is it meant?"

AS_ANOTHER: Final = (
    "a call that is denied is allowed for another caller, or on another day: no finding, but is it meant?"
)


def as_json(policy: Path, checked: Checked) -> dict[str, Any]:
    """Everything."""
    found = checked.found
    return {
        "ok": checked.ok,
        "policy": str(policy),
        "problems": [
            {"code": one.code, "file": one.file, "row": one.row, "text": one.text, "remedy": one.remedy}
            for one in checked.problems
        ],
        "findings": [_finding(one) for one in found.findings] if found else None,
        "left_out": [_finding(one) for one in found.left_out] if found else [],
        "questions": found.questions if found else 0,
        "allowed": found.allowed if found else 0,
        "held": found.held if found else 0,
        "spoiled": found.mutants if found else 0,
        "fields": found.fields if found else [],
        "unreached": [_place(one) for one in found.unreached] if found else [],
        "decisions": checked.asked,
        "seconds": round(checked.seconds, 3),
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "text": judging.TEXTS.get(one.kind, AS_ANOTHER if one.kind == judging.AS_ANOTHER else LEFT_OUT),
        "field": one.field,
        "changes": one.changes,
        "cases": one.cases,
        "where": _place(one.where) if one.where else None,
        "before": one.before,
        "after": one.after,
        "asked": one.asked,
        "question": one.question,
    }


def _place(line: Line) -> dict[str, Any]:
    return {"file": line.file, "row": line.row, "text": line.text}


def junit(policy: Path, checked: Checked) -> str:
    """A suite of the sources and one of the fields, in the form that CI systems read."""
    root = ET.Element("testsuites", name=f"affidavit policy check {policy}")
    cases = [(code, [(one.text, f"{one.file}:{one.row}") for one in checked.problems if one.code == code])
             for code in _STATIC]  # fmt: skip
    _suite(root, "sources", cases)
    if checked.found is not None:
        _suite(
            root,
            "fields",
            [
                (
                    name,
                    [
                        (
                            f"{one.kind}: {', '.join(one.changes)}",
                            f"{judging.TEXTS[one.kind]}\n{json.dumps(one.question)}",
                        )
                        for one in checked.found.findings
                        if one.field == name
                    ],
                )
                for name in checked.found.fields
            ],
        )
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: ET.Element, name: str, cases: list[tuple[str, list[tuple[str, str]]]]) -> None:
    failed = sum(1 for _, failures in cases if failures)
    suite = ET.SubElement(root, "testsuite", name=name, tests=str(len(cases)), failures=str(failed))
    for case, failures in cases:
        element = ET.SubElement(suite, "testcase", classname=f"policy.{name}", name=case)
        for message, text in failures:
            ET.SubElement(element, "failure", message=message).text = text


def sarif(policy: Path, checked: Checked) -> str:
    """For code scanning: each with its file and line where they are known."""
    results = [_result(policy, one.code, one.text, one.file, one.row) for one in checked.problems]
    for one in checked.found.findings if checked.found else ():
        text = f"{judging.TEXTS[one.kind]}: {one.field}, {', '.join(one.changes)} ({one.cases} cases)"
        results.append(
            _result(policy, one.kind, text, one.where.file if one.where else "", one.where.row if one.where else 0)
        )
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in {**_STATIC, **judging.TEXTS}.items()]
    driver = {"name": "affidavit policy check", "version": __version__, "rules": rules}
    whole = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(whole, indent=2) + "\n"


def _result(policy: Path, rule: str, text: str, file: str, row: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": (policy / file).as_posix()}}
    if row:
        place["region"] = {"startLine": row}
    return {
        "ruleId": rule,
        "level": "error",
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }
