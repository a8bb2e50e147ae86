"""Every rule's examples, split in every place: the third party's assertion that chunking changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chunk_invariance import assert_chunk_invariant

from ext_proc.redaction.rules import PACKS, RULES
from tests.unit.redaction.streams import EVASIONS, EXAMPLES, in_chunks, streamed, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

CUTS, THREE_MAX = 40, 20
SAMPLES = {
    rule.id: sorted(
        (s.text for pack in PACKS for s in pack.samples if s.rule == rule.id and s.found and not s.key), key=len
    )
    for rule in RULES
}


def parted(chunks: Iterable[str]) -> list[str]:
    return [streamed(chunks)]


@pytest.mark.parametrize("rule", [name for name, texts in SAMPLES.items() if texts])
def test_split_in_two_and_one_by_one(rule: str) -> None:
    """The shortest example of each rule, in words: in two parts everywhere, and one character at a time."""
    text = f"so {SAMPLES[rule][0]}, yes"
    cuts = range(1, len(text), max(1, len(text) // CUTS))  # everywhere, where the example is short
    assert_chunk_invariant(parted, whole, text, splits=[[text[:at], text[at:]] for at in cuts])
    assert_chunk_invariant(parted, whole, text, splits=[list(text)])


@pytest.mark.parametrize("text", [text for text in EXAMPLES if 8 <= len(text) <= THREE_MAX][::6])
def test_split_in_three(text: str) -> None:
    assert assert_chunk_invariant(parted, whole, text, splits=3) > len(text)


@pytest.mark.parametrize("text", ["a@b.co &#64;", "\u200b1.1.1.1\u200b", "078-05-1120"])
def test_every_split_there_is(text: str) -> None:
    assert assert_chunk_invariant(parted, whole, text, splits="all") == 2 ** (len(text) - 1)


@pytest.mark.parametrize("text", EVASIONS)
def test_disguises_split_in_two(text: str) -> None:
    text = f"so {text}, yes"
    cuts = range(1, len(text), max(1, len(text) // CUTS))
    assert_chunk_invariant(parted, whole, text, splits=[[text[:at], text[at:]] for at in cuts])


@pytest.mark.parametrize("size", [1, 4])
def test_one_by_one_and_in_tokens(size: int) -> None:
    differ = [text for text in (*EXAMPLES, *EVASIONS) if streamed(in_chunks(text, size)) != whole(text)]
    assert differ == []
