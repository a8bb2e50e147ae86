"""The engine by itself: what the documents show, and what is no text or no action."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from ext_proc.model import RedactionRule
from ext_proc.redaction import StreamRedactor, scan

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "redaction.md"


def test_the_documents_show_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCUMENT.read_text()
    [pack] = re.findall(r"```yaml\n(pack: acme\n.*?)```", text, re.DOTALL)
    (tmp_path / "my-rules.yaml").write_text(pack)
    monkeypatch.chdir(tmp_path)
    [said] = re.findall(r"^## In Python\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    shown = doctest.DocTestParser().get_doctest(said, {}, "In Python", str(DOCUMENT), None)
    came = doctest.DocTestRunner(verbose=False).run(shown)
    assert came.attempted > 10
    assert came.failed == 0


@pytest.mark.parametrize("text", [b"bob@example.org", b"", None, 7, ["bob@example.org"]])
def test_what_is_no_text_is_not_called_clean(text: Any) -> None:
    with pytest.raises(TypeError, match="a text is looked at, not"):
        scan(text)
    with pytest.raises(TypeError):
        StreamRedactor().feed(text or None)


def test_a_rule_takes_an_action_not_its_word() -> None:
    word: Any = "block"
    with pytest.raises(TypeError, match=r"write Action\('block'\)"):
        RedactionRule("EMAIL", word)
