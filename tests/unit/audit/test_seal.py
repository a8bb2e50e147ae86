from __future__ import annotations

import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.audit import frames
from ext_proc.audit.record import build_leaf, leaf_hash
from ext_proc.audit.seal import read_events, read_pack, reopen, seal, seal_leaves
from ext_proc.errors import IntegrityError
from tests.fakes.log import AT

CIPHERTEXTS = st.lists(st.lists(st.binary(max_size=60), max_size=3), min_size=1, max_size=5)


def leaf_of(sequence, origin="audit.example/gw-0/e1", kind="inference.intent"):
    return build_leaf(kind, origin=origin, sequence=sequence, at=AT, fields={"n": sequence})


def a_segment(ciphertexts, first=5):
    carry = frames.encode_carry(first, "audit.example/gw-0/e1", [])
    return carry + b"".join(
        frames.encode_leaf(first + index, leaf_of(first + index), some) for index, some in enumerate(ciphertexts)
    )


@given(CIPHERTEXTS)
def test_leaves_and_ciphertexts_come_back_in_order(ciphertexts):
    *packs, events = seal(a_segment(ciphertexts)).objects
    assert list(read_events(events.body)) == [leaf_of(5 + n) for n in range(len(ciphertexts))]
    flat = [one for some in ciphertexts for one in some]
    assert len(packs) == bool(flat), "the pack comes first: events never point to what is not there yet"
    for pack in packs:
        assert list(read_pack(pack.body)) == [(hashlib.sha256(one).hexdigest(), one) for one in flat]


@given(CIPHERTEXTS)
def test_the_same_segment_makes_the_same_objects(ciphertexts):
    assert seal(a_segment(ciphertexts)) == seal(a_segment(ciphertexts))


@given(CIPHERTEXTS)
def test_a_key_is_a_function_of_the_content_and_its_place(ciphertexts):
    last = 5 + len(ciphertexts) - 1
    place = "dt=2026-11-24/hour=12/replica=gw-0/epoch=e1"
    for one in seal(a_segment(ciphertexts)).objects:
        assert one.sha256 == hashlib.sha256(one.body).hexdigest()
        kind, suffix = ("payload", "pack") if one.key.endswith(".pack") else ("events", "jsonl.zst")
        assert one.key == f"v1/{kind}/{place}/{5:016d}-{last:016d}-{one.sha256[:16]}.{suffix}"


def test_other_content_has_another_key():
    keys = {
        one.key for content in ([b"a"], [b"b"]) for one in seal(a_segment([content])).objects if "payload" in one.key
    }
    assert len(keys) == 2


def test_keys_are_plain():
    assert all(re.fullmatch(r"[a-zA-Z0-9=./_-]+", one.key) for one in seal(a_segment([[b"x"]])).objects)


def test_a_segment_of_only_a_carry_makes_nothing():
    assert seal(frames.encode_carry(5, "o", [])) is None
    assert seal(b"") is None


@pytest.mark.parametrize("damage", ["zeros behind", "cut", "flipped", "noise behind"])
def test_a_segment_that_does_not_check_from_end_to_end_is_refused(damage):
    good = a_segment([[b"x"], []])
    bad = {
        "zeros behind": good + b"\0",
        "cut": good[:-1],
        "flipped": good[:30] + bytes([good[30] ^ 1]) + good[31:],
        "noise behind": good + b"AFW1",
    }[damage]
    with pytest.raises(IntegrityError):
        seal(bad)


@pytest.mark.parametrize(
    "leaf",
    [
        b"not json",
        b"[]",
        b'"text"',
        b'{"origin":"a/b/c"}',
        b'{"at":"2026-11-24T12:00:00Z"}',
        b'{"origin":"noslash","at":"2026-11-24T12:00:00Z"}',
        b'{"origin":7,"at":"2026-11-24T12:00:00Z"}',
        b'{"origin":"a/b/c","at":7}',
    ],
)
def test_leaves_of_nonsense_in_a_segment_that_checks_are_refused(leaf):
    with pytest.raises(IntegrityError):
        seal(frames.encode_leaf(0, leaf, []))


@pytest.mark.parametrize("cut", [1, 4, 5, 20, 44, 50])
def test_a_pack_cut_off_is_no_pack(cut):
    pack = seal(a_segment([[b"x" * 20]])).objects[0]
    whole = pack.body
    if cut == 4:  # exactly the magic: an empty pack
        assert list(read_pack(whole[:cut])) == []
        return
    with pytest.raises(IntegrityError):
        list(read_pack(whole[:cut]))


def test_an_events_line_is_the_leaf_s_exact_bytes():
    *_, events = seal(a_segment([[]])).objects
    [line] = read_events(events.body)
    assert json.loads(line)["n"] == 5 and line == leaf_of(5)


def test_what_the_tree_and_the_digest_need_of_a_segment():
    made = seal(a_segment([[], [b"x"], []]))
    assert (made.origin, made.first, made.last) == ("audit.example/gw-0/e1", 5, 7)
    assert (made.first_at, made.last_at) == ("2026-11-24T12:00:00.123456Z",) * 2
    assert [one.hex() for one in made.leaf_hashes] == [leaf_hash(leaf_of(n)) for n in (5, 6, 7)]
    assert made.counts == {"inference.intent": 3}
    assert made.end is None


@pytest.mark.parametrize(("kind", "end"), [("log.close", "close"), ("log.recovered", "recovered"), ("heartbeat", None)])
def test_how_the_log_ends(kind, end):
    assert seal_leaves(0, [leaf_of(0), leaf_of(1, kind=kind)], ()).end == end


@given(CIPHERTEXTS)
def test_what_was_sealed_can_be_told_from_its_objects(ciphertexts):
    made = seal(a_segment(ciphertexts))
    assert reopen(5, made.objects) == made


@pytest.mark.parametrize(
    "leaves",
    [
        [leaf_of(0), leaf_of(2)],
        [leaf_of(1), leaf_of(0)],
        [leaf_of(0), leaf_of(0)],
        [leaf_of(0), leaf_of(1, "audit.example/gw-0/e2")],
        [leaf_of(7)],
    ],
)
def test_leaves_that_do_not_follow_one_another_in_one_log_are_refused(leaves):
    with pytest.raises(IntegrityError):
        seal_leaves(0, leaves, ())
    with pytest.raises(IntegrityError):
        seal(b"".join(frames.encode_leaf(n, leaf, []) for n, leaf in enumerate(leaves)))
