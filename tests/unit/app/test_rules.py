"""`affidavit rules test`: hits, misses, speed, refusals; and how it ends."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli import main

if TYPE_CHECKING:
    import pytest

GOOD = r"""
pack: acme
version: "1"
rules:
  - {id: badge, entity: ACME_BADGE, anchor: 'XY-', pattern: 'XY-\d{4}(?!\d)', hits: ['my «XY-1234»'], misses: ['XY-12345']}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "pack.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_all_as_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test", written(tmp_path, GOOD)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "acme: 1 rules, 2 of 2 samples as they say" in said
    assert "MB/s on prose" in said


def test_a_sample_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("my «XY-1234»", "my «XY-123»").replace("['XY-12345']", "['XY-1234']")
    assert main(["rules", "test", "--json", written(tmp_path, text)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [(one["wanted"], one["found"]) for one in told["failures"]] == [("XY-123", []), (None, ["XY-1234"])]
    assert main(["rules", "test", written(tmp_path, text)]) == 1
    assert "badge: in 'my XY-123' wanted 'XY-123', found []" in " ".join(capsys.readouterr().out.split())


def test_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GOOD.replace(r"XY-\d{4}(?!\d)", "(X+)+Y"))
    assert main(["rules", "test", path]) == 2
    assert "badge.pattern: it repeats without a bound\n      write {0,200} for *" in capsys.readouterr().err
    assert main(["rules", "test", "--json", path]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["problems"][0]["where"]) == (False, "badge.pattern")


def test_a_text_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("it is XY-4321"))
    assert main(["rules", "test", "--json", "--stdin", written(tmp_path, GOOD)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spans"] == [{"start": 6, "end": 13, "entity": "ACME_BADGE", "rule": "badge", "value": "XY-4321"}]
    assert told["mb_per_second"]["prose"] > 0


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_built_in_packs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["packs"] == ["core", "secrets"]
    assert told["without_samples"] == []


def test_the_pack_of_the_documents_does_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "redaction.md").read_text()
    [pack] = re.findall(r"```yaml\n(pack: acme\n.*?)```", text, re.DOTALL)
    assert main(["rules", "test", "--json", written(tmp_path, pack)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rules"], told["failures"], told["without_samples"]) == (3, [], [])
