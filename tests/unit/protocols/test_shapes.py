"""Looking into JSON that somebody else wrote never fails."""

from __future__ import annotations

from ext_proc.protocols import shapes

BODY = {"a": {"b": ["x", 2, True, None, {"c": []}]}, "n": 7}


def test_a_count_is_whole_and_not_out_of_this_world() -> None:
    told = [0, 2**53 - 1, 2**53, -1, 1.0, True, "1", None]
    assert [shapes.count(told, at) for at in range(len(told))] == [0, 2**53 - 1, *[None] * 6]


def test_of_the_expected_type_or_none() -> None:
    assert shapes.at(BODY, "a", "b", 0) == shapes.text(BODY, "a", "b", 0) == "x"
    assert shapes.text(BODY, "n") is shapes.text(BODY, "a", "b", 9) is shapes.text(None, "a") is None
    assert (shapes.number(BODY, "n"), shapes.number(BODY, "a", "b", 2), shapes.number(BODY, "a")) == (7, None, None)
    assert shapes.items(BODY, "a", "b", 4, "c") == shapes.items(BODY, "n") == shapes.items("x", 0) == []
    assert shapes.at(BODY, "a", 0) is shapes.at(BODY, "a", "b", "c") is None
