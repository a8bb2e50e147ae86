from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.audit.record import LEAF_MAX_BYTES, build_leaf, canonical, instant, leaf_hash, media_type
from ext_proc.errors import IntegrityError
from tests.fakes.log import AT

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"]))
)
KEYS = st.text(st.characters(codec="ascii"))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30
)


@given(VALUES)
def test_canonical_is_rfc_8785(value):
    ours = canonical(value)
    assert ours == rfc8785.dumps(value)
    assert json.loads(ours) == value
    assert b"\n" not in ours and b"\r" not in ours  # a leaf is a line


def test_line_separators_of_unicode_do_not_split_a_line():
    leaf = canonical({"a": "x\u2028y\u0085z\x0b\x1c"})
    assert (leaf + b"\n" + leaf + b"\n").splitlines() == [leaf, leaf]


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        b"bytes",
        {"ü": 1},
        {1: 2},
        {"a": [{"b": 0.5}]},
        {"a": ("x", 1.5)},
        {1, 2},
        AT,
        "\ud800",
        {"a": "x\udfff"},
    ],
)
def test_what_not_every_reader_reads_alike_is_refused(value):
    with pytest.raises(IntegrityError):
        canonical(value)


def test_leaf_hash_is_rfc_6962s():
    assert leaf_hash(b"") == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"x") == hashlib.sha256(b"\x00x").hexdigest()


def leaf(fields, listed=()):
    return build_leaf("inference.outcome", origin="o/r/e", sequence=7, at=AT, fields=fields, listed=listed)


def test_a_leaf_says_what_it_is_whatever_the_fields_say():
    read = json.loads(leaf({"kind": "log.close", "sequence": 0, "origin": "x", "schema": "y", "at": "z", "a": 1}))
    assert read == {
        "schema": "affidavit/v1",
        "kind": "inference.outcome",
        "origin": "o/r/e",
        "sequence": 7,
        "at": "2026-11-24T12:00:00.123456Z",
        "a": 1,
    }


def redaction(count, unlisted=0):
    spans = [{"channel": "messages[0].content", "start": n, "end": n + 9, "entity": "EMAIL"} for n in range(count)]
    return {"spans": spans, "spans_unlisted": unlisted, "removed": [{"entity": "EMAIL", "count": count + unlisted}]}


def test_a_long_leaf_lists_fewer_spans_and_counts_what_it_left_out():
    fields = {"request_redaction": redaction(400, 3), "response_redaction": redaction(20)}
    made = leaf(fields, ("request_redaction", "response_redaction"))
    read = json.loads(made)
    assert len(made) <= LEAF_MAX_BYTES
    assert read["request_redaction"]["spans"] == []
    assert read["request_redaction"]["spans_unlisted"] == 403
    assert read["request_redaction"]["removed"] == [{"entity": "EMAIL", "count": 403}]
    assert read["response_redaction"] == redaction(20), "no more than needed is left out"


def test_both_lists_go_if_need_be():
    fields = {"request_redaction": redaction(400), "response_redaction": redaction(400)}
    read = json.loads(leaf(fields, ("request_redaction", "response_redaction")))
    assert [read[name]["spans_unlisted"] for name in fields] == [400, 400]


def test_a_leaf_that_fits_is_left_alone():
    read = json.loads(leaf({"request_redaction": redaction(10)}, ("request_redaction", "response_redaction")))
    assert len(read["request_redaction"]["spans"]) == 10


@pytest.mark.parametrize("fields", [{"a": "x" * LEAF_MAX_BYTES}, {"request_redaction": None, "a": ["y" * 99] * 200}])
def test_a_leaf_too_large_all_the_same_is_refused(fields):
    with pytest.raises(IntegrityError):
        leaf(fields, ("request_redaction",))


def test_instants_have_microseconds_always():
    assert instant(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000Z"
    assert instant(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "2026-01-02T03:04:05.000006Z"


def test_instants_are_utc_wherever_they_come_from():
    there = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert instant(there) == "2026-01-02T01:04:05.000000Z"


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("Application/JSON; charset=utf-8", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("", "other"),
        ("my name is Ada", "other"),
        ("a/" + "b" * 65, "other"),
        ("application/json\nx", "other"),
    ],
)
def test_a_content_type_is_no_place_for_free_text(raw, read):
    assert media_type(raw) == read
