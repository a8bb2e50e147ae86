"""`docs/policy-authors.md`: what a newcomer pastes works, one example after the other, and its commands parse."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.cli import build_parser
from ext_proc.policy.trial import failing_open, judging, opa_program, questions, static, vocabulary
from tests.fakes.policies import chat
from tests.fakes.policy import ROOT
from tests.fakes.policy import opa_program as program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ext_proc.policy.trial.opa_program import Server

TEXT = (ROOT / "docs" / "policy-authors.md").read_text()
FILES = dict(re.findall(r"`my-policy/([\w/]+\.rego)`:\n\n```rego\n(.*?)```", TEXT, re.DOTALL))
_FENCES = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SETTINGS, PROJECTS = [text for kind, text in _FENCES if kind == "json"]
[TEMPLATE] = [text for kind, text in _FENCES if kind == "rego" and "concerns.template" in text]
[PROGRAM] = [text for kind, text in _FENCES if kind == "python"]
COMMANDS = [
    line for kind, text in _FENCES for line in text.splitlines() if not kind and line.startswith(".venv/bin/affidavit ")
]
_CONCERNS = "inference/concerns"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the page in one folder."""
    folder = tmp_path_factory.mktemp("authors") / "my-policy"
    shutil.copytree(ROOT / "opa", folder)
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    data = json.loads((folder / "data.json").read_text())
    data["inference"] |= json.loads(SETTINGS)
    data["inference"] |= json.loads(PROJECTS)
    (folder / "data.json").write_text(json.dumps(data, indent=2))
    return folder


@pytest.fixture(scope="module")
def server(policy: Path) -> Iterator[Server]:
    with opa_program.serving(program(), policy) as running:
        yield running


def _asked(server: Server, **changes: Any) -> Any:
    return server.ask(chat(**changes))


def test_every_example_is_there() -> None:
    assert {name.rsplit("/", 1)[1] for name in FILES} == {
        "interns.rego",
        "interns_test.rego",
        "projects.rego",
        "exports.rego",
    }
    assert all(name.startswith(_CONCERNS) for name in FILES)


def test_sources_are_in_order(policy: Path) -> None:
    assert static.problems_of(program(), policy) == []


def test_test_of_the_rule(policy: Path, tmp_path: Path) -> None:
    """As the page says: on the library with this one concern more."""
    folder = tmp_path / "my-policy"
    shutil.copytree(ROOT / "opa", folder)
    shutil.copytree(policy / _CONCERNS / "interns", folder / _CONCERNS / "interns")
    [typed] = [line for line in TEXT.splitlines() if line.startswith(".tools/bin/opa test ")]
    done = subprocess.run(
        [program(), *shlex.split(typed)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"PASS: (\d+)/\1", done.stdout)

    rule = folder / _CONCERNS / "interns" / "interns.rego"
    rule.write_text(rule.read_text().replace("<= 100", "<= 1000"))
    done = subprocess.run(
        [program(), *shlex.split(typed)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "test_interns" in done.stdout or "interns.test_much: FAIL" in done.stdout


def test_interns(server: Server) -> None:
    interns = {"groups": ["analysts", "interns"]}
    many = {"parameters": {"max_tokens": 500, "media_count": 0, "message_count": 1, "tool_count": 0}}

    assert _asked(server, identity=interns)["allow"] is True
    assert _asked(server, request=many)["allow"] is True
    assert _asked(server, identity=interns, request=many)["reasons"] == ["interns_ask_little"]


def test_data_only(server: Server) -> None:
    critical = {"model": "demo-critical"}
    at_night = {"hour": 3}
    held = _asked(server, request=critical)

    assert (held["allow"], held["approval"]["count"]) == (True, 2)
    assert _asked(server, request=critical, time=at_night)["reasons"] == ["outside_office_hours"]
    assert _asked(server, time=at_night)["allow"] is True
    clinicians = _asked(server, identity={"groups": ["analysts", "clinicians"]})
    assert {"entity": "PERSON", "action": "allow"} in clinicians["redact"]["response"]
    assert held["redact"]["response"] == [{"entity": "*", "action": "mask"}]
    much = {"parameters": {"max_tokens": 10_001, "media_count": 0, "message_count": 1, "tool_count": 0}}
    assert _asked(server, request=much)["reasons"] == ["allowance_tokens"]


def test_projects(server: Server) -> None:
    blue = {"tags": ["project-blue"]}

    assert _asked(server, connection=blue)["allow"] is True
    other = _asked(server, connection=blue, request={"model": "demo-restricted"})
    assert other["reasons"] == ["not_this_projects_model"]
    assert _asked(server, connection={"tags": ["project-red"]})["reasons"] == ["not_this_projects_model"]


def test_exports(server: Server) -> None:
    outside = {"tags": ["external"]}

    assert _asked(server, connection=outside)["approval"] is None
    assert _asked(server, request={"text_bytes": 20_001})["approval"] is None
    long = _asked(server, connection=outside, request={"text_bytes": 20_001})
    assert (long["allow"], long["approval"]["groups"]) == (True, ["approvers"])


def test_all_of_it_fails_closed(policy: Path, server: Server) -> None:
    corpus = questions.generate(server, vocabulary.read(policy), 20)
    assert failing_open.search(server, corpus, whole=5).findings == []


def test_interns_who_say_nothing_are_found(tmp_path: Path) -> None:
    """The page's rule without the line that minds who leaves the limit out, beside it as it is."""
    folder = tmp_path / "my-policy"
    shutil.copytree(ROOT / "opa", folder)
    rule = folder / _CONCERNS / "interns" / "interns.rego"
    rule.parent.mkdir()
    whole = FILES["inference/concerns/interns/interns.rego"]
    line = "\tcount(asked.output_tokens) > 0\n"
    assert line in whole
    for text, is_named in ((whole, False), (whole.replace(line, ""), True)):
        rule.write_text(text)
        assert static.problems_of(program(), folder) == []
        with opa_program.serving(program(), folder) as running:
            corpus = questions.generate(running, vocabulary.read(folder), 1)
            left_out = failing_open.silent_if_left_out(running, corpus)
        named = [one for one in left_out if one.before["reasons"] == ["interns_ask_little"]]
        assert bool(named) is is_named
        assert {one.field for one in left_out} == {"request.parameters.max_tokens"}
        if named:
            where = failing_open.locate(program(), folder, named[0], "inference/decision")
            assert where is not None
            assert where.text.startswith('reasons contains "interns_ask_little"')


def test_data_only_example_leaves_the_shipped_tests_green(policy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-policy"
    shutil.copytree(ROOT / "opa", folder)
    shutil.copy(policy / "data.json", folder)
    command = [program(), "test", "--timeout", "60s", "inference", "system", "data.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_template(policy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-policy"
    shutil.copytree(ROOT / "opa", folder)
    (folder / _CONCERNS / "template").mkdir()
    (folder / _CONCERNS / "template" / "template.rego").write_text(TEMPLATE)

    assert static.problems_of(program(), folder) == []
    with opa_program.serving(program(), folder) as running:
        assert _asked(running)["allow"] is True
        assert _asked(running, connection={"name": "other"})["reasons"] == ["connection_not_known"]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    build_parser().parse_args(shlex.split(line)[1:])


def test_commands_and_program_are_those_of_the_page() -> None:
    assert len(COMMANDS) >= 5
    compile(PROGRAM, "intern.py", "exec")
    [typed] = re.findall(r'ask = "\.venv/bin/affidavit (.*)"', PROGRAM)
    assert build_parser().parse_args(typed.split()).groups == ["analysts", "interns"]


def test_findings_of_the_page_are_those_that_there_are() -> None:
    section = TEXT[TEXT.index("## Does it fail closed?") :]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(judging.TEXTS)


def test_concerns_of_the_page_are_those_that_ship() -> None:
    section = TEXT[TEXT.index("## What is ready") : TEXT.index("## Three examples")]
    named = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert named == {path.name for path in (ROOT / "opa" / "inference" / "concerns").iterdir()}
