"""`vocabulary`: the words that a policy's data and rules know, where they are looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import ConfigError
from ext_proc.policy.trial import vocabulary
from tests.fakes.policies import write
from tests.fakes.policy import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_RULES = """package inference

# "commented" is no word
deny contains "x" if {
	input.request.operation == "summon"
	data.house.models[input.request.model]
	net.cidr_contains("192.0.2.0/24", input.source.address)
	input.request.parameters.max_tokens > 4711
	"PASSPORT" in object.keys(input.findings)
	regex.match(`^raw$`, "1234")
}
"""


def test_words_of_rules_and_data(tmp_path: Path) -> None:
    data = {"house": {"models": {"opus": {"groups": ["poets"]}, "haiku": {}}, "limit": 99, "text": "a sentence here"}}
    found = vocabulary.read(write(tmp_path, _RULES, data))

    assert found.by_field["request.model"] == ["opus", "haiku"]
    assert found.by_field["request.operation"] == ["summon"]
    assert found.groups == ["poets"]
    assert found.networks == ["192.0.2.0/24"]
    assert found.entities == ["PASSPORT"]
    assert found.numbers == [99, 4711]
    assert "commented" not in found.words
    assert "a sentence here" not in found.words


def test_tests_and_further_data_files(tmp_path: Path) -> None:
    folder = write(tmp_path, "package inference\n")
    (folder / "more_test.rego").write_text('package more_test\n\nx := "of a test"\ny := "only_of_a_test"\n')
    (folder / "house").mkdir()
    (folder / "house" / "data.yaml").write_text("models: {sonnet: {}}\n")
    found = vocabulary.read(folder)

    assert "sonnet" in found.words
    assert "only_of_a_test" not in found.words


def test_much_of_it_is_cut(tmp_path: Path) -> None:
    data = {"users": {f"user-{number}": {"groups": [f"group-{number}"]} for number in range(10_000)}}
    found = vocabulary.read(write(tmp_path, "package inference\n", data))

    assert len(found.words) == vocabulary.WORDS_MAX


def test_data_that_are_none(tmp_path: Path) -> None:
    folder = write(tmp_path, "package inference\n")
    (folder / "data.json").write_text("{")

    with pytest.raises(ConfigError, match=r"data\.json: not valid JSON"):
        vocabulary.read(folder)


def test_groups_that_rules_name(tmp_path: Path) -> None:
    """Also where data name some: a rule about interns is heard of nowhere else."""
    rules = 'package inference\n\ndeny contains "x" if "interns" in input.identity.groups\n'
    found = vocabulary.read(write(tmp_path, rules, {"models": {"opus": {"groups": ["poets"]}}}))

    assert found.groups == ["poets"]
    assert "interns" in found.groups_of_rules


def test_ours() -> None:
    found = vocabulary.read(ROOT / "opa")

    assert {"analysts", "approvers"} <= set(found.groups)
    assert "demo-restricted" in found.by_field["request.model"]
