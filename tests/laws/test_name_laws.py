"""Laws of names in streams: for every text, decision and chunking the same goes on, and no name that is known does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.app.exchange.names import Names
from ext_proc.model import Action, Recognition, RedactionRule
from ext_proc.ner import CUTS, cut_up
from ext_proc.redaction import Redactor, StreamRedactor
from tests.fakes.recogniser import KNOWN, FakeRecogniser
from tests.unit.redaction.streams import KEY, chunkings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import Removal

MODES = ("sentence", "window")
WORDS = (
    *KNOWN, "Ada", "Lovelace", "bob@example.org", "4111 1111 1111 1111", "the", "a", "of", "Then", "[EMAIL]", "[", "]",
    "<PERSON_7Q2K>", "****", "[PERSON]", "[ADA]", "Dr.", "J.", "yes.", "no!", "x" * 90, "12", "日本。", "\U0001f600",
)  # fmt: skip
GAPS = (" ", " ", " ", ". ", "\n", "", ", ", "  ", "? ")
texts = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), max_size=60).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)
decisions = st.sampled_from(
    (
        (),
        (RedactionRule("PERSON", Action.HASH),),
        (RedactionRule("PERSON", Action.DROP), RedactionRule("EMAIL", Action.DROP)),
        (RedactionRule("LOCATION", Action.PARTIAL), RedactionRule("*", Action.MASK)),
        (RedactionRule("*", Action.ALLOW), RedactionRule("PERSON", Action.MASK)),
    )
)


def streamed(chunks: Sequence[str], rules: Sequence[RedactionRule], mode: str) -> tuple[str, Sequence[Removal]]:
    names = Names(FakeRecogniser(), Redactor(KEY)).of_stream(Recognition(streams=mode), rules)
    make = names.of_pieces(lambda path, context: StreamRedactor(rules, path=path, context=context, hash_key=KEY))
    masker = make("/a", "")
    said = "".join([masker.feed(chunk) for chunk in chunks]) + masker.finish()
    return said, masker.removals


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data(), rules=decisions)
@settings(max_examples=60, deadline=None)
def test_however_it_is_cut_the_same_goes_on(mode: str, data: st.DataObject, rules: tuple[RedactionRule, ...]) -> None:
    text = data.draw(texts)
    once, told = streamed([text], rules, mode)
    again, retold = streamed(data.draw(chunkings(text)), rules, mode)
    assert again == once
    assert retold == told


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_known_name_goes_on(mode: str, data: st.DataObject) -> None:
    text = data.draw(texts)
    said, told = streamed(data.draw(chunkings(text)), (), mode)
    for name in KNOWN:
        if f" {name} " in f" {text} ":
            assert f" {name} " not in f" {said} "
    for one in told:
        if one.rule.startswith("ner:"):
            assert text[one.start : one.end] in KNOWN


@pytest.mark.parametrize("mode", MODES)
@given(text=st.text(st.sampled_from("aA .\n!?\"')[]<*E_7日。"), max_size=1200), data=st.data())
@settings(max_examples=150, deadline=None)
def test_cuts_are_decided_by_the_text_alone(mode: str, text: str, data: st.DataObject) -> None:
    wanted = cut_up(text, *CUTS[mode])
    found: list[str] = []
    held = ""
    for chunk in data.draw(chunkings(text)):
        more, held = cut_up(held + chunk, *CUTS[mode])
        found += more
    assert (found, held) == wanted
    assert "".join([*found, held]) == text
    assert len(held) <= CUTS[mode][1]
