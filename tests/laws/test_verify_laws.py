"""Laws of the verifier: its tree is RFC 6962's, its canonical form RFC 8785's, and no bytes make it fall over."""

from __future__ import annotations

import io
import struct
from datetime import timedelta

import orjson
import pytest
import rfc8785
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.verify import notes
from ext_proc.verify.leaves import Asked, Reading
from ext_proc.verify.packs import read_pack
from ext_proc.verify.shapes import Shapes
from ext_proc.verify.source import Lock, Opened
from ext_proc.verify.tree import Range, root_of_inclusion
from tests.fakes.forge import SIGNER, canonical, compressed, inclusion, leaf_hash, sha, tree_root

ORIGIN = "g/log/epoch"


def opened(body: bytes) -> Opened:
    return Opened(io.BytesIO(body), Lock(None, None))


def read(body: bytes, first: int, count: int):
    asked = Asked(ORIGIN, first, first + count - 1, (), timedelta(seconds=300), timedelta(seconds=180))
    return Reading(asked, Shapes()).run(opened(body))


@given(st.integers(0, 300), st.lists(st.integers(1, 120), max_size=6))
def test_a_tree_in_pieces_is_the_tree(size, cuts):
    hashes = [leaf_hash(struct.pack(">I", n)) for n in range(size)]
    whole, at = Range(0), 0
    for cut in [*cuts, size]:
        part = Range(at)
        part.add_leaves(hashes[at : min(at + cut, size)])
        whole.add_range(part.nodes)
        at = part.end
        assert whole.root_hash() == tree_root(hashes[:at])
    whole.add_leaves(hashes[at:])
    assert whole.root_hash() == tree_root(hashes)


def test_a_large_tree():
    hashes = [leaf_hash(struct.pack(">I", n)) for n in range(5000)]
    whole = Range(0)
    whole.add_leaves(hashes)
    assert whole.root_hash() == tree_root(hashes)
    assert len(whole.nodes) == (5000).bit_count()


@given(st.integers(1, 200), st.data())
def test_inclusion_proofs(size, data):
    hashes = [leaf_hash(struct.pack(">I", n)) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = inclusion(hashes, index)
    assert root_of_inclusion(index, size, hashes[index], path) == tree_root(hashes)
    assert root_of_inclusion(index, size, hashes[index], [*path, bytes(32)]) != tree_root(hashes)
    if path:
        assert root_of_inclusion(index, size, hashes[index], path[:-1]) != tree_root(hashes)
        other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index))
        assert root_of_inclusion(other, size, hashes[index], path) != tree_root(hashes)
    assert root_of_inclusion(size, size, hashes[index], path) is None


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
)


def leaf(value, sequence: int = 0) -> dict:
    return {
        "schema": "affidavit/v1", "kind": "heartbeat", "origin": ORIGIN, "sequence": sequence,
        "at": "2026-11-24T22:00:00.000000Z", "x": value,
    }  # fmt: skip


@given(VALUES)
def test_what_rfc_8785_writes_is_valid(value):
    body = compressed([rfc8785.dumps(leaf(value))])
    assert read(body, 0, 1).faults == []


@given(VALUES)
def test_any_other_form_of_it_is_not(value):
    line = rfc8785.dumps(leaf(value))
    spaced = line.replace(b'"kind":', b'"kind": ', 1)
    assert [code for code, _ in read(compressed([spaced]), 0, 1).faults] == ["leaf_invalid"]
    told = orjson.dumps(leaf(value))  # not sorted
    assert [code for code, _ in read(compressed([told]), 0, 1).faults] == ["leaf_invalid"]


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.one_of(FLOATS, st.lists(FLOATS, min_size=1, max_size=3), st.dictionaries(KEYS, FLOATS, min_size=1, max_size=2)),
    VALUES,
)
def test_a_float_is_never_valid(value, beside):
    line = orjson.dumps(leaf([beside, value]), None, orjson.OPT_SORT_KEYS)
    assert "leaf_invalid" in [code for code, _ in read(compressed([line]), 0, 1).faults]
    line = orjson.dumps({**leaf(value), "y": beside}, None, orjson.OPT_SORT_KEYS)
    assert "leaf_invalid" in [code for code, _ in read(compressed([line]), 0, 1).faults]


@pytest.mark.parametrize("text", ["issuer.example, e.g.", "https://x/e,e", "[.e", '":.5', '":e1', "true", "1.5", ",e"])
def test_a_text_that_looks_like_a_float_is_valid(text):
    assert read(compressed([rfc8785.dumps(leaf({"a": text, "b": [text, True, False, None, 1]}))]), 0, 1).faults == []


@given(st.lists(VALUES, min_size=1, max_size=40), st.integers(0, 100))
def test_an_object_gives_its_range_of_the_tree(values, first):
    lines = [rfc8785.dumps(leaf(value, first + n)) for n, value in enumerate(values)]
    facts = read(compressed(lines), first, len(lines))
    assert facts.faults == []
    assert facts.leaves == len(lines)
    whole = Range(0)
    before = [leaf_hash(b"%d" % n) for n in range(first)]
    whole.add_leaves(before)
    whole.add_range(facts.nodes)
    assert whole.root_hash() == tree_root(before + [leaf_hash(line) for line in lines])


@given(st.integers(0, 2**32), st.integers(0, 7), st.data())
def test_frames_may_be_cut_anywhere(seed, cuts, data):
    lines = [canonical(leaf(f"{seed}{n}", n)) for n in range(20)]
    text = b"".join(line + b"\n" for line in lines)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=cuts, max_size=cuts)))
    parts = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    body = b"".join(zstandard.ZstdCompressor().compress(part) for part in parts)
    assert read(body, 0, 20).faults == []


@settings(max_examples=300)
@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda one: zstandard.ZstdCompressor().compress(one)))
def test_no_bytes_make_the_reader_of_leaves_fall_over(body):
    assert read(body, 0, 5).faults


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_of_packs_fall_over(body):
    read_pack(opened(body))
    read_pack(opened(b"AFP1" + body))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_of_notes_fall_over(body):
    for data in (body, body + b"\n\n" + body + b"\n", "a\n\n— a ".encode() + body + b"\n"):
        try:
            note = notes.parse(data)
        except notes.NoteError:
            continue
        notes.signer(note, "a", [SIGNER.public])
        for what in (notes.checkpoint, lambda one: notes.fields(one, "x", {})):
            try:
                what(note)
            except notes.NoteError:
                continue


@given(st.integers(0, 10**6), st.data())
def test_a_flipped_bit_of_a_note_is_refused(size, data):
    text = b"origin\n%d\n" % size + b"A" * 43 + b"=\n"
    note = SIGNER.note("origin", text)
    at, bit = data.draw(st.integers(0, len(note) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(note)
    changed[at] ^= 1 << bit
    try:
        found = notes.signer(notes.parse(bytes(changed)), "origin", [SIGNER.public])
    except notes.NoteError:
        return
    assert found in ("signature_invalid", "signature_unknown_key")


def test_packs():
    texts = [b"a" * 40, b"b" * (3 << 20), b"c" * 28]
    body = b"AFP1" + b"".join(bytes.fromhex(sha(one)) + struct.pack(">Q", len(one)) + one for one in texts)
    facts = read_pack(opened(body))
    assert (facts.faults, facts.ciphertexts, facts.sha256) == ([], 3, sha(body))
    huge = b"AFP1" + bytes(32) + struct.pack(">Q", 2**63) + b"x" * 100
    assert [code for code, _ in read_pack(opened(huge)).faults] == ["object_unreadable"]
