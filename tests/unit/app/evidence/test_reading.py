"""`ext_proc.app.evidence.reading`: what people read in a terminal and a program in a pipe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ext_proc.app.evidence import reading
from ext_proc.cli import build_parser
from tests.fakes.recorded import NOON, Recorded

if TYPE_CHECKING:
    from pathlib import Path

EXCHANGE = "3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10"


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """The bucket holds one exchange."""
    made = Recorded.at(tmp_path)
    log = made.log()
    log.exchange(EXCHANGE, NOON)
    log.seal()
    return made


@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_nothing_in_the_list_is_cut_off(
    columns: str, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the terminal is narrow, and in a pipe, which counts as 80 columns."""
    monkeypatch.setenv("COLUMNS", columns)
    options = build_parser().parse_args(["records", "list", "--from", "here"])
    assert reading.run_list(recorded.store, options) == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert heads.split()[:3] == ["at", "exchange", "connection"]
    assert EXCHANGE in row
    assert "\u2026" not in row


def test_list_for_machines(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    options = build_parser().parse_args(["records", "list", "--from", "here", "--json", "--outcome", "completed"])
    assert reading.run_list(recorded.store, options) == 0
    [row] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["exchange"], row["outcome"]) == (EXCHANGE, "completed")


def test_list_of_what_is_not_there(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    options = build_parser().parse_args(["records", "list", "--from", "here", "--json", "--model", "no-such"])
    assert reading.run_list(recorded.store, options) == 0
    assert capsys.readouterr().out == ""


def test_show_of_what_is_not_there(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    options = build_parser().parse_args(["show", "no-such", "--from", "here"])
    assert reading.run_show(recorded.store, options, None, None) == 1
    assert capsys.readouterr().out.startswith("no record of no-such in the bucket")
