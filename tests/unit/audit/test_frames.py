from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.audit import frames

PARTS = st.tuples(st.binary(min_size=1, max_size=200), st.lists(st.binary(max_size=100), max_size=4))


def encoded(parts):
    return [frames.encode_leaf(n, leaf, ciphertexts) for n, (leaf, ciphertexts) in enumerate(parts)]


@given(st.lists(PARTS, max_size=6), st.integers(0, 200))
def test_round_trip_with_zeros_behind(parts, zeros):
    data = b"".join(encoded(parts))
    scan = frames.scan(data + b"\0" * zeros)
    assert [(f.sequence, f.leaf, list(f.ciphertexts)) for f in scan.frames] == [
        (n, leaf, ciphertexts) for n, (leaf, ciphertexts) in enumerate(parts)
    ]
    assert (scan.good_bytes, scan.dropped_bytes) == (len(data), 0)


def test_carry_round_trip():
    told = [{"exchange_id": "a", "intent_sequence": 3}]
    [frame] = frames.scan(frames.encode_carry(9, "o/r/e", told)).frames
    assert (frame.type, frame.sequence, frame.origin, list(frame.carried)) == (frames.CARRY, 9, "o/r/e", told)


def test_what_recovery_alone_needs_round_trips():
    untaken = [{"exchange_id": "b", "outcome_sequence": 7}]
    data = frames.encode_carry(9, "o", [], untaken) + frames.encode_ended(10, [7, 2**40]) + frames.encode_ended(10, [])
    carry, ended, none = frames.scan(data).frames
    assert (list(carry.untaken), carry.carried) == (untaken, ())
    assert (ended.type, ended.ended, none.ended) == (frames.ENDED, (7, 2**40), ())


def test_torn_at_every_byte_the_whole_frames_before_are_read():
    each = [frames.encode_carry(0, "o", [{"exchange_id": "a", "intent_sequence": 0}])]
    each += encoded([(b"leaf one", [b"cipher"]), (b"leaf two", []), (b"leaf three" * 5, [b"c" * 40, b"d"])])
    data = b"".join(each)
    ends = [0]
    for one in each:
        ends.append(ends[-1] + len(one))
    for cut in range(len(data) + 1):
        whole = sum(end <= cut for end in ends) - 1
        scan = frames.scan(data[:cut] + b"\0" * 64)
        assert len(scan.frames) == whole, cut
        assert scan.good_bytes == ends[whole]
        assert scan.dropped_bytes == len(data[ends[whole] : cut].rstrip(b"\0")), "what was lost is counted"


@settings(max_examples=300)
@given(st.data())
def test_any_changed_byte_ends_the_scan_before_it(data):
    each = encoded([(b"leaf one", [b"cipher"]), (b"leaf two", []), (b"leaf three", [b"c"])])
    whole = b"".join(each)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    good = 0
    for one in each:
        if good + len(one) > at:
            break
        good += len(one)
    scan = frames.scan(bytes(changed))
    assert scan.good_bytes == good
    assert scan.dropped_bytes == len(bytes(changed)[good:].rstrip(b"\0")), "zeros at the end are room, not a loss"


@given(st.binary(max_size=300))
def test_noise_is_never_an_error(noise):
    scan = frames.scan(noise)
    assert scan.good_bytes + scan.dropped_bytes <= len(noise)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (frames.LEAF, b""),
        (frames.LEAF, b"\0\0"),
        (frames.LEAF, struct.pack(">I", 99) + b"short"),
        (frames.CARRY, b"not json"),
        (frames.CARRY, b"[]"),
        (frames.CARRY, b'{"origin":"o"}'),
        (frames.CARRY, b'{"origin":"o","open":null}'),
        (frames.CARRY, b'{"origin":"o","open":[],"untaken":null}'),
        (frames.ENDED, b"\0\0\0"),
        (frames.CARRY, b"\xff"),
        (9, b"what is this"),
    ],
)
def test_a_frame_that_checks_but_says_nonsense_is_a_bad_frame(kind, payload):
    crc = zlib.crc32(payload, zlib.crc32(struct.pack(">BIQ", kind, len(payload), 1)))
    forged = struct.pack(">4sBIQI", b"AFW1", kind, len(payload), 1, crc) + payload
    good = frames.encode_leaf(0, b"leaf", [])
    scan = frames.scan(good + forged)
    assert [f.leaf for f in scan.frames] == [b"leaf"]
    assert scan.dropped_bytes > 0
