"""`static`: what is wrong in the sources, with its place and what to do."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import ConfigError
from ext_proc.policy import again, bundle
from ext_proc.policy.trial import static
from ext_proc.policy.trial.opa_program import serving
from tests.fakes.policies import ORDINARY, POSITIVE, write
from tests.fakes.policy import ROOT, opa_program

if TYPE_CHECKING:
    from pathlib import Path


def test_ours_has_none() -> None:
    assert static.problems_of(opa_program(), ROOT / "opa") == []


def test_ordinary_has_none(tmp_path: Path) -> None:
    assert static.problems_of(opa_program(), write(tmp_path, ORDINARY)) == []


@pytest.mark.parametrize(
    ("rule", "code", "text"),
    [
        ("x := nothing", "strict", "nothing"),
        ("x if {\n\ty := 1\n}", "strict", "y"),
        ("x if input.request.modell == 1", "schema", "input.request.modell"),
        ("x := time.now_ns()", "capabilities", "time.now_ns"),
        ('x := http.send({"method": "get", "url": "http://127.0.0.1:1"})', "capabilities", "http.send"),
        ('x := rand.intn("a", 3)', "capabilities", "rand.intn"),
        ('x := uuid.rfc4122("a")', "capabilities", "uuid.rfc4122"),
        ("x := opa.runtime()", "capabilities", "opa.runtime"),
        ('x := net.lookup_ip_addr("localhost")', "capabilities", "net.lookup_ip_addr"),
        ('x := crypto.x509.parse_and_verify_certificates("a")', "capabilities", "crypto.x509"),
        ("x if f with http.send as 5\n\nf := 1", "capabilities", "with keyword target"),
        ("x if f with time.now_ns as 5\n\nf := 1", "capabilities", "with keyword target"),
        (
            "# METADATA\n# schemas:\n# - input: {type: object}\nx if input.request.modell",
            "schema",
            "input.request.modell",
        ),
        ("# METADATA\n# schemas:\n# - input: schema.decision\nx if input.allow", "schema", "input.allow"),
        ("# - input: schema.question\nx if input.request.modell", "schema", "input.request.modell"),
        ("x  :=  1", "layout", "not laid out"),
    ],
)
def test_problem(rule: str, code: str, text: str, tmp_path: Path) -> None:
    [problem, *_] = static.problems_of(opa_program(), write(tmp_path, f"package inference\n\n{rule}\n"))

    assert (problem.code, problem.file) == (code, "policy.rego")
    assert text in problem.text
    assert problem.row == (0 if code == "layout" else problem.row)
    assert problem.row >= 3 or code == "layout"


def test_schema_of_our_annotations(tmp_path: Path) -> None:
    """The library says that `input` is the question; who builds on it is told of a misspelt field."""
    folder = tmp_path / "opa"
    shutil.copytree(ROOT / "opa", folder)
    rule = folder / "inference" / "concerns" / "secrets" / "secrets.rego"
    rule.write_text(rule.read_text().replace("input.findings", "input.findingz"))

    found = static.problems_of(opa_program(), folder)

    assert {problem.code for problem in found} == {"strict"}
    assert "input.findingz" in found[0].text
    assert found[0].file == "inference/concerns/secrets/secrets.rego"


def test_what_allows_by_default(tmp_path: Path) -> None:
    folder = write(tmp_path, POSITIVE.replace("package inference\n", "package inference\n\ndefault allow := true\n"))
    (folder / "policy_test.rego").write_text("package policy_test\n\ndefault allow := true\n")

    [found] = static.problems_of(opa_program(), folder)
    assert (found.code, found.file, found.row) == ("default_allow", "policy.rego", 3)
    assert "default allow := false" in found.remedy


CONCERN = 'package inference.concerns.mine\n\n{}\n\nreasons contains "no" if not allow\n'
IF_BLUE = 'allow if "blue" in input.identity.groups'


@pytest.mark.parametrize(
    ("text", "code", "row"),
    [
        (CONCERN.format(IF_BLUE), "no_default", 0),
        (CONCERN.format(f"default allowed := false\n\n{IF_BLUE}"), "no_default", 0),
        ("package inference.concern.mine\n\ndefault allow := false\n\n" + IF_BLUE + "\n", "not_asked", 3),
        ("package inference.concerns.mine.more\n\ndefault allow := false\n\n" + IF_BLUE + "\n", "not_asked", 3),
        (CONCERN.format(f"default allow := false\n\n{IF_BLUE}"), None, 0),
    ],
)
def test_a_concern_that_would_say_nothing_is_named(text: str, code: str | None, row: int, tmp_path: Path) -> None:
    """It is left out of the sum, so the call passes: found here, and not built."""
    folder = tmp_path / "opa"
    shutil.copytree(ROOT / "opa", folder)
    (folder / "inference" / "concerns" / "mine").mkdir()
    (folder / "inference" / "concerns" / "mine" / "mine.rego").write_text(text)

    found = static.problems_of(opa_program(), folder)

    place = "inference/concerns/mine/mine.rego"
    assert [(one.code, one.file, one.row) for one in found] == ([(code, place, row)] if code else [])
    if code is None:
        bundle.build(opa_program(), folder, tmp_path / "bundle.tar.gz")
        return
    with pytest.raises(ConfigError, match=r"mine\.rego: .*; write: |mine\.rego: package"):
        bundle.build(opa_program(), folder, tmp_path / "bundle.tar.gz")
    assert not (tmp_path / "bundle.tar.gz").exists()


def test_what_a_concern_imports_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "opa"
    shutil.copytree(ROOT / "opa", folder)
    (folder / "inference" / "lib" / "blue.rego").write_text(
        f"package inference.lib.blue\n\ndefault allow := false\n\n{IF_BLUE}\n"
    )
    mine = folder / "inference" / "concerns" / "mine.rego"
    mine.write_text(CONCERN.format("default allow := false\n\nallow if data.inference.lib.blue.allow"))
    assert static.problems_of(opa_program(), folder) == []


@pytest.mark.parametrize(
    "rule",
    [
        "x if data.system.bundles.policy",
        "x if {\n\tsome name\n\tdata.system[name].policy\n}",
        'x if object.get(data.system, "bundles", false)',
        "x if y with data.inference.z as data.system.bundles\n\ny if data.inference.z",
    ],
)
def test_nothing_is_asked_of_opa_itself(rule: str, tmp_path: Path) -> None:
    """There it would be another thing at the gate, which has the bundle by name, than here."""
    found = static.problems_of(opa_program(), write(tmp_path, f"package inference\n\n{rule}\n"))
    assert [(one.code, "data.system" in one.text) for one in found] == [("capabilities", True)]


def test_alias_of_opas_own(tmp_path: Path) -> None:
    text = "package inference\n\nimport data.system as own\n\nx if own.bundles\n"
    [found] = static.problems_of(opa_program(), write(tmp_path, text))
    assert "data.system.bundles" in found.text


def test_the_question_s_schema_is_the_gates(tmp_path: Path) -> None:
    """An author's own copy says what they like."""
    folder = tmp_path / "opa"
    shutil.copytree(ROOT / "opa", folder)
    (folder / "schemas" / "question.json").write_text("{}")
    rule = folder / "inference" / "concerns" / "secrets" / "secrets.rego"
    rule.write_text(rule.read_text().replace("input.findings", "input.findingz"))
    assert {problem.code for problem in static.problems_of(opa_program(), folder)} == {"strict"}


def test_doors_of_opa(tmp_path: Path) -> None:
    with serving(opa_program(), ROOT / "opa") as server:
        assert list(static.open_doors(server)) == []
    with serving(opa_program(), write(tmp_path / "none", ORDINARY)) as server:
        assert list(static.open_doors(server)) == [], "nothing is allowed: OPA refuses everything"
    open_ = write(tmp_path / "open", ORDINARY)
    (open_ / "authz.rego").write_text('package system.authz\n\nallow if input.path[0] == "v1"\n')
    with serving(opa_program(), open_) as server:
        found = list(static.open_doors(server))
    assert {one.code for one in found} == {"authz"}
    assert any("PUT /v1/policies/mine" in one.text for one in found)


def test_time_of_tests_is_theirs(tmp_path: Path) -> None:
    folder = write(tmp_path, ORDINARY)
    (folder / "policy_test.rego").write_text("package policy_test\n\ntest_now if time.now_ns() > 0\n")

    assert static.problems_of(opa_program(), folder) == []


def test_capabilities_have_no_network_and_no_chance() -> None:
    made = again.capabilities(opa_program())
    names = {one["name"] for one in made["builtins"]}

    assert made["allow_net"] == []
    assert not names & {"time.now_ns", "http.send", "rand.intn", "uuid.rfc4122", "opa.runtime", "net.lookup_ip_addr"}
    assert {"json.match_schema", "net.cidr_contains", "regex.match"} <= names
    json.dumps(made)
