"""`schema`: the same verdict as a whole implementation of JSON Schema, on questions that are right and spoiled."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from ext_proc.policy.trial.mutations import mutants
from ext_proc.policy.trial.schema import problems, question_schema
from tests.fakes.policies import CHAT, chat
from tests.fakes.policy import ROOT

SAMPLES = sorted((ROOT / "opa" / "samples").glob("*.json"))


def _is_whole(question: Any) -> bool:
    return next(problems(question_schema(), question), None) is None


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_whole(path: Any) -> None:
    assert _is_whole(json.loads(path.read_text()))


def test_as_jsonschema_says() -> None:
    independent = jsonschema.Draft7Validator(question_schema())
    asked = chat(findings={"EMAIL": 2, "IBAN": 1}, connection={"tags": ["a"]})
    seen = {True: 0, False: 0}

    for mutant in mutants(asked):
        question = mutant.of(asked)
        whole = independent.is_valid(question)
        seen[whole] += 1
        assert _is_whole(question) == whole == (not mutant.is_malformed), (mutant.path, mutant.change)
    assert seen[True] > 20
    assert seen[False] > 200


def test_problems_name_the_place() -> None:
    wrong = {**CHAT, "identity": {**CHAT["identity"], "method": "magic", "more": 1}}
    del wrong["time"]

    assert list(problems(question_schema(), wrong)) == [
        "input.time: is missing",
        'input.identity.method: must be one of "oidc", "mtls"',
        "input.identity.more: is no field of the question",
    ]


@pytest.mark.parametrize("value", [None, [], "x", 7, True])
def test_no_object(value: Any) -> None:
    assert list(problems(question_schema(), value)) == ["input: must be object"]


@pytest.mark.parametrize("betas", [["a"] * 17, [""], [1]])
def test_limits_of_lists(betas: list[Any]) -> None:
    assert not _is_whole(chat(request={"betas": betas}))
