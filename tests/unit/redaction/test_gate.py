"""The gate: both ways of looking give the same candidates, so that a machine without Hyperscan masks the same."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.redaction import gate, scan
from ext_proc.redaction.detect import BUILT_IN, Detector
from ext_proc.redaction.gate import BASE64, HIDDEN, by_search, candidates
from ext_proc.redaction.rules import PACKS, RULES
from tests.unit.redaction.samples import HITS, pieces, texts

NAMES = [rule.id for rule in RULES]


def named(text: str) -> set[str]:
    return {NAMES[index] for index in candidates(text) if index < len(NAMES)}


@pytest.mark.parametrize("text", HITS)
def test_both_ways_agree_on_vectors(text: str) -> None:
    assert candidates(text) == by_search(text)


@pytest.mark.parametrize(
    "text",
    [
        "\u0664" * 16,
        "\uff11\uff12\uff13-\uff14\uff15-\uff16\uff17\uff18\uff19",
        "\u0662.\u0660.\u0660.\u0661",
        "é pwd",
        "épwd",
        "téltel",
    ],
)
def test_both_ways_mean_ascii(text: str) -> None:
    assert candidates(text) == by_search(text)


@settings(deadline=None)
@given(st.lists(pieces, max_size=8).map("".join))
def test_both_ways_agree(text: str) -> None:
    assert candidates(text) == by_search(text)


@pytest.mark.parametrize("text", ["", "plain words only.", "12 monkeys\nand\ttwo"])
def test_nothing_to_look_for(text: str) -> None:
    assert candidates(text) == ()


@pytest.mark.parametrize("text", ["1\u20132", "a\u2014b", "50%", "a&b", "\\n", "\x00", "\x7f", "\u200b", "\ud800"])
def test_hidden(text: str) -> None:
    assert HIDDEN in candidates(text)


@pytest.mark.parametrize(("text", "is_one"), [("a" * 15, False), ("a" * 16, True), ("a-b_c+d/e0f1g2h3", True)])
def test_base64(text: str, is_one: bool) -> None:
    assert (BASE64 in candidates(text)) is is_one


def test_driver_s_license_with_either_apostrophe() -> None:
    assert "driver-license" in named("driver's license") & named("driver\u2019s licence") & named("Drivers License")


ENGINES = [
    pytest.param("re2", marks=pytest.mark.skipif(gate.re2 is None, reason="no wheel of google-re2 here")),
    "re",
]
DETECTORS = {engine: Detector(RULES, engine) for engine in ("re2", "re")}


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=60)
@given(text=texts | st.sampled_from(HITS))
def test_all_engines_find_the_same(engine: str, text: str) -> None:
    assert DETECTORS[engine].gate.candidates(text) == candidates(text)
    assert DETECTORS[engine].scan(text) == scan(text)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_engines_find_the_same_in_samples(engine: str) -> None:
    """Each pack's samples, one after another: also where they lie across the blocks of a long text."""
    several = [" ".join(sample.text for sample in pack.samples) for pack in PACKS]
    for text in several:
        assert DETECTORS[engine].scan(text) == scan(text)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(HITS) | texts, max_size=6).map(" ".join), st.integers(80, 300))
def test_blocks_change_nothing(text: str, block: int) -> None:
    whole = BUILT_IN.gate.places(text, max(len(text), 1))
    parts = BUILT_IN.gate.places(text, block)
    # Of anchors that are told once a block only, pieces tell about where: the end of a piece looks like the edge of a
    # word. One more to look for, never one less; `windows` asks the anchor again, in the whole text. To ask before would
    # be to ask twice.
    more = set(parts) - set(whole)
    assert set(whole) <= set(parts)
    assert more <= BUILT_IN.gate.single
    assert not any(BUILT_IN.gate.anchors[index].search(text) for index in more)
    found = [sorted(BUILT_IN._found(text, places), key=str) for places in (whole, parts)]
    assert found[0] == found[1]


def test_is_really_hyperscan_here() -> None:
    """On x86-64 Linux the fast gate must be the one in use: the slow one would go unnoticed otherwise."""
    import platform

    assert gate.hyperscan is not None or platform.machine() != "x86_64"


def test_each_thread_has_its_own_scratch() -> None:
    found: list[tuple[int, ...]] = []
    threads = [threading.Thread(target=lambda: found.extend(candidates("a@b") for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [candidates("a@b")] * 800


@pytest.mark.parametrize(
    "text",
    ["plain", "its €5 or 😀, mostly plain " * 4, "日本語 😀 mail a@b.co", "\ud800 lone", "é" * 9, "é" + "a" * 7],
)
def test_bytes_are_told_as_characters(text: str) -> None:
    said = text.encode(errors="surrogatepass")
    place = gate._characters(said, len(text))
    at = 0
    for number, character in enumerate(text):
        assert number == (at if place is None else place(at))
        at += len(character.encode(errors="surrogatepass"))
    assert place is None or place(len(said)) == len(text)
