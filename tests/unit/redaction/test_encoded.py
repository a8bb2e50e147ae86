"""What base64 and hexadecimal say, as programs write them: lines, prefixes, and encodings that are not UTF-8."""

from __future__ import annotations

import base64

import pytest

from ext_proc.redaction import BUILT_IN, scan
from ext_proc.redaction.redact import Redactor
from ext_proc.redaction.stream import StreamRedactor

SAID = "bob@example.org ssn 219-09-9999 card 4111111111111111"
HEX = SAID.encode().hex()


def packed(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


HIDDEN = {
    "a line's end": (SAID + "\n").encode().hex(),
    "a short one": b"bob@example.org\n".hex(),
    "tabs": SAID.replace(" ", "\t").encode().hex(),
    "both line ends": (SAID + "\r\n").encode().hex().upper(),
    "as xxd -p writes it": "\n".join((HEX * 2)[at : at + 60] for at in range(0, len(HEX) * 2, 60)),
    "0x": "0x" + HEX,
    "\\x": "\\x" + HEX,
    "Latin-1": packed(("José " + SAID).encode("latin-1")),
    "UTF-16": packed(SAID.encode("utf-16-le")),
    "UTF-16 with its mark": packed(SAID.encode("utf-16")),
    "hexadecimal of UTF-16": SAID.encode("utf-16-be").hex(),
    "a byte of nothing": packed((SAID + "\0").encode()),
    "a byte that is none": packed(SAID.encode() + b"\xff"),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_found_whole_and_streamed(how: str) -> None:
    text = f"so {HIDDEN[how]} ok"
    assert scan(text)
    whole = Redactor(b"k" * 32).redacted(text)
    assert HIDDEN[how][8:24] not in whole
    for size in (1, 3, 16, 61, len(text)):
        masker = StreamRedactor()
        out = "".join(masker.feed(text[at : at + size]) for at in range(0, len(text), size)) + masker.finish()
        assert out == whole


@pytest.mark.parametrize(
    "run", [bytes(range(7, 255, 3)).hex(), packed(bytes(range(255, 7, -3))), "0x" + "5f" * 20, packed(b"\0" * 40)]
)
def test_bytes_that_say_nothing(run: str) -> None:
    assert not BUILT_IN.scan(f"so {run} ok")
