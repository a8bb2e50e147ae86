"""`ext_proc.app.evidence.reading`: what people read in a terminal and a program in a pipe."""

from __future__ import annotations

import json
import re
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


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_list_reads_well_in_a_terminal(
    columns: int, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was as wide as it is, and broke each line in two. The exchange and how it ended stay, in whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    options = build_parser().parse_args(["records", "list", "--from", "here"])
    assert reading.run_list(recorded.store, options) == 0
    said = capsys.readouterr()
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in said.out.splitlines()]
    assert max(map(len, lines)) <= columns
    assert {"at", "exchange", "outcome"} <= set(lines[0].split()) and EXCHANGE in lines[1] and "completed" in lines[1]
    left_out = [one for one in reading._COLUMNS if one not in lines[0].split()]
    assert (f"too narrow for {', '.join(left_out)}: --json has all\n" in said.err) == bool(left_out)
    assert bool(left_out) == (columns < 140)


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
