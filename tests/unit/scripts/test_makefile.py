"""`Makefile`: its checks can fail and say what to do; what it cleans is what it made."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from ext_proc.cli import build_parser
from tests.fakes.policy import ROOT, opa_program

if TYPE_CHECKING:
    from pathlib import Path

_REGO = re.compile(r"^```rego\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def _rego(folder: Path) -> subprocess.CompletedProcess[str]:
    return _make(folder, "rego", f"OPA={opa_program()}")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and the policy, with the concern that the README adds."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "opa", tmp_path / "opa")
    rule, test = _REGO.findall((ROOT / "README.md").read_text())
    hours = tmp_path / "opa" / "inference" / "concerns" / "hours"
    hours.mkdir()
    (hours / "hours.rego").write_text(rule)
    (hours / "hours_test.rego").write_text(test)
    return tmp_path


def test_concern_of_the_readme_passes(checkout: Path) -> None:
    done = _rego(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "rego: formatted, strict, tested with full coverage\n"


def test_concern_without_a_test_is_named(checkout: Path) -> None:
    """The tests of the whole decision run through it by day, so that coverage alone would not miss it."""
    (checkout / "opa" / "inference" / "concerns" / "hours" / "hours_test.rego").unlink()
    done = _rego(checkout)
    assert done.returncode != 0
    assert done.stdout.splitlines()[0] == "opa/inference/concerns/hours/ has no test: *_test.rego"


def test_test_of_the_readme_can_fail(checkout: Path) -> None:
    rule = checkout / "opa" / "inference" / "concerns" / "hours" / "hours.rego"
    rule.write_text(rule.read_text().replace(">= 6", ">= 2"))
    done = _rego(checkout)
    assert done.returncode != 0
    assert "test_night: FAIL" in done.stdout


def test_layout_says_how_to_mend_it(checkout: Path) -> None:
    rule = checkout / "opa" / "inference" / "concerns" / "hours" / "hours.rego"
    rule.write_text(rule.read_text().replace("\tinput", "  input"))
    done = _rego(checkout)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == f"mend the layout with: {opa_program()} fmt --write opa/"
    subprocess.run([opa_program(), "fmt", "--write", "opa/"], cwd=checkout, check=True)
    assert _rego(checkout).returncode == 0


def test_policy_checks_what_it_is_told(checkout: Path) -> None:
    """What the command finds has tests of its own: `tests/unit/app/authoring/test_policy_check.py`."""
    for more, folder in (([], "opa"), (["POLICY=elsewhere"], "elsewhere")):
        planned = _make(checkout, "--dry-run", "--old-file=setup", "policy", f"OPA={opa_program()}", *more).stdout
        program, *typed = planned.splitlines()[-1].split()
        options = build_parser().parse_args(typed)
        assert (program, str(options.policy)) == (".venv/bin/affidavit", folder)
        assert " test --timeout 60s --coverage --threshold 100 " in planned  # all of `rego` comes first


def test_clean_removes_every_folder_that_git_ignores(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    lines = (ROOT / ".gitignore").read_text().splitlines()
    ignored = [line.strip("/").replace("*", "affidavit") for line in lines if line != "__pycache__/"]
    assert {".venv", ".import_linter_cache", "bench/out"} <= set(ignored)
    for name in ignored:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "something").touch()
    assert _make(tmp_path, "clean").returncode == 0
    assert [name for name in ignored if (tmp_path / name).exists()] == []
    assert (tmp_path / "Makefile").exists()
