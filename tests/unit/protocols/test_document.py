"""A body as channels, and written back."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

import pytest

from ext_proc.model import Edit
from ext_proc.protocols.document import DEPTH_MAX, NESTED_LEVELS, Document
from ext_proc.protocols.json_text import JsonError, render


def document(tree: Any) -> Document:
    made = Document("generic", "generic", b"", lambda: render(tree).encode())
    made.add_tree(tree)
    return made


def channels(tree: Any) -> list[tuple[str, str, str, str]]:
    return [(one.path, one.text, one.kind, one.context) for one in document(tree).channels]


def replaced(tree: Any, old: str, new: str) -> Any:
    """The tree with ``old`` replaced in every channel."""
    made = document(tree)
    edits: dict[int, list[Edit]] = {}
    for index, channel in enumerate(made.channels):
        at = channel.text.find(old)
        while at >= 0:
            edits.setdefault(index, []).append(Edit(at, at + len(old), new))
            at = channel.text.find(old, at + len(old))
    return json.loads(made.rewritten(edits))


def test_keys_texts_and_numbers_are_channels() -> None:
    assert channels({"a": "x", "b": [{"c": 1234, "d": 12, "e": True, "f": None, "g": 0.25}]}) == [
        ("", "a", "key", ""), ("/a", "x", "text", "a"), ("", "b", "key", ""), ("/b/0", "c", "key", ""), ("/b/0/c", "1234", "number", "c"),
        ("/b/0", "d", "key", ""), ("/b/0", "e", "key", ""), ("/b/0", "f", "key", ""), ("/b/0", "g", "key", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, None), (1000, "1000"), (-1000, "-1000"), (10**20, str(10**20)), (1e15, "1000000000000000"), (1234.0, "1234"), (1234.5, None), (123456789.5, "123456789.5"), (True, None), (1e300, "1e+300")],
)  # fmt: skip
def test_numbers(value: float, text: str | None) -> None:
    found = [one[1] for one in channels([value]) if one[2] == "number"]
    assert found == ([] if text is None else [text])


def test_long_lists_of_numbers_are_structure_below_nine_digits() -> None:
    made = document([*range(50_000, 50_016), 123456789])
    assert [one.text for one in made.channels] == ["123456789"]
    assert made.structure_bytes == 16 * 8
    assert len(document([50_000] * 16).channels) == 16


def test_nested_json_is_opened() -> None:
    assert channels({"a": '{"b": "\\u0078", "n": 4111111111111111}'})[1:] == [
        ("/a", "b", "key", ""), ("/a/b", "x", "text", "b"), ("/a", "n", "key", ""), ("/a/n", "4111111111111111", "number", "n"),
    ]  # fmt: skip
    assert channels(["{} x"]) == [("/0", "{} x", "text", "")]
    assert channels(['{"a":1,"a":2}']) == [("/0", '{"a":1,"a":2}', "text", "")]
    assert channels(['"x"', "12", "true"]) == [
        ("/0", '"x"', "text", ""),
        ("/1", "12", "text", ""),
        ("/2", "true", "text", ""),
    ]


def test_nested_levels() -> None:
    value = "deep"
    for _ in range(NESTED_LEVELS + 1):
        value = json.dumps([value])
    texts = [one[1] for one in channels([value])]
    assert texts == ['["deep"]']


def test_depth() -> None:
    def deep(levels: int) -> Any:
        value: Any = "x"
        for _ in range(levels):
            value = [value]
        return value

    assert channels(deep(DEPTH_MAX + 1))
    for tree in (deep(DEPTH_MAX + 2), [json.dumps(deep(DEPTH_MAX + 2))]):
        with pytest.raises(JsonError, match="deep"):
            document(tree)


def test_text_parts_are_one_channel_with_cuts() -> None:
    tree = {
        "content": [
            {"type": "text", "text": "ab"},
            {"type": "image"},
            {"type": "text", "text": "cde"},
            {"text": '{"j":"k"}'},
            {"text": 5},
        ]
    }
    [parts] = [one for one in document(tree).channels if one.cuts]
    assert (parts.text, parts.cuts, parts.path) == ("abcde", (2, 5), "/content/*/text")
    assert [one.text for one in document(tree).channels].count("ab") == 0
    assert replaced(tree, "bc", "[X]")["content"][0]["text"] == "a[X]"
    assert not any(one.cuts for one in document({"content": [{"text": "only"}]}).channels)


def test_edits_are_written_where_they_belong() -> None:
    tree = {"x": ["bob", {"bob": "say bob or bob", "n": '{"bob":["bob"]}'}], "s": 4111111111111111}
    assert replaced(tree, "bob", "[E]") == {
        "x": ["[E]", {"[E]": "say [E] or [E]", "n": '{"[E]":["[E]"]}'}],
        "s": 4111111111111111,
    }
    assert replaced(tree, "4111111111111111", "[C]")["s"] == "[C]"


def test_without_edits_it_is_the_same() -> None:
    tree = {"b": [1, 2.5, None, True, ' {"a" : 1} '], "a": {"": ""}}
    assert json.loads(document(tree).rewritten({})) == tree
    assert json.loads(document(tree).rewritten({0: ()})) == tree


def test_renamed_keys_keep_their_order_and_do_not_swallow_each_other() -> None:
    made = replaced({"x1": 1, "bob": 2, "[E]": 3, "x2": 4, "<bob>": 5}, "bob", "[E]")
    assert list(made.items()) == [("x1", 1), ("[E]_2", 2), ("[E]", 3), ("x2", 4), ("<[E]>", 5)]
    many = document({"bob a": 1, "bob b": 2, "c": 3, "bob d": 4})
    edits = {
        index: [Edit(0, len(one.text), "[E]")] for index, one in enumerate(many.channels) if one.text.startswith("bob")
    }
    assert json.loads(many.rewritten(edits)) == {"[E]": 1, "[E]_2": 2, "c": 3, "[E]_3": 4}


def test_nested_text_under_a_renamed_key() -> None:
    """Written the other way round, the old key would come back."""
    assert replaced({"bob": '{"a":"bob"}'}, "bob", "[E]") == {"[E]": '{"a":"[E]"}'}
    assert replaced({"bob": json.dumps({"bob": json.dumps({"bob": "bob"})})}, "bob", "[E]") == {
        "[E]": '{"[E]":"{\\"[E]\\":\\"[E]\\"}"}'
    }


def test_untouched_nested_text_stays_as_it_was_written() -> None:
    assert replaced({"a": ' {"x" : 1.0} ', "b": "bob"}, "bob", "[E]") == {"a": ' {"x" : 1.0} ', "b": "[E]"}


@pytest.mark.parametrize(
    ("pieces", "edit", "left"),
    [
        (["ab", "cd", "ef"], (1, 5), ["a[X]", "", "f"]),
        (["ab", "cd", "ef"], (2, 4), ["ab", "[X]", "ef"]),
        (["ab", "", "cd"], (0, 4), ["[X]", "", ""]),
        (["ab", "cd"], (0, 1), ["[X]b", "cd"]),
        (["ab", "cd"], (3, 4), ["ab", "c[X]"]),
    ],
)
def test_pieces(pieces: list[str], edit: tuple[int, int], left: list[str]) -> None:
    holders = [{"t": piece} for piece in pieces]
    made = document(holders[:0])
    made.add_fragments([(holder, "t", ()) for holder in holders], "/t", "")
    made.rewritten({0: [Edit(*edit, "[X]")]})
    assert [holder["t"] for holder in holders] == left


def test_what_says_the_same_elsewhere_goes_with_an_edit() -> None:
    holders: list[dict[str, Any]] = [{"t": "ab", "bytes": [1]}, {"t": "cd", "bytes": [2]}]
    made = document([])
    made.add_fragments([(one, "t", ((one, "bytes", None),)) for one in holders], "/t", "")
    made.rewritten({0: [Edit(3, 4, "")]})
    assert holders == [{"t": "ab", "bytes": [1]}, {"t": "c", "bytes": None}]


def test_paths_are_short_and_unambiguous() -> None:
    paths = [one[0] for one in channels({"a/b~c": {"k" * 1000: "x"}})]
    assert paths == ["", "/a~1b~0c", "/a~1b~0c/*"]


def test_json_arguments_in_pieces() -> None:
    holders = [{"a": piece} for piece in ('{"to":"b', "\\u006f", 'b"}')]
    made = document([])
    made.add_fragments([(one, "a", ()) for one in holders], "/a", "arguments", is_json=True)
    assert [one.text for one in made.channels] == ["to", "bob"]
    made.rewritten({1: [Edit(0, 3, "[E]")]})
    assert [one["a"] for one in holders] == ['{"to":"[E]"}', "", ""]


BAIT = {
    "one long key above many": lambda n: {"k" * n: ["x"] * n},
    "keys to rename": lambda n: {f"bob{at}": 1 for at in range(n)},
    "nested texts to rewrite": lambda n: ['["bob"]'] * n,
    "parts": lambda n: [{"text": "bob"} for _ in range(n)],
    "edits in one text": lambda n: "bob " * n,
}


@pytest.mark.parametrize("name", BAIT)
def test_linear(name: str) -> None:
    def seconds(n: int) -> float:
        def once() -> float:
            tree = [BAIT[name](n)]
            begin = process_time()
            replaced(tree, "bob", "[E]")
            return process_time() - begin

        return min(once() for _ in range(5))

    # Quadratic would be 64 times; the machine's own noise has been 26 (the caches are full, and others want them).
    assert seconds(8000) <= max(seconds(1000), 0.003) * 8 * 5
