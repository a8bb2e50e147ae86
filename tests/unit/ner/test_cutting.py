"""`ext_proc.ner.cutting`: where a text may be cut, and what of a span counts."""

from __future__ import annotations

import pytest

from ext_proc.model import Span
from ext_proc.ner import CUTS, cut_up, is_prose, outside, parts, placeholder_of
from ext_proc.ner.cutting import PART_MAX, SENTENCE_MAX, WINDOW_MAX


def cut(text: str, mode: str = "sentence") -> list[str]:
    found, rest = cut_up(text, *CUTS[mode])
    return [*found, rest]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two! Three? Four", ["One.", " Two!", " Three?", " Four"]),
        ('She said "No." He left.', ['She said "No."', " He left."]),
        ("One", ["One"]),
        ("One.", ["One."]),  # what follows may be a digit
        ("It is 3.14 now. Yes", ["It is 3.14 now.", " Yes"]),
        ("one\ntwo\n", ["one\n", "two\n", ""]),
        ("Dr. Ada Lovelace met Mr. Smith. Then", ["Dr. Ada Lovelace met Mr. Smith.", " Then"]),
        ("J. R. Smith left. Then", ["J. R. Smith left.", " Then"]),
        ("これは一。これは二。", ["これは一。", "これは二。", ""]),
        ("wait... what", ["wait...", " what"]),
        ("", [""]),
    ],
)
def test_sentences(text: str, wanted: list[str]) -> None:
    assert cut(text) == wanted


def test_a_sentence_without_end_is_cut_between_words() -> None:
    text = "word " * 300
    found = cut(text)
    assert all(len(part) <= SENTENCE_MAX for part in found)
    assert all(part.endswith(" ") for part in found[:-1])
    assert "".join(found) == text


@pytest.mark.parametrize("placeholder", ["[EMAIL]", "[US_SSN:abcdefgh]", "<EMAIL_ADDRESS_7Q2K>", "****1234"])
@pytest.mark.parametrize("before", range(SENTENCE_MAX - 24, SENTENCE_MAX + 4))
def test_a_run_without_blanks_is_cut_but_no_placeholder_is(placeholder: str, before: int) -> None:
    text = "x" * before + placeholder + "y" * 40
    found = cut(text)
    assert sum(placeholder in part for part in found) == 1
    assert "".join(found) == text


def test_windows() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve. thirteen fourteen"
    assert cut(text, "window") == [
        "one two three four five six seven eight ",
        "nine ten eleven twelve.",
        " thirteen fourteen",
    ]


@pytest.mark.parametrize("before", ["", "(", "\u201c", "[EMAIL]", "<PERSON_7Q2K>"])
def test_a_window_does_not_end_within_a_name(before: str) -> None:
    """Nor where something stands right before it."""
    text = f"and then on that day it was {before}Ada Lovelace Byron who came here to see us"
    assert cut(text, "window")[0] == f"and then on that day it was {before}Ada Lovelace Byron "


def test_a_list_of_names_has_an_end() -> None:
    found = cut("Ada Bob Cleo Dan Eve Flo Gus Hal Ivy Jon Kim Leo Max Ned Oda Pia Ray " * 3, "window")
    assert all(len(part) <= WINDOW_MAX for part in found)
    assert len(found) > 3


@pytest.mark.parametrize("size", [10, PART_MAX - 1, PART_MAX, PART_MAX + 1, 3 * PART_MAX])
@pytest.mark.parametrize("sentence", ["A short one. ", "word ", "x", "One\n"])
def test_parts_are_the_whole(size: int, sentence: str) -> None:
    text = (sentence * size)[:size]
    found = list(parts(text))
    assert "".join(said for _, said in found) == text
    assert all(text.startswith(said, begin) for begin, said in found)
    assert all(len(said) <= PART_MAX for _, said in found)


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("Ada", True), ("Ada Lovelace", True), ("東京", True), ("hello there", True),
        ("assistant", False), ("get_weather", False), ("gpt-4o", False), ("Qwen/Qwen2-7B", False), ("12 34", False),
        ("chat.completion", False), ("application/json", False), ("", False), ("  \n", False), ("#fff", False),
    ],
)  # fmt: skip
def test_prose(text: str, is_it: bool) -> None:
    assert is_prose(text) is is_it


def test_a_key_must_have_two_words() -> None:
    assert not is_prose("Ada", words_min=2)
    assert is_prose("Ada Lovelace", words_min=2)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Ada [EMAIL] Lovelace", ["Ada", "Lovelace"]),
        ("[EMAIL]", []),
        ("Ada <EMAIL_7Q2K>, ", ["Ada"]),
        ("****1234 Ada", ["1234 Ada"]),
        ("[ADA] and <LOVELACE>", ["[ADA] and <LOVELACE>"]),  # of no entity: a name in brackets is a name
        (" Ada ", ["Ada"]),
        ("Ada", ["Ada"]),
        ("[no placeholder] Ada", ["[no placeholder] Ada"]),
    ],
)
def test_of_a_span_what_is_no_placeholder(text: str, wanted: list[str]) -> None:
    span = Span(0, len(text), "PERSON", "ner:custom", 0.9)
    marks = [mark.span() for mark in placeholder_of(["EMAIL", "PERSON"]).finditer(text)]
    found = list(outside(span, marks, text))
    assert [text[one.start : one.end] for one in found] == wanted
