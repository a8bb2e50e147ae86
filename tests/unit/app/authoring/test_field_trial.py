"""`affidavit fields test`: before and after, and what is refused."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.cli import main
from tests.fakes.policy import ROOT
from tests.unit.app.exchange.bodies import deltas, stream

if TYPE_CHECKING:
    from pathlib import Path

RULES = """
request:
  - {path: $.messages..birth_date, action: mask, keep: date, name: BIRTH_DATE}
  - {path: $..internal, action: block}
response:
  - {path: '$.choices[*].message.content', action: mask}
"""
BODY = {"model": "demo", "messages": [{"role": "user", "content": "hello", "birth_date": "6.5.1984"}]}


def tried(folder: Path, rules: str, body: Any, *options: str) -> int:
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    (folder / "body").write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return main(["fields", "test", str(folder / "rules.yaml"), str(folder / "body"), *options])


def test_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(tmp_path, RULES, BODY) == 0
    before, _, after = capsys.readouterr().out.partition("after:")
    assert "6.5.1984" in before
    assert "6.5.1984" not in after
    assert "1.1.1900" in after
    assert "/messages/0/birth_date" in after


def test_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(tmp_path, RULES, BODY, "--json", "--protocol", "openai.chat") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert json.loads(told["after"])["messages"][0]["birth_date"] == "1.1.1900"
    assert told["removed"][0]["rule"] == "field:BIRTH_DATE"
    assert told["coverage"]["excluded_bytes"] == 0


def test_what_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = {**BODY, "internal": 1}
    assert tried(tmp_path, RULES, body, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["after"], told["blocked"]) == (False, None, ["FIELD"])
    assert tried(tmp_path, RULES, body) == 1
    assert "blocked: FIELD" in capsys.readouterr().out


def test_an_answer_whole_and_streamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}}]}
    for body in (whole, stream(*deltas("one ", "two"), "[DONE]")):
        assert tried(tmp_path, RULES, body, "--answer", "--json", "--protocol", "openai.chat") == 0
        after = json.loads(capsys.readouterr().out)["after"]
        assert "[FIELD]" in after
        assert "two" not in after


def test_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.yaml").write_text("- {path: $.a, action: drop}")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a":1,"b":2}')))
    assert main(["fields", "test", str(tmp_path / "rules.yaml"), "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["after"] == '{"b":2}'


@pytest.mark.parametrize(
    ("rules", "body", "options", "what"),
    [
        ("- {path: a, action: drop}", {}, (), "request: rule 1: 'a', character 1: a path begins with $"),
        ("- {path: $.model, action: drop}", {}, (), "must stay"),
        (
            "{request: [{path: $.a, action: drop}], response: [{path: $.usage, action: drop}]}",
            {},
            (),
            "response: rule 1",
        ),
        ("request: {}", {}, (), "must be a list of rules"),
        ("other: []", {}, (), "must be a list of rules"),
        ("request: []", {}, (), "no rules for the request"),
        ("", {}, (), "must be a list of rules"),
        ("a: [", {}, (), "not valid YAML"),
        ("a: 2026-99-99", {}, (), "not valid YAML"),
        ("request: [{path: $.a, action: drop}]\nrequest: []", {}, (), "line 2: request stands twice"),
        ("- {path: $.a, action: drop}", b"{", (), "the body cannot be read: unreadable_body"),
        ("- {path: $.a, action: drop}", b"\xff", (), "not UTF-8"),
        ("- {path: $.a, action: drop}", {}, ("--protocol", "soap"), "soap: no protocol"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str, body: Any, options: tuple[str, ...], what: str
) -> None:
    assert tried(tmp_path, rules, body, *options) == 2
    assert what in capsys.readouterr().err
    assert tried(tmp_path, rules, body, "--json", *options) == 2
    assert what in json.loads(capsys.readouterr().out)["problem"]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fields", "test", str(tmp_path / "no.yaml"), "-"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_what_cannot_be_scanned_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A member that the protocol does not know: the policy that ships would deny the request."""
    (tmp_path / "rules.yaml").write_text("- {path: '$.metadata', action: drop}")
    for more, count in (({}, 0), ({"metadata": {"ssn": "1"}}, 1)):
        message = {"role": "user", "content": "hi", **more}
        (tmp_path / "body").write_text(json.dumps({"model": "m", "messages": [message], "metadata": {"a": "b"}}))
        command = ["fields", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "body"), "--protocol", "openai.chat"]
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["media_count"] == count
        assert main(command) == 0
        assert ("media_not_inspectable" in capsys.readouterr().out) is bool(count)


def test_protocol_that_is_none_names_those_that_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.yaml").write_text("- {path: '$.a', action: drop}")
    (tmp_path / "body").write_text("{}")
    assert main(["fields", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "body"), "--protocol", "x"]) == 2
    assert "openai.chat, openai.completions" in capsys.readouterr().err


def test_bodies_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a reader of docs/redaction.md saves, and what comes of it."""
    page = (ROOT / "docs" / "redaction.md").read_text()
    [rules] = re.findall(r"^`rules\.yaml`:\n\n```yaml\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    request, answer = re.findall(r"^```json\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "rules.yaml").write_text(rules)
    for body, options, gone in ((request, [], "1984"), (answer, ["--answer"], "4711")):
        (tmp_path / "body").write_text(body)
        command = ["fields", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "body"), "--protocol", "openai.chat"]
        assert main([*command, *options, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert gone in told["before"]
        assert gone not in told["after"]
        assert told["media_count"] == 0
