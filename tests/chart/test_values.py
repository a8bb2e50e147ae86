"""Every value of the schema: a right one renders into what Kubernetes takes, a wrong one is refused by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chart.generating import BASE, SCHEMA, VALIDATOR, Leaf, leaves, put, right, wrong
from tests.chart.rendering import VERSIONS, Refused, misfits, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import ValidationError

LEAVES = sorted(leaves(), key=lambda one: str(one.path))
CHUNK = 24
CHUNKS = [LEAVES[number :: -(-len(LEAVES) // CHUNK)] for number in range(-(-len(LEAVES) // CHUNK))]
SLOW = settings(max_examples=2, suppress_health_check=list(HealthCheck), database=None)


def test_schema_is_walked_whole() -> None:
    assert len(LEAVES) > 280
    assert sum(len(one) for one in CHUNKS) == len(LEAVES) == len({one.path for one in LEAVES})
    assert set(SCHEMA["properties"]) == {one.path[0] for one in LEAVES}
    assert VALIDATOR.is_valid(BASE)
    assert misfits(rendered(BASE), VERSIONS[-1]) == []


def _sentence(refused: Refused) -> str:
    """What the chart said: a sentence of its own, or its schema's word. Anything else is a template that broke."""
    said = str(refused)
    if found := re.search(r"execution error at \([^)]*\):\s*\n\n(.+)\n", said):
        return found[1]
    assert "values don't meet the specifications of the schema" in said, said
    return said


def _is_named(leaf: Leaf, sentence: str) -> bool:
    """By its whole name, or by that of what it is in, or by its own."""
    at = f"/{'/'.join(str(one) for one in leaf.path)}"
    parts = leaf.dotted.split(".")
    above = {".".join(parts[:count]) for count in range(2, len(parts) + 1)}
    return at in sentence or any(re.search(rf"\b{re.escape(one)}\b", sentence) for one in {*above, parts[-1]})


@pytest.mark.parametrize("number", range(len(CHUNKS)))
@SLOW
@given(data=st.data())
def test_right_values_render_or_contradict_each_other_by_name(number: int, data: Any) -> None:
    chosen = [(leaf, data.draw(right(leaf), label=leaf.dotted)) for leaf in CHUNKS[number]]
    while True:
        values = BASE
        for leaf, value in chosen:
            values = put(values, leaf, value)
        try:
            objects = rendered(values)
        except Refused as refused:
            sentence = _sentence(refused)
            named = [one for one in chosen if _is_named(one[0], sentence)]
            assert named, f"of {[leaf.dotted for leaf, _ in chosen]} none is named by: {sentence}"
            chosen.remove(max(named, key=lambda one: len(one[0].path)))
        else:
            assert misfits(objects, VERSIONS[-1]) == []
            return


def _places(errors: Iterator[ValidationError]) -> Iterator[tuple[str | int, ...]]:
    for one in errors:
        yield tuple(one.absolute_path)
        yield from _places(iter(one.context or ()))


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda one: ".".join(map(str, one.path)))
def test_wrong_value_is_found_in_its_place(leaf: Leaf) -> None:
    if leaf.path == ("global",):
        return  # Helm's own, and anybody's
    assert wrong(leaf), "everything is right here: narrow it with @schema"
    found = set(_places(VALIDATOR.iter_errors(put(BASE, leaf, wrong(leaf)[0]))))
    assert any(place[: len(leaf.path)] == leaf.path for place in found), found


@settings(max_examples=25, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_helm_names_the_wrong_value(data: Any) -> None:
    leaf = data.draw(st.sampled_from([one for one in LEAVES if one.path != ("global",)]))
    value = data.draw(st.sampled_from([one for one in wrong(leaf) if one is not None]))
    with pytest.raises(Refused) as refused:
        rendered(put(BASE, leaf, value))
    assert f"at '/{'/'.join(map(str, leaf.path))}" in str(refused.value)
