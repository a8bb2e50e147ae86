"""What the tests of streams share: the whole text's redaction and the stream's, and texts of every rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from hypothesis import strategies as st

from ext_proc.redaction import Redactor, StreamRedactor
from ext_proc.redaction.detect import BUILT_IN
from ext_proc.redaction.rules import PACKS
from tests.unit.redaction.samples import HITS, TRAPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ext_proc.model import RedactionRule
    from ext_proc.redaction.detect import Detector

KEY = b"k" * 32
SHORT = 400
_DATA = yaml.safe_load((Path(__file__).parent / "evasions.yaml").read_text(encoding="utf-8"))
EVASIONS = sorted(
    {case["text"].replace("\u00a6", "") for group in _DATA if "cases" in group for case in group["cases"]}
)
EXAMPLES = sorted(
    {one.text for pack in PACKS for one in pack.samples if len(one.text) < SHORT} | {t for t in HITS if len(t) < SHORT}
)


def whole(text: str, rules: Sequence[RedactionRule] = (), context: str = "", detector: Detector = BUILT_IN) -> str:
    return Redactor(KEY, detector).redacted(text, rules, context)


def stream(
    rules: Sequence[RedactionRule] = (), context: str = "", detector: Detector = BUILT_IN, **more: int
) -> StreamRedactor:
    return StreamRedactor(rules, context=context, hash_key=KEY, detector=detector, **more)


def streamed(chunks: Iterable[str], redactor: StreamRedactor | None = None) -> str:
    redactor = redactor or stream()
    return "".join([redactor.feed(chunk) for chunk in chunks]) + redactor.finish()


def in_chunks(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@st.composite
def chunkings(draw: st.DrawFn, text: str) -> list[str]:
    """The text in parts, mostly of a token's size."""
    sizes = draw(st.sampled_from(((1,), (4,), (1, 2, 3, 4, 5, 6), (1, 7, 30), (len(text) or 1,))))
    chunks, at = [], 0
    while at < len(text):
        size = draw(st.sampled_from(sizes))
        chunks.append(text[at : at + size])
        at += size
    return chunks


@st.composite
def cut_examples(draw: st.DrawFn) -> str:
    """A value, or the beginning, the end or the middle of one."""
    text = draw(st.sampled_from(EXAMPLES))
    low = draw(st.integers(0, len(text)))
    return text[low : draw(st.integers(low, len(text)))] if draw(st.booleans()) else text


words = st.sampled_from(
    ("the", "call", "me at", "account", "key is", "my", "number", "and then", "card", "born", "see")
)
pieces = (
    st.sampled_from(TRAPS)
    | cut_examples()
    | words.map(lambda word: f" {word} ")
    | st.text(max_size=4)
    | st.from_regex(r"[0-9 .\-]{0,12}", fullmatch=True)
)
texts = st.lists(pieces, max_size=12).map("".join)
