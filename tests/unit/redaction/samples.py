"""Texts for the tests of this room: the vectors, and pieces that texts full of traps are put together from."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

_RULES = json.loads((Path(__file__).parents[2] / "vectors" / "redaction.json").read_text(encoding="utf-8"))["rules"]
HITS = sorted({one["text"].replace("¦", "") for both in _RULES.values() for one in both["hits"] + both["misses"]})

TRAPS = (
    "@", ".", "bob", "bob@x.org", " ", "4111", "1111 ", "4111 1111 1111 1111", "-", "1", "55", "+1 ", "(", ")", "::", ":",
    "call ", "password", "password: ", "token", "=", "is ", "secret", "\x1f: ", "ssn ", "078-05-1120", "born ", "1/2/80",
    "passport ", "X1234567", "driver license ", "eyJ", "Bearer ", "Basic ", "://", "u:p@h", "&#64;", "&amp;#64;", "%40",
    "%2540", "\\u0040", "\\\\u0040", "\\", "\u200b", "\u0661", "\uff20", "\u0430", "é", "[EMAIL]", "[EMAIL:abcdefgh]", "****",
    "[", "]", '"', "'", "{", "}", ",", "\n", "\x00", "Ym9iQGV4YW1wbGUuY29t", "DE89370400440532013000", "203.0.113.9", "\ud83d",
    "sk-abcdefgh12345678", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "A=", "fe80::1", " @ ", "[at]", "谢谢",
)  # fmt: skip
pieces = st.sampled_from(TRAPS) | st.text(max_size=6) | st.from_regex(r"[0-9 .\-]{0,12}", fullmatch=True)
texts = st.lists(pieces, max_size=10).map("".join)
