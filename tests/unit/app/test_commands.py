"""`ext_proc.app.commands`: what people read in a terminal and a program in a pipe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ext_proc.app import commands
from ext_proc.audit.seal import seal
from ext_proc.config import Config
from tests.fakes.log import AT, a_keyring, a_writer, intent, outcome
from tests.fakes.store import FakeStore
from tests.unit.test_config import VALID

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """The configured store holds one exchange."""
    store = FakeStore()
    writer = await a_writer(tmp_path, keyring=a_keyring(tmp_path))
    for record in (intent(1, b"question"), outcome(1, b"answer")):
        await writer.record(record, AT)
    await writer.close(AT)
    for segment in (tmp_path / "evidence" / "e1").glob("*.sealed"):
        for one in seal(segment.read_bytes()):
            store.put(one.key, one.body, one.sha256)
    monkeypatch.setattr(commands, "store_of", lambda _: store)
    return store


@pytest.mark.parametrize("columns", ["20", "80", "300"])
async def test_nothing_in_the_list_is_cut_off(
    columns: str, bucket: FakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the terminal is narrow, and in a pipe, which counts as 80 columns."""
    monkeypatch.setenv("COLUMNS", columns)
    assert commands.list_records(Config.model_validate_json(json.dumps(VALID)), 50, as_json=False) == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert heads.split() == ["at", "exchange", "connection", "model", "outcome", "http_status", "code", "masked"]
    assert "exchange-1" in row and "…" not in row
