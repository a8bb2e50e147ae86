"""`ext_proc.app.approval.passages`: bodies as people read them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ext_proc.app.approval import holds
from ext_proc.app.approval import passages as module
from ext_proc.app.approval.channels import readable
from ext_proc.app.approval.passages import LABEL_MAX, MARKS_MAX, PASSAGES_MAX, Mark, marks_of, passages
from ext_proc.approval.channels.message import plain
from ext_proc.console.seen import Segment
from ext_proc.model import Action, ExchangeId, Identity, Removal
from tests.fakes.desks import MASKED, an_asking


def a_mark(channel: str, start: int, end: int, entity: str = "EMAIL", action: Action = Action.MASK) -> Removal:
    return Removal(f"/{channel}", start, end, entity, "rule", "1", action)


def shown_of(body: Any, forwarded: Any, *removals: Removal) -> dict[str, tuple[Segment, ...]]:
    told = json.dumps(forwarded)
    _, goes = marks_of(json.dumps(body), told, removals)
    return {one.label: one.segments for one in passages(told, goes)}


def test_texts_one_by_one_with_what_stands_in_the_place_of_values() -> None:
    body = {"messages": [{"content": "mail a@b.example or 0301234."}], "n": 2}
    masked = {"messages": [{"content": "mail [EMAIL] or <PHONE_QWRTZB>."}], "n": 2}
    place = "messages/0/content"
    shown = shown_of(body, masked, a_mark(place, 5, 16), a_mark(place, 20, 27, "PHONE", Action.TOKENISE))

    assert shown[place] == (
        Segment("mail "), Segment("[EMAIL]", "EMAIL", "mask"), Segment(" or "),
        Segment("<PHONE_QWRTZB>", "PHONE", "tokenise"), Segment("."),
    )  # fmt: skip
    assert shown["n"] == (Segment("2"),)


def test_what_a_caller_writes_themselves_is_not_marked_as_masked() -> None:
    body = {"a": "[EMAIL] is a@b.example, [PERSON]", "b": "<PHONE_QWRTZB>", "c": "\u005bEMAIL]"}
    masked = {**body, "a": "[EMAIL] is [EMAIL], [PERSON]"}
    shown = shown_of(body, masked, a_mark("a", 11, 22))

    assert shown["a"] == (Segment("[EMAIL] is "), Segment("[EMAIL]", "EMAIL", "mask"), Segment(", [PERSON]"))
    assert shown["b"] == (Segment("<PHONE_QWRTZB>"),) and shown["c"] == (Segment("[EMAIL]"),)
    assert passages(json.dumps(masked))[0].segments == (Segment(masked["a"]),), "nor without a record"


@pytest.mark.parametrize(
    ("body", "masked"),
    [
        ({"x/y": "[EMAIL] a@b.example", "x": {"y": "a@b.example"}}, {"x/y": "[EMAIL] [EMAIL]", "x": {"y": "[EMAIL]"}}),
        ({"x/y": '{"a@b.example": "[EMAIL]"}'}, {"x/y": '{"[EMAIL]": "[EMAIL]"}'}),
    ],
)
def test_names_that_look_like_places_mark_nothing(body: Any, masked: Any) -> None:
    shown = shown_of(body, masked, a_mark("x/y", 0, 11))

    assert [segment for one in shown.values() for segment in one if segment.entity] == []


def test_what_came_is_marked_where_it_stood() -> None:
    body, masked = json.dumps({"a": "to a@b.example [EMAIL]"}), json.dumps({"a": "to [EMAIL] [EMAIL]"})
    came, _ = marks_of(body, masked, [a_mark("a", 3, 14)])

    assert passages(body, came)[0].segments == (
        Segment("to "), Segment("a@b.example", "EMAIL", "mask"), Segment(" [EMAIL]"),
    )  # fmt: skip


@pytest.mark.parametrize("clear_to", [(), ("privacy",)])
def test_hold_keeps_its_marks_and_those_of_the_clear_text_only_for_who_may_read_it(clear_to: tuple[str, ...]) -> None:
    asking = an_asking(ExchangeId("x"), Identity("https://idp.example", "ada", "oidc"), clear_to=clear_to)
    redaction = replace(asking.forwarded, removals=(a_mark("ask", 0, 15),))
    shown = json.loads(json.dumps(holds._shown(replace(asking, forwarded=redaction))))

    assert shown["text"] == MASKED.decode()
    assert [Mark(*one) for one in shown["marks"]] == [Mark("ask", 0, 7, "EMAIL", "mask")]
    assert shown.get("clear_marks") == ([["ask", 0, 15, "EMAIL", "mask"]] if clear_to else None)


def test_marks_are_bounded() -> None:
    count = MARKS_MAX + 5
    body, masked = {"a": "a@b.example " * count}, {"a": "[EMAIL] " * count}
    shown = shown_of(body, masked, *(a_mark("a", 12 * number, 12 * number + 11) for number in range(count)))

    assert sum(one.entity is not None for one in shown["a"]) == MARKS_MAX
    assert "".join(one.text for one in shown["a"]) == masked["a"]


def test_what_is_no_json_is_one_text() -> None:
    assert [one.label for one in passages("not json")] == ["body"]
    assert passages("") == ()
    assert passages('""')[0].segments == (Segment(""),)


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
    monkeypatch.setattr(module.json, "loads", lambda _: (_ for _ in ()).throw(RecursionError))
    assert [one.label for one in passages(told)] == ["body"]


HIDDEN = "".join(chr(0xE0000 + ord(one)) for one in "wire")


def test_what_models_read_and_screens_do_not_show_is_shown() -> None:
    """Tags, what turns the direction round, zero width, variation selectors: in texts, names, and marked spans."""
    told = json.dumps({"a": f"Hello{HIDDEN}", "b\u202e": "x\u202ey\u2066\u200b\ufe01", "c": "mail a\u200b@b.example"})
    shown = {one.label: one.segments for one in passages(told, [Mark("c", 5, 17, "EMAIL", "mask")])}

    assert shown["a"][0].text == "Hello[U+E0077][U+E0069][U+E0072][U+E0065]"
    assert shown["b[U+202E]"][0].text == "x[U+202E]y[U+2066][U+200B][U+FE01]"
    assert shown["c"] == (Segment("mail "), Segment("a[U+200B]@b.example", "EMAIL", "mask"))
    for text in (
        "\n\tGr\u00fc\u00dfe, \u3053\u3093\u306b\u3061\u306f\u3000\u0939\u093f",
        "\u00a0\u2764\ufe0f \u0031\ufe0f",
    ):
        assert passages(json.dumps({"a": text}))[0].segments[0].text == text, "what is visible stays as it is"
    assert "a: Hello[U+E0077]" in readable(told)
    assert not [one for one in plain(f"demo{HIDDEN}\u2066\ufe0f") if ord(one) > 127]
