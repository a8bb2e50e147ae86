"""Laws: arbitrary JSON never becomes an allow unless it is exactly one, and every question is of the published shape."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import PolicyUndefined
from ext_proc.model import (
    ApprovalTerms,
    Call,
    Connection,
    ExchangeId,
    Identity,
    Inspection,
    PolicyVersion,
    RedactionRule,
    Source,
)
from ext_proc.policy.decision import read_decision
from ext_proc.policy.field_rules import parse_path
from ext_proc.policy.question import question
from tests.fakes.policy import ROOT

VERSION = PolicyVersion("sha256:ab", "cd")
SCHEMAS = {
    name: json.loads((ROOT / "opa" / "schemas" / f"{name}.json").read_text()) for name in ("question", "decision")
}
IS_QUESTION = jsonschema.Draft7Validator(SCHEMAS["question"])
IS_DECISION = jsonschema.Draft7Validator(SCHEMAS["decision"])

texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
actions = ["mask", "hash", "drop", "partial", "block", "allow"]
entities = st.just("*") | st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
steps = st.sampled_from([".b", "..c", ".*", "[0]", "[*]", "['x-y']", "..['x y']"])
paths = st.lists(steps, max_size=3).map(lambda some: "$.a" + "".join(some))
fields = st.fixed_dictionaries(
    {"path": paths, "action": st.sampled_from(["mask", "hash", "drop", "partial", "block", "include", "exclude"])},
    optional={"name": st.sampled_from(["CASE", "BIRTH_DATE"])},
)


def rules(*more: str) -> Any:
    """Lines of one direction."""
    line = st.fixed_dictionaries({"entity": entities, "action": st.sampled_from([*actions, *more])})
    return st.lists(line | fields, max_size=4, unique_by=lambda rule: rule.get("entity", id(rule)))


counts = st.integers(min_value=1, max_value=10**6)
decisions = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "reasons": st.lists(st.from_regex(r"[a-z][a-z0-9_.-]{0,12}", fullmatch=True), max_size=4),
        "redact": st.fixed_dictionaries(
            {"request": rules("tokenise"), "response": rules()}, optional={"restore": st.lists(entities, max_size=3)}
        ),
        "approval": st.none()
        | st.fixed_dictionaries(
            {
                "groups": st.lists(names, min_size=1, max_size=3),
                "count": st.integers(min_value=1, max_value=16),
                "valid_seconds": counts,
                "within_seconds": counts,
                "reason": texts,
            },
            optional={"clear_to": st.lists(names, min_size=1, max_size=3)},
        ),
        "record": st.fixed_dictionaries({"payloads": st.booleans()}),
    }
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += _places(inner, (*path, name))
    return found


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A decision with one place dropped, replaced or added to."""
    whole = {"decision": copy.deepcopy(draw(decisions))}
    path = draw(st.sampled_from(_places(whole)[1:]))
    target: Any = whole
    for name in path[:-1]:
        target = target[name]
    how = draw(st.sampled_from(["drop", "replace", "add"]))
    if how == "drop":
        del target[path[-1]]
    elif how == "replace" or not isinstance(target[path[-1]], dict):
        target[path[-1]] = draw(anything)
    else:
        target[path[-1]][draw(texts)] = draw(anything)
    return whole.get("decision")


def _is_exactly_an_allow(answer: Any) -> bool:
    return IS_DECISION.is_valid(answer) and answer["allow"] is True


@given(anything | damaged())
def test_only_an_allow_allows(answer: Any) -> None:
    try:
        decision = read_decision(answer, "d-1", VERSION)
    except PolicyUndefined:
        return
    assert IS_DECISION.is_valid(answer)
    assert decision.allow == _is_exactly_an_allow(answer)


def written(line: dict[str, Any], rule: RedactionRule) -> dict[str, Any]:
    """A line again, from what was read of it; a path as it was, if it was read as it is."""
    if rule.field is None:
        return {"entity": rule.entity, "action": rule.action.value}
    said: dict[str, Any] = {"path": line["path"], "action": rule.field.action.value}
    assert rule.field.steps == parse_path(line["path"])[0]
    return {**said, "name": rule.field.entity} if "name" in line else said


@given(decisions)
def test_every_decision_is_read_as_it_is(answer: Any) -> None:
    assert IS_DECISION.is_valid(answer)
    if answer["allow"] and answer["reasons"]:
        with pytest.raises(PolicyUndefined, match="allow_with_reasons"):
            read_decision(answer, "d-1", VERSION)
        return
    decision = read_decision(copy.deepcopy(answer), "d-1", VERSION)
    as_read = {
        "allow": decision.allow,
        "reasons": list(decision.reasons),
        "redact": ({"restore": list(decision.restore)} if "restore" in answer["redact"] else {})
        | {
            way: [written(line, rule) for line, rule in zip(answer["redact"][way], lines, strict=True)]
            for way, lines in (("request", decision.redact_request), ("response", decision.redact_response))
        },
        "approval": None if decision.approval is None else terms_written(decision.approval),
        "record": {"payloads": decision.record_payloads},
    }
    assert as_read == answer


def terms_written(terms: ApprovalTerms) -> dict[str, Any]:
    """As the policy wrote them; what it may leave out is left out."""
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(terms).items()}
    return {name: value for name, value in told.items() if name != "clear_to" or value}


zones = st.integers(-12, 12).map(lambda hours: timezone(timedelta(hours=hours)))
calls = st.builds(
    Call,
    exchange_id=names.map(ExchangeId),
    connection=st.builds(
        Connection, names, st.just(()), st.none(), counts, counts, tags=st.lists(names, max_size=3).map(tuple)
    ),
    identity=st.builds(
        Identity,
        names,
        names,
        st.sampled_from(["oidc", "mtls"]),
        st.lists(texts, max_size=3).map(tuple),
        st.none() | texts,
        st.none() | texts,
    ),
    method=names,
    path=names,
    body_bytes=st.integers(0, 10**9),
    inspection=st.builds(
        Inspection,
        protocol=names,
        operation=names,
        model=st.none() | names,
        is_stream=st.booleans(),
        parameters=st.dictionaries(names, scalars, max_size=4),
        findings=st.dictionaries(names, st.integers(0, 10**6), max_size=4),
        text_bytes=st.integers(0, 10**9),
    ),
    source=st.builds(Source, texts, texts),
    received_at=st.datetimes(
        min_value=datetime(1970, 1, 3),  # noqa: DTZ001 - Hypothesis adds the zone
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - as above
        timezones=zones,
    ),
)


@given(calls)
def test_every_question_is_of_the_published_shape(call: Call) -> None:
    asked = question(call)
    IS_QUESTION.validate(asked)
    assert json.loads(json.dumps(asked)) == asked
    # A function of the call alone, and what is bound elsewhere does not travel.
    assert question(replace(call, inspection=replace(call.inspection, document="content"))) == asked
