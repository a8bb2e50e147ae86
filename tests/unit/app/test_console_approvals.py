"""`ext_proc.app.console_approvals`: bodies as people read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ext_proc.app import console_approvals
from ext_proc.app.console_approvals import LABEL_MAX, PASSAGES_MAX, passages, segments
from ext_proc.console.seen import Segment


def test_texts_one_by_one_with_what_stands_in_the_place_of_values() -> None:
    body = {"messages": [{"content": "mail [EMAIL] or <PHONE_QWRTZB>."}], "n": 2}
    [text, number] = passages(json.dumps(body))
    assert text.label == "messages/0/content"
    assert text.segments == (
        Segment("mail "), Segment("[EMAIL]", "EMAIL", "mask"), Segment(" or "),
        Segment("<PHONE_QWRTZB>", "PHONE", "tokenise"), Segment("."),
    )  # fmt: skip
    assert (number.label, number.segments) == ("n", (Segment("2"),))


def test_what_is_no_json_is_one_text() -> None:
    assert [one.label for one in passages("not json")] == ["body"]
    assert passages("") == ()
    assert segments("") == (Segment(""),)


@pytest.mark.parametrize(
    "body",
    [
        {"a": list(range(PASSAGES_MAX + 1))},
        {"x" * 60_000: list(range(30_000))},
        {"a": {str(number): "b" for number in range(5000)}},
    ],
)
def test_many_texts_are_shown_as_they_are_written_and_nothing_is_left_out(body: Any) -> None:
    """Each text once: what people are shown never grows with where it stands."""
    told = json.dumps(body)
    shown = passages(told)
    assert [one.label for one in shown] == ["body"]
    assert "".join(one.text for one in shown[0].segments) == told


def test_long_names_are_texts_of_their_own() -> None:
    name = "n" * (LABEL_MAX + 1)
    shown = passages(json.dumps({"a": {name: {name: "v"}}}))
    assert all(len(one.label) <= LABEL_MAX + len("/(name of a member)") for one in shown)
    assert [one.segments[0].text for one in shown] == [name, name, "v"]


def test_deep_bodies_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "[" * 900 + "1" + "]" * 900
    assert passages(told)
    monkeypatch.setattr(console_approvals.json, "loads", lambda _: (_ for _ in ()).throw(RecursionError))
    assert [one.label for one in passages(told)] == ["body"]
