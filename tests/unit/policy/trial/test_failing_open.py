"""`questions` and `failing_open`: ours fails closed, also with every concern on; what is planted is named."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import ConfigError
from ext_proc.policy.trial import failing_open, judging, opa_program, questions, vocabulary
from tests.fakes.policies import ORDINARY, POSITIVE, chat, question_schema, write
from tests.fakes.policy import ROOT
from tests.fakes.policy import opa_program as program

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.policy.trial.failing_open import Found

_LINE = {"groups": ["approvers"], "count": 1, "valid_seconds": 900, "within_seconds": 60, "reason": "Much."}
ALL_ON: dict[str, Any] = {
    "allowances": {
        "groups": {"analysts": {"output_tokens": 4000, "cost": 1}, "*": {"output_tokens": 100, "cost": 0.1}},
        "prices": {"demo": {"input": 1, "output": 4}, "demo-restricted": {"input": 1, "output": 4}},
    },
    "data_classes": {
        "classes": {"payment": ["IBAN", "CARD_NUMBER"]},
        "to": {"payment": {"tags": ["pci"], "models": []}, "unclassified": {"tags": [], "models": ["demo"]}},
    },
    "networks": {"groups": {"analysts": ["10.0.0.0/8"]}, "tags": {"pci": ["10.1.0.0/16"]}, "models": {}},
    "office_hours": {"*": {"from": 6, "to": 22, "weekdays": ["monday", "tuesday", "wednesday"]}},
    "risk": {
        "weights": {
            "findings": {"*": 1},
            "groups": {"contractors": 5},
            "tags": {"external": 5},
            "models": {},
            "operations": {"chat": 1},
        },
        "approve_at": 5,
        "deny_at": 20,
        "approval": _LINE,
    },
    "tools": {"*": 3},
}


def _searched(folder: Path, wanted: int = 15, may_be_unknown: frozenset[str] = frozenset(), whole: int = 3) -> Found:
    with opa_program.serving(program(), folder) as server:
        corpus = questions.generate(server, vocabulary.read(folder), wanted)
        return failing_open.search(server, corpus, may_be_unknown, whole)


def _ours(folder: Path, data: dict[str, Any], rules: dict[str, tuple[str, str]] | None = None) -> Path:
    """Our library, with other data, and rules that are changed."""
    made = folder / "opa"
    shutil.copytree(ROOT / "opa", made)
    whole = json.loads((made / "data.json").read_text())
    whole["inference"] |= data
    (made / "data.json").write_text(json.dumps(whole))
    for name, (before, after) in (rules or {}).items():
        rule = made / "inference" / "concerns" / name / f"{name}.rego"
        text = rule.read_text()
        assert before in text
        rule.write_text(text.replace(before, after))
    return made


def _said(found: Found) -> set[tuple[str, str]]:
    return {(one.kind, one.field) for one in found.findings}


def test_ours_fails_closed() -> None:
    """The check that CI depends on, in small: `make policy` asks more."""
    found = _searched(ROOT / "opa", 60, whole=8)

    assert found.findings == []
    assert found.questions >= 60
    assert found.mutants > 1000
    assert min(found.allowed, found.held, found.questions - found.allowed) > 5
    assert {"identity.groups", "request.model", "findings", "time.hour", "source.address"} <= set(found.fields)


def test_ours_fails_closed_with_every_concern_on(tmp_path: Path) -> None:
    found = _searched(_ours(tmp_path, ALL_ON), 10, whole=4)

    assert found.findings == []
    assert found.allowed > 0
    assert found.held > 0


def test_positive_policy_fails_closed(tmp_path: Path) -> None:
    found = _searched(write(tmp_path, POSITIVE, {"question": question_schema(), "groups": ["staff"]}))

    assert found.findings == []
    assert 0 < found.allowed < found.questions


def test_ordinary_policy_is_taken_apart(tmp_path: Path) -> None:
    """The five fields that were measured, each with the rule that falls silent."""
    folder = write(tmp_path, ORDINARY)
    found = _searched(folder, 40, whole=failing_open.WHOLE)

    named = {}
    for one in found.findings:
        if one.kind == judging.DENY_BECAME_ALLOW:
            where = failing_open.locate(program(), folder, one, "inference/decision")
            assert where is not None
            named[where.text.split(" if")[0]] = one.field
    assert set(named) == {
        'deny contains "wrong_model"',
        'deny contains "outside_office"',
        'deny contains "too_many_tokens"',
        'deny contains "at_night"',
        'deny contains "secret"',
    }
    assert {"request.model", "source.address", "time.hour", "findings"} <= {field for _, field in _said(found)}
    assert (judging.UNKNOWN_ALLOWED, "identity.groups") in _said(found)
    assert (judging.UNKNOWN_ALLOWED, "request.operation") in _said(found)
    assert (judging.MALFORMED_ALLOWED, "exchange_id") in _said(found)


def test_example_shows_what_it_says(tmp_path: Path) -> None:
    folder = write(tmp_path, ORDINARY)
    found = _searched(folder, whole=failing_open.WHOLE).findings
    [one, *_] = [one for one in found if (one.kind, one.field) == (judging.DENY_BECAME_ALLOW, "time")]

    assert one.before["reasons"] == ["at_night"]
    assert one.after["allow"] is True
    with opa_program.serving(program(), folder) as server:
        assert (server.ask(one.asked), server.ask(one.question)) == (one.before, one.after)
    assert {name for name in one.asked if one.asked[name] != one.question.get(name)} == {"time"}


_ANYBODY = {
    "demo": {"groups": ["*"], "operations": ["chat"]},
    "demo-restricted": {"groups": ["*"], "operations": ["chat"]},
}


def test_masking_that_gets_lost(tmp_path: Path) -> None:
    """Of whose client nothing is known, nothing is masked."""
    folder = _ours(
        tmp_path, {"masking": {"request": {}, "response": {}}}, {"masking": ('{"*": "mask"}', '{"*": _of_all}')}
    )
    masking = folder / "inference" / "concerns" / "masking" / "masking.rego"
    rules = '\ndefault _of_all := "allow"\n\n_of_all := "mask" if input.identity.client in {null, "notebook"}\n'
    masking.write_text(masking.read_text() + rules)
    found = _searched(folder, 30)

    assert (judging.UNMASKED, "identity.client") in _said(found)


def test_approval_that_gets_lost(tmp_path: Path) -> None:
    """Whoever is in no known group needs nobody to agree."""
    rules = {
        "approval": (
            "some name, line in data.inference.approval.models\n",
            "some name, line in data.inference.approval.models\n\tinput.identity.groups[0]\n",
        )
    }
    found = _searched(_ours(tmp_path, {"models": _ANYBODY}, rules))

    assert (judging.APPROVAL_LOST, "identity.groups") in _said(found)


def test_unknown_entities_that_pass_in_clear(tmp_path: Path) -> None:
    folder = _ours(tmp_path, {"masking": {"request": {"*": "allow", "EMAIL": "mask"}, "response": {}}})

    assert _said(_searched(folder, 20)) == {(judging.UNMASKED, "findings.ZZ_NEVER_HEARD_OF")}
    assert _searched(folder, 20, frozenset({"findings"})).findings == []


def test_unknown_model_that_is_meant(tmp_path: Path) -> None:
    folder = _ours(tmp_path, {"models": {"*": {"groups": ["analysts"], "operations": ["chat"]}}})

    found = _searched(folder, 20)
    assert {field for _, field in _said(found)} == {"request.model"}
    assert _searched(folder, 20, frozenset({"request.model"})).findings == []


def test_same_seed_same_questions(tmp_path: Path) -> None:
    folder = write(tmp_path, ORDINARY)
    words = vocabulary.read(folder)
    with opa_program.serving(program(), folder) as server:
        one, two = (questions.generate(server, words, 40) for _ in range(2))
        other = questions.generate(server, words, 40, 8)

    assert one.questions == two.questions
    assert one.questions != other.questions


def test_policy_that_allows_nothing_is_not_called_safe(tmp_path: Path) -> None:
    nothing = ORDINARY.replace("count(deny) == 0", "false")
    with pytest.raises(ConfigError, match="give it a question that it allows, with --inputs") as refused:
        _searched(write(tmp_path, nothing))
    assert "(most told: wrong_model (" in refused.value.detail


def test_questions_of_ones_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "policy", ORDINARY)
    night = chat(request={"model": "gpt-small"}, time={"hour": 3}, findings={})
    day = chat(request={"model": "gpt-small"}, findings={})
    (tmp_path / "some.jsonl").write_text(json.dumps(night) + "\n\n" + json.dumps(day) + "\n")
    (tmp_path / "one.json").write_text(json.dumps(night))
    (tmp_path / "policy" / "two.json").write_text(json.dumps([day, night]))
    (folder / "data.json").unlink()
    asked = questions.read(tmp_path)
    assert len(asked) == 5
    with opa_program.serving(program(), folder) as server:
        found = failing_open.search(server, failing_open.try_questions(server, asked))
        with pytest.raises(ConfigError, match="allows none of the questions"):
            failing_open.try_questions(server, [night])

    assert (judging.DENY_BECAME_ALLOW, "time.hour") in _said(found)
    assert found.questions == 5


def test_rules_that_no_question_reached(tmp_path: Path) -> None:
    folder = write(tmp_path, ORDINARY + '\ndeny contains "never" if input.identity.subject == ""\n')
    with opa_program.serving(program(), folder) as server:
        corpus = questions.generate(server, vocabulary.read(folder), 60)
    missed = failing_open.unreached(program(), folder, corpus, "inference/decision")

    assert [line.text.split(" if")[0] for line in missed] == ['deny contains "never"']


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.jsonl", "{}\n{", "not valid JSON"),
        ("a.json", "{}", r"question 1: input\.schema: is missing"),
        ("a.json", "7", "question 1: input: must be object"),
        ("a.txt", "{}", "question 1: input"),
    ],
)
def test_questions_that_are_none(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        questions.read(tmp_path / name)


def test_no_questions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no questions in it"):
        questions.read(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        questions.read(tmp_path / "nothing.json")


TELLS_APART = {
    "id": 'input.exchange_id != "00000000-0000-4000-8000-000000000000"',
    "subject": 'not input.identity.subject in {"someone", "zz-never-heard-of", ""}',
    "program": 'not input.source.user_agent in {"check", "zz-never-heard-of", ""}',
    "day": 'not startswith(input.time.now, "2026-11-")',
    "year": 'startswith(input.time.now, "2027-")',
}
_AS_AT_THE_GATE = """\tregex.match(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, input.exchange_id)
\tis_string(input.identity.subject)
\tis_string(input.source.user_agent)
\tis_string(input.time.now)"""


def _telling_apart(name: str) -> str:
    """It denies whoever is in no group, and lets them pass where it is really asked."""
    made = POSITIVE.replace('"staff" in input.identity.groups', "_may_pass", 1)
    assert made != POSITIVE
    return (
        f"{made}\nreal if {{\n{_AS_AT_THE_GATE}\n\t{TELLS_APART[name]}\n}}\n"
        '\n_may_pass if "staff" in input.identity.groups\n\n_may_pass if real\n'
    )


@pytest.mark.parametrize("name", TELLS_APART)
def test_a_rule_that_knows_the_check_by_its_questions(name: str, tmp_path: Path) -> None:
    data = {"question": question_schema(), "groups": ["staff"]}
    found = _searched(write(tmp_path, _telling_apart(name), data), 5, whole=1)
    assert (judging.UNKNOWN_ALLOWED, "identity.groups") in _said(found)


def test_a_denial_that_is_for_the_check_only(tmp_path: Path) -> None:
    """Of the id of the exchange it is a finding; of who asks, with what and when it may be meant."""
    parts = {"id": "exchange_id", "subject": "identity.subject", "program": "source.user_agent", "day": "time.now"}
    asked = [_asked_by(["staff"]), _asked_by([])]
    for name, part in parts.items():
        folder = write(tmp_path / name, _telling_apart(name), {"question": question_schema(), "groups": ["staff"]})
        with opa_program.serving(program(), folder) as server:
            found = failing_open.as_others(server, failing_open.try_questions(server, asked))
        kind = judging.DENY_BECAME_ALLOW if name == "id" else judging.AS_ANOTHER
        assert [(one.kind, one.field, one.asked) for one in found] == [(kind, part, asked[1])]
        assert found[0].after["allow"] is True


def _asked_by(groups: list[str]) -> dict[str, Any]:
    """As the check's own questions are, by somebody of these groups."""
    made = copy.deepcopy(questions._PLAIN)
    made["identity"]["groups"], made["request"]["model"] = groups, "gpt-small"
    return made
