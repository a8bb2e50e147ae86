"""The GitHub Action and the pre-commit hook name commands, options and files that are there, and the Action's shell works."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent.parent
ACTION = ROOT / ".github" / "actions" / "policy-check" / "action.yml"
_SETUP = (ROOT / "scripts" / "setup.py").read_text()


@pytest.fixture
def action() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    return read


def _typed(action: dict[str, Any], folder: Path, **inputs: str) -> list[str]:
    """What the last step runs: `affidavit` is a program that writes down how it was called."""
    step = action["runs"]["steps"][-1]
    given = {name: one.get("default", "") for name, one in action["inputs"].items()} | inputs
    environment = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], value)
        for name, value in step["env"].items()
    }
    spy = folder / "affidavit"
    spy.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > typed\nexit 3\n')
    spy.chmod(0o700)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=folder, env={"PATH": path, **environment}, check=False
    )
    assert done.returncode == 3  # what the command says is the job's result
    return (folder / "typed").read_text().splitlines()


def test_action_types_a_command_that_parses(action: dict[str, Any], tmp_path: Path) -> None:
    typed = _typed(action, tmp_path)
    options = build_parser().parse_args(typed)

    assert options.policy == Path("opa")
    assert (options.sarif, options.junit) == (Path("policy-check.sarif"), Path("policy-check.xml"))
    assert (options.inputs, options.may_be_unknown, options.questions) == (None, [], 300)


def test_action_with_everything(action: dict[str, Any], tmp_path: Path) -> None:
    given = {"policy": "my policy", "inputs": "a b", "any": "request.model findings", "questions": "20"}
    options = build_parser().parse_args(_typed(action, tmp_path, **given))

    assert (options.policy, options.inputs) == (Path("my policy"), Path("a b"))
    assert (options.may_be_unknown, options.questions) == (["request.model", "findings"], 20)


def test_action_installs_this_and_the_opa_that_we_test_with(action: dict[str, Any]) -> None:
    [install] = [step["run"] for step in action["runs"]["steps"] if "pip install" in step.get("run", "")]
    [relative] = re.findall(r'"\$GITHUB_ACTION_PATH/([./]+)"', install)

    assert (ACTION.parent / relative).resolve() == ROOT
    assert (ROOT / "pyproject.toml").is_file()
    assert f'"{action["inputs"]["opa-version"]["default"]}"' in _SETUP


def test_action_takes_no_input_into_its_shell(action: dict[str, Any]) -> None:
    """An input in the text of a script is a script of whoever writes it."""
    assert all("${{" not in step.get("run", "") for step in action["runs"]["steps"])


def test_hook_is_a_command_that_parses() -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, *typed = [*hook["entry"].split(), *hook["args"]]
    options = build_parser().parse_args(typed)

    assert program == "affidavit"
    assert options.policy == Path("opa")
    assert hook["pass_filenames"] is False
    pattern = re.compile(hook["files"])
    assert all(map(pattern.search, ("opa/data.json", "data.yaml", "opa/inference/decision.rego")))
    assert not any(map(pattern.search, ("README.md", "mydata.json")))


@pytest.mark.parametrize("path", [ACTION, ROOT / ".pre-commit-hooks.yaml"], ids=lambda path: path.name)
def test_examples_in_comments_parse(path: Path) -> None:
    lines = [line[1:] for line in path.read_text().splitlines() if line.startswith("#")]
    example = "\n".join(line for line in lines if line.startswith("   "))

    assert isinstance(yaml.safe_load(example), list)
