"""JSON that two readers could read in two ways is refused."""

from __future__ import annotations

import json

import pytest

from ext_proc.protocols.json_text import JsonError, parse, parse_bytes, render


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '[{"b":{"a":1,"a":1}}]', '"\\ud800"', '{"\\udc00":1}', '"\\ud83d"', "NaN", "[Infinity]",
        "-Infinity", "1e999", "-1e999", "1" * 5000, "[" * 100_000, '{"a":' * 100_000, "{} {}", "{}x", "[1,]", "{'a':1}", "", " ", "nul",
        "\ufeff{}", '"\n"', '"\t"', "01", "+1", ".5", "1.", "0x1", "// c\n1", '{"a":1,}', '"\\x41"', "[1 2]",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(JsonError):
        parse(text)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b'"\xe9"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"\xef\xbb\xbf{}",
    ],
)
def test_bytes_refused(body: bytes) -> None:
    with pytest.raises(JsonError):
        parse_bytes(body)


@pytest.mark.parametrize(
    "text", ['"\\ud83d\\ude00"', '{"a":1,"A":2}', " [1]\r\n", "1e5", "-0", '"\\u0000"', "null", "1" * 400]
)
def test_read(text: str) -> None:
    assert parse(text) == json.loads(text)


def test_render_is_compact_and_reads_the_same() -> None:
    value = {"a": [1, 2.5, None, True, 'é\u2028\x00"\\'], "": {}}
    assert render(value).startswith('{"a":[1,2.5,null,true,"é')
    assert parse(render(value)) == value
