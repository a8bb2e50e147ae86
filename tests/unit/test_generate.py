"""`ext_proc.generate`: the documents say what the code says, and a stale one is found out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ext_proc import generate
from ext_proc.cli import build_parser
from ext_proc.config import Config
from ext_proc.phases.table import TABLE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with the real schemas."""
    (tmp_path / "opa").mkdir()
    (tmp_path / "opa" / "schemas").symlink_to(generate.ROOT / "opa" / "schemas")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    return tmp_path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["generate", *arguments])
    return generate.main()


def test_writes_checks_and_finds_what_is_stale(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "--check") == 1
    assert "docs/configuration.md" in capsys.readouterr().err
    assert not (root / "docs").exists()  # a check changes nothing
    assert _run(monkeypatch) == 0
    written = [path for folder in ("docs", "ext_proc", "helm") for path in (root / folder).rglob("*") if path.is_file()]
    made = {str(path.relative_to(root)) for path in written}
    assert made == set(generate._FILES)
    assert _run(monkeypatch, "--check") == 0
    page = root / "docs" / "configuration.md"
    page.write_text(page.read_text().replace("Worker processes", "Threads"))
    capsys.readouterr()
    assert _run(monkeypatch, "--check") == 1
    assert "out of date: docs/configuration.md;" in capsys.readouterr().err
    assert _run(monkeypatch) == 0
    assert capsys.readouterr().out == "written: docs/configuration.md\n"


def test_configuration_names_every_field() -> None:
    text = generate.configuration()

    def fields(model: type[Config]) -> set[str]:
        found = set(model.model_fields)
        for field in model.model_fields.values():
            for inner in generate._models_in(field.annotation):
                found |= fields(inner)  # type: ignore[arg-type]
        return found

    named = fields(Config)
    assert len(named) > 60
    assert [name for name in named if f"| `{name}` |" not in text] == []
    assert "\n## connections[].upstream\n" in text
    for kind in ("webhook", "slack", "email"):
        assert f"\n## approvals.channels[] (kind: {kind})\n" in text


def test_configuration_shows_no_python() -> None:
    """Types are told in words; a class or a module path would be noise to an operator."""
    rows = [line for line in generate.configuration().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if "class '" in row or "typing" in row or "ext_proc" in row or "Annotated" in row] == []
    assert {row.count("|") - row.count("\\|") for row in rows} == {5}  # four cells each


def test_states_name_every_state() -> None:
    text = generate.states()
    assert [state for state in TABLE if f"| {generate._words(state)} |" not in text] == []


def test_command_line_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = generate.command_line()
    monkeypatch.setenv("COLUMNS", "300")
    assert generate.command_line() == narrow
    assert os.environ["COLUMNS"] == "100"


def test_command_line_has_the_commands_for_people() -> None:
    text = generate.command_line()
    titles = [title for title, _ in generate._parsers(build_parser(), "affidavit")]
    assert {"affidavit serve", "affidavit records show", "affidavit demo token", "affidavit erase"} <= set(titles)
    assert not {"affidavit work", "affidavit ship"} & set(titles)
    assert [title for title in titles if f"## {title}\n" not in text] == []
