"""`affidavit policy try` and `policy explain`: one question, its decision, and the lines behind it."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

import pytest

from ext_proc.app.authoring import policy_try
from ext_proc.cli import main
from ext_proc.errors import ConfigError
from tests.fakes.policies import ORDINARY, chat, write
from tests.fakes.policy import ROOT

if TYPE_CHECKING:
    from pathlib import Path

Said = pytest.CaptureFixture[str]
OPA = ROOT / "opa"
SAMPLES = OPA / "samples"


def _policy(*arguments: str | Path) -> int:
    return main(["policy", *map(str, arguments)])


@pytest.mark.parametrize(
    ("sample", "status", "said", "concern"),
    [
        ("chat", 0, "allowed", None),
        ("listing", 0, "allowed", None),
        ("held", 0, "held", "approval"),
        ("secret", 1, "denied: secret_in_prompt", "secrets"),
        ("stranger", 1, "denied: not_permitted", "models"),
    ],
)
def test_samples(sample: str, status: int, said: str, concern: str | None, capsys: Said) -> None:
    assert _policy("try", "--policy", OPA, "--input", SAMPLES / f"{sample}.json", "--json") == status
    told = json.loads(capsys.readouterr().out)
    spoke = {name for name, one in told["concerns"].items() if not one["allow"] or one["demands"]}
    assert told["allowed"] is (status == 0)
    assert spoke == ({concern} if concern else set())
    assert _policy("try", "--policy", OPA, "--input", SAMPLES / f"{sample}.json") == status
    assert capsys.readouterr().out.splitlines()[0] == said


def test_reasons_have_their_texts(capsys: Said) -> None:
    assert _policy("try", "--policy", OPA, "--input", SAMPLES / "secret.json") == 1
    said = capsys.readouterr().out
    assert "  secret_in_prompt: The request holds a secret (a key, token or password).\n" in said


def test_policy_of_another_shape(tmp_path: Path, capsys: Said) -> None:
    question = tmp_path / "question.json"
    question.write_text(json.dumps(chat()))
    assert _policy("try", "--policy", write(tmp_path / "p", ORDINARY), "--input", question) == 1
    assert "  wrong_model: no text in data.inference.reasons\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("decision := {} if input.request.stream", "no decision: the rule is undefined, and the gate answers 503"),
        ('decision := {"allow": true}', "not exactly a decision"),
        ('decision := "yes"', "no decision"),
    ],
)
def test_what_is_no_decision(rules: str, said: str, tmp_path: Path, capsys: Said) -> None:
    folder = write(tmp_path / "p", f"package inference\n\n{rules}\n")
    assert _policy("try", "--policy", folder, "--input", SAMPLES / "chat.json") == 1
    assert said in capsys.readouterr().out


def test_error_in_a_built_in(tmp_path: Path, capsys: Said) -> None:
    question = tmp_path / "question.json"
    question.write_text(json.dumps({**chat(), "source": {"address": "nowhere", "user_agent": ""}}))
    assert _policy("try", "--policy", write(tmp_path / "p", ORDINARY), "--input", question) == 2
    assert "net.cidr_contains" in capsys.readouterr().err


def test_question_that_the_gate_would_not_ask(tmp_path: Path, capsys: Said) -> None:
    question = tmp_path / "question.json"
    question.write_text(json.dumps({**chat(), "time": None}))
    assert _policy("try", "--policy", OPA, "--input", question) == 1
    said = capsys.readouterr()
    assert said.err == "note: input.time: must be object: the gate never asks like this\n"
    assert "question_malformed" in said.out


@pytest.mark.parametrize(
    ("text", "said"), [(None, "No such file"), ("{", "not valid JSON"), ("[]", "not one question")]
)
def test_question_that_is_none(text: str | None, said: str, tmp_path: Path, capsys: Said) -> None:
    question = tmp_path / "question.json"
    if text is not None:
        question.write_text(text)
    for command in (("try", "--input", question), ("explain", question)):
        assert _policy(*command, "--policy", OPA) == 2
        assert said in capsys.readouterr().err


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(chat())))
    assert _policy("try", "--policy", OPA, "--input", "-") == 0


def test_watch_decides_again_after_each_change(tmp_path: Path, capsys: Said) -> None:
    folder = write(tmp_path / "p", ORDINARY)
    seen: list[str] = []
    steps = iter(["nothing", "rule", "broken", "mended", "end"])

    def again() -> int:
        seen.append((folder / "policy.rego").read_text()[:20])
        if "broken" in seen[-1]:
            raise ConfigError("opa eval: broken")
        return 0

    def pause() -> None:
        step = next(steps)
        if step == "end":
            raise KeyboardInterrupt
        if step != "nothing":
            (folder / "policy.rego").write_text(f"{step}\n{ORDINARY}")
            os.utime(folder / "policy.rego", ns=(0, len(seen)))

    with pytest.raises(KeyboardInterrupt):
        policy_try.watched([folder], again, pause)
    assert [one.split("\n")[0] for one in seen] == ["package inference", "rule", "broken", "mended"]
    assert capsys.readouterr().err == "opa eval: broken\n"


def test_explain_names_the_rule_that_spoke(capsys: Said) -> None:
    assert _policy("explain", "--policy", OPA, SAMPLES / "secret.json", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    fired = {f"{rule['file']}: {rule['text']}" for rule in told["rules"]}
    assert told["decision"]["reasons"] == ["secret_in_prompt"]
    assert (
        'inference/concerns/secrets/secrets.rego: reasons contains "secret_in_prompt" if count(_secrets) > 0' in fired
    )
    assert "inference/concerns/models/models.rego: allow if {" in fired
    assert not [rule for rule in fired if "not_permitted" in rule]  # looked at, and silent
    assert {rule["file"] for rule in told["rules"]} <= {line["file"] for line in told["lines"]}


def test_explain_for_people(capsys: Said) -> None:
    assert _policy("explain", "--policy", OPA, SAMPLES / "chat.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "allowed"
    secrets = lines.index("inference/concerns/secrets/secrets.rego")
    assert any(line.startswith(">") and line.endswith("allow if {") for line in lines[secrets : secrets + 4])


def test_explain_what_is_no_file_and_nobodys_exchange(capsys: Said) -> None:
    assert _policy("explain", "an-exchange") == 2
    assert "No such file; for the id of an exchange name the gateway: --config" in capsys.readouterr().err
