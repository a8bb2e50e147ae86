"""`affidavit rules test`: hits, misses, speed, refusals; and how it ends."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from ext_proc.cli import main

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
    assert "acme: 1 rule, 2 of 2 samples as they say" in said
    assert "MB/s on prose" in said


def test_a_sample_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("my «XY-1234»", "my «XY-123»").replace("['XY-12345']", "['XY-1234']")
    assert main(["rules", "test", "--json", written(tmp_path, text)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [(one["wanted"], one["found"]) for one in told["failures"]] == [("XY-123", []), (None, ["XY-1234"])]
    assert main(["rules", "test", written(tmp_path, text)]) == 1
    said = capsys.readouterr().out
    assert "badge: in 'my XY-123' wanted 'XY-123', found []\n      its pattern matches nothing there\n" in said


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("anchor: 'XZ', pattern: '1{4}'", "its anchor, or words, do not occur there"),
        ("anchor: 'XY', pattern: '2{4}'", "its pattern matches nothing there"),
        ("anchor: 'XY', pattern: '1{4}', validator: luhn", "its validator takes none of ['1111']"),
        ("anchor: 'XY', pattern: '1{4}', after: 1", "what its pattern matches is too far from its anchor"),
        ("words: ['no'], pattern: '1{4}'", "what its pattern matches is too far from its anchor"),
    ],
)
def test_why_nothing_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str, why: str) -> None:
    text = f"pack: a\nversion: '1'\nrules: [{{id: badge, entity: A_B, {rule}, hits: ['XY: «1111» no']}}]"
    assert main(["rules", "test", "--json", written(tmp_path, text)]) == 1
    [failure] = json.loads(capsys.readouterr().out)["failures"]
    assert failure["why"].startswith(why)


def test_the_id_of_a_built_in_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test", written(tmp_path, GOOD.replace("id: badge", "id: email"))]) == 2
    assert "email: a rule of the built-in pack core has this id\n      give yours another" in capsys.readouterr().err


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
    assert main(["rules", "test", "--json", str(tmp_path / "none.yaml")]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["problems"][0]["where"]) == (False, "file")


def test_a_text_that_is_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    assert main(["rules", "test", "--stdin"]) == 2
    assert "standard input is refused:\n  text: it is not UTF-8" in capsys.readouterr().err


def test_the_built_in_packs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["packs"] == ["core", "secrets"]
    assert told["without_samples"] == []


def test_the_pack_of_the_documents_does_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "redaction.md").read_text()
    [pack] = re.findall(r"```yaml\n(pack: acme\n.*?)```", text, re.DOTALL)
    assert main(["rules", "test", "--json", written(tmp_path, pack)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rules"], told["failures"], told["without_samples"]) == (3, [], [])
