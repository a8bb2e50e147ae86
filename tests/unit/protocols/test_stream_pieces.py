"""Tool-call arguments in pieces: what a client joins is JSON again, and what its reader sees was scanned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.protocols.json_text import render
from ext_proc.protocols.streaming.maskers import Maskers
from ext_proc.protocols.streaming.masking import StreamRefused
from ext_proc.protocols.streaming.pieces import KEY_MAX, JsonPieces
from ext_proc.protocols.streaming.strings import number_in
from tests.fakes.masker import CARD, EMAIL, FakeMaskers, masked


def through(text: str, size: int = 1 << 30, make: Any = None) -> str:
    pieces = JsonPieces(Maskers(make or FakeMaskers()), "/x", "arguments")
    return "".join(pieces.feed(text[at : at + size]) for at in range(0, len(text), size)) + pieces.finish()


CASES = [
    ("", ""),
    ("  ", "  "),
    ('{"to":"bob@example.org"}', f'{{"to":"{EMAIL}"}}'),
    (r'{"to":"bob\u0040example.org"}', f'{{"to":"{EMAIL}"}}'),
    (r'{"to":"\u0062\u006F\u0062@example\u002eorg"}', f'{{"to":"{EMAIL}"}}'),
    (r'{"to":"a \"bob@example.org\" b"}', rf'{{"to":"a \"{EMAIL}\" b"}}'),
    (r'{"to":"a\nbob@example.org\tb\/"}', rf'{{"to":"a\n{EMAIL}\tb/"}}'),
    ('{"n":4111111111111111}', f'{{"n":"{CARD}"}}'),
    ('{"n":4111111111111111.0}', f'{{"n":"{CARD}"}}'),
    ('{"n":4.111111111111111e15}', f'{{"n":"{CARD}"}}'),
    ("[4111111111111111 , 12, -3.5e-7, true]", f'["{CARD}" , 12, -3.5e-7, true]'),
    ('{"bob@example.org":1}', f'{{"{EMAIL}":1}}'),
    ('{"bob@example.org":1,"al@example.org":2}', f'{{"{EMAIL}":1,"{EMAIL}_2":2}}'),
    (r'{"e":"\ud83d\ude00 é"}', '{"e":"😀 é"}'),
    (r'{"e":"\ud83d x \ude00"}', '{"e":"\ufffd x \ufffd"}'),
    (r'{"e":"\ud83d\ud83d\ude00"}', '{"e":"\ufffd😀"}'),
    (r'{"j":"{\"to\":\"bob\\u0040example.org\"}"}', rf'{{"j":"{{\"to\":\"{EMAIL}\"}}"}}'),
    (' [ { "a" : [ ] , "b" : { } } ] ', ' [ { "a" : [ ] , "b" : { } } ] '),
    # Cut short: nothing is closed that was left open.
    ('{"to":"bob@example.org', f'{{"to":"{EMAIL}'),
    ('{"to":"bob@example.org\\', f'{{"to":"{EMAIL}'),
    ('{"to":"x\\u00', '{"to":"x'),
    ('{"n":4111111111111111', f'{{"n":"{CARD}"'),
    ('{"bob@example.org', f'{{"{EMAIL}'),
    # No JSON: text from there on, or from the beginning.
    ("bob@example.org", EMAIL),
    ("[EMAIL] bob@example.org", f"[EMAIL] {EMAIL}"),
    ("[1] see bob@example.org", f"[1] see {EMAIL}"),
    ("{'to': 'bob@example.org'}", f"{{'to': '{EMAIL}'}}"),
    ('{"a":1} bob@example.org', f'{{"a":1}} {EMAIL}'),
    ('{"a":"x"} bob@example.org', f'{{"a":"x"}} {EMAIL}'),
    ("[4111111111111111 1]", f"[{CARD} 1]"),
    ("[01, 4111111111111111]", f"[01, {CARD}]"),
    ("{1:bob@example.org}", "{1:" + EMAIL + "}"),
    ('["a",]', '["a",]'),
    ("4111111111111111", CARD),
    # Sloppy, yet what a reader makes of it was scanned.
    ('{"a":"bob@\\x example.org"}', '{"a":"bob@\\\\x example.org"}'),
    ('{"a":"x\\u00zz"}', '{"a":"x\\\\u00zz"}'),
    ('{"a":"line\nbreak"}', '{"a":"line\\nbreak"}'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "out"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
def test_masked(text: str, out: str, size: int) -> None:
    assert through(text, size) == out


def test_what_the_maskers_are_told() -> None:
    made = FakeMaskers()
    through(r'{"a":{"pass\u0077ord":"x","l":["y"]},"n":123456}', make=made)
    told = {(one.path, one.context, one.fed) for one in made.made if one.fed not in ("a", "password", "l", "n")}
    assert told == {("/x/a/password", "password", "x"), ("/x/a/l/*", "l", "y"), ("/x/n", "n", "123456")}


def test_it_flows() -> None:
    """A value comes out as it comes in: only its last word is held."""
    pieces = JsonPieces(Maskers(FakeMaskers()), "/x", "arguments")
    assert pieces.feed('{"code":"print ') == '{"code":"print '
    assert pieces.feed("hello ") == "hello "
    assert pieces.feed("wor") == ""
    assert pieces.feed('ld"') == "world"
    assert pieces.feed("}") == ""
    assert pieces.finish() == '"}'


def test_a_long_list_of_numbers_flows() -> None:
    text = "[" + ",".join(str(one % 1000) for one in range(5000)) + "]"
    pieces = JsonPieces(Maskers(FakeMaskers()), "/x", "arguments")
    assert len(pieces.feed(text)) > len(text) - 5000
    assert through(text, 7) == text


@pytest.mark.parametrize("text", ["[" * 70, '{"a":' * 70, '{"' + "x" * (KEY_MAX + 1)])
def test_refused(text: str) -> None:
    with pytest.raises(StreamRefused, match="stream_too_deep"):
        through(text)


def test_blanks_without_end_are_text() -> None:
    text = " " * 5000 + '{"a":"bob@example.org"}'
    assert {through(text, size) for size in (1, 4096, 4097, 1 << 20)} == {" " * 5000 + f'{{"a":"{EMAIL}"}}'}


@pytest.mark.parametrize(
    ("token", "texts"),
    [("1", ()), ("999", ()), ("1000", ("1000",)), ("-1000", ("-1000",)), ("0.123456789", ()), ("1e3", ("1000",)),
     ("123456789.5", ("123456789.5",)), ("1e400", ("1e400",)), ("12.5", ()), ("9" * 500, ("9" * 500,)),
     ("4111111111111111e-12", ("4111111111111111",)), ("1411111111E2", ("1411111111", "141111111100"))],
)  # fmt: skip
def test_digits(token: str, texts: tuple[str, ...]) -> None:
    """As they are read, and as they were written."""
    assert number_in(token) == texts


@pytest.mark.parametrize("key", ["latitude", "lon", "userLat", "ssn", "password", "geo_lng", "s\u200bsn"])
def test_a_fraction_under_a_key_that_tells_what_it_is(key: str) -> None:
    assert number_in("52.520008", key) == ("52.520008",)
    assert number_in("52.520008", "latency") == ()


words = st.text('ab@.é😀"\\/ \n1') | st.sampled_from(
    ["bob@example.org", "4111111111111111", "x bob@example.org y", "{}", "[1"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def whole(value: Any) -> Any:
    """What becomes of the strings, read whole."""
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            return masked(value)
        return render(whole(inner)) if isinstance(inner, dict | list) else masked(value)
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    if isinstance(value, dict):
        return {masked(key): whole(inner) for key, inner in value.items()}
    return value


@settings(deadline=None)
@given(st.lists(values, max_size=3) | st.dictionaries(words, values, max_size=3), st.integers(1, 9), st.booleans())
def test_law(value: Any, size: int, ascii_only: bool) -> None:
    """However it is cut and escaped, what is joined says what the whole would say."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    out = through(text, size)
    assert out == through(text)
    assert EMAIL in out or "bob@example.org" not in json.dumps(json.loads(out), ensure_ascii=False)
    keys = json.dumps(value).count("bob@example.org")
    if keys < 2:  # two keys that are masked alike get a number each
        assert json.loads(out) == whole(json.loads(text))


@settings(deadline=None)
@given(st.text('{}[]",:\\u0d8 nulltre1-e.@b'), st.integers(1, 5))
def test_anything(text: str, size: int) -> None:
    """What is no JSON is cut as little as what is."""
    assert through(text, size) == through(text)
