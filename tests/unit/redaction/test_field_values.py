"""What texts of fields become: whole and in pieces alike; a date stays one of its form, and no digit of it stays."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.model import FieldAction, FieldRule, Keep
from ext_proc.redaction import FieldMasker, FieldValues
from ext_proc.redaction.field_values import masked_date

VALUES = FieldValues(b"k" * 32)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1984-05-06", "%Y-%m-%d"),
        ("1984/05/06", "%Y/%m/%d"),
        ("06.05.1984", "%d.%m.%Y"),
        ("05/06/1984", "%m/%d/%Y"),
        ("6.5.1984", "%d.%m.%Y"),
        ("19840506", "%Y%m%d"),
        ("1984-05", "%Y-%m"),
        ("1984", "%Y"),
        ("1984-05-06T07:08:09", "%Y-%m-%dT%H:%M:%S"),
        ("1984-05-06 07:08", "%Y-%m-%d %H:%M"),
        ("1984-05-06T07:08:09.123456", "%Y-%m-%dT%H:%M:%S.%f"),
        ("1984-05-06T07:08:09Z", "%Y-%m-%dT%H:%M:%S%z"),
        ("1984-05-06T07:08:09-05:00", "%Y-%m-%dT%H:%M:%S%z"),
    ],
)
def test_a_date_stays_a_date_of_its_form(text: str, form: str) -> None:
    made = masked_date(text)
    assert datetime.strptime(made, form).replace(tzinfo=UTC).year == 1900
    assert re.sub(r"\d", "0", made.replace("+", "-")) == re.sub(r"\d", "0", text.replace("+", "-"))
    assert not set(made) & set("23456789") - {"9"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "May 6th, 1984",
        "1984-05-06 and more",
        "x" * 100,
        "1984-05/06",
        "\u0660\u0666.05.1984",
        "1984-05-06T07:08:09+5",
    ],
)
def test_what_is_no_date_becomes_one(text: str) -> None:
    assert masked_date(text) == "1900-01-01"


ACTIONS = [
    (FieldAction.MASK, Keep.NONE), (FieldAction.MASK, Keep.DATE), (FieldAction.MASK, Keep.NUMBER),
    (FieldAction.MASK, Keep.EMAIL), (FieldAction.MASK, Keep.UUID), (FieldAction.MASK, Keep.LENGTH),
    (FieldAction.HASH, Keep.NONE), (FieldAction.PARTIAL, Keep.NONE), (FieldAction.DROP, Keep.NONE),
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), max_size=6), st.sampled_from(ACTIONS))
def test_in_pieces_as_whole(parts: list[str], how: tuple[FieldAction, Keep]) -> None:
    rule = FieldRule((), *how)
    masker = FieldMasker(rule, "/a", VALUES)
    made = "".join(map(masker.feed, parts)) + masker.finish()
    whole = "".join(parts)
    assert made == VALUES.said(rule, whole)
    assert [(one.start, one.end, one.channel) for one in masker.removals] == ([(0, len(whole), "/a")] if whole else [])
    assert not masker.blocked
    assert masker.flush_masked() == ""


def test_a_pseudonym_is_keyed_and_by_entity() -> None:
    def said(values: FieldValues, **more: Any) -> str:
        return values.said(FieldRule((), FieldAction.HASH, **more), "Bob")

    assert said(VALUES) == said(FieldValues(b"k" * 32)) != said(FieldValues(b"j" * 32))
    assert said(VALUES, entity="NAME")[6:] != said(VALUES)[7:]
    assert re.fullmatch(r"\[FIELD:[a-p]{8}\]", said(VALUES))


def test_who_blocks_lets_nothing_out() -> None:
    masker = FieldMasker(FieldRule((), FieldAction.BLOCK, entity="PLAN"), "/a", VALUES)
    assert (masker.feed(""), masker.blocked) == ("", ())
    assert (masker.feed("x"), masker.blocked, masker.finish()) == ("", ("PLAN",), "")
