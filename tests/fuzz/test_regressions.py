"""Every input that a fuzzer ever broke a law with, and its seeds: replayed without it, so that they stay mended."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.protocols import document, encoding, json_text
from ext_proc.protocols.document import Document
from ext_proc.protocols.encoding import CodingError
from ext_proc.protocols.streaming import reader, walking
from ext_proc.protocols.streaming.channels import Channels
from ext_proc.protocols.streaming.framing import Lines
from ext_proc.protocols.streaming.reader import StreamReader
from ext_proc.protocols.streaming.walking import Walk
from tests.fuzz.fuzz_compressed import CODERS, LIMIT_BYTES
from tests.fuzz.run import HARNESSES, HERE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPEN: dict[str, str] = {}
"""Found, and not mended yet."""


def _marks(name: str) -> Any:
    return pytest.mark.xfail(raises=AssertionError, reason=OPEN[name]) if name in OPEN else ()


INPUTS = [
    pytest.param(name, path, id=f"{name}/{path.name}", marks=_marks(f"{name}/{path.name}"))
    for name in HARNESSES
    for path in sorted((HERE / "corpus" / name).iterdir())
]


@pytest.mark.parametrize(("name", "path"), INPUTS)
def test_the_laws_hold(name: str, path: Path) -> None:
    import_module(f"tests.fuzz.fuzz_{name}").one(path.read_bytes())


@pytest.mark.parametrize("coding", range(len(CODERS)), ids=lambda at: f"{at}-{CODERS[at][0]}")
def test_a_bomb_takes_no_more_memory_than_its_limit(coding: int) -> None:
    """And what a piece of it may grow to: with zstd, 64 blocks of 128 KiB."""
    name, encode, _ = CODERS[coding]
    bomb = encode(bytes(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(CodingError, match=r"too large|grows too much"):
            encoding.decoded(bomb, name, LIMIT_BYTES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LIMIT_BYTES + (9 << 20)


# The laws can fail ----------------------------------------------------------------------------------------------------


class _Everything:
    """A set that everything is in."""

    def __contains__(self, _: object) -> bool:
        return True


_slot = Document._slot
_feed = Lines.feed


def _forgetful(lines: Lines, data: bytes) -> list[bytes]:
    """It does not know in the next piece that the last one ended in a CR."""
    lines._had_cr = False
    return _feed(lines, data)


def _cut_short_is_whole(body: bytes, limit_bytes: int) -> bytes:
    del limit_bytes
    return zlib.decompressobj(31).decompress(body)


MISTAKES: dict[str, tuple[str, Any, str, Any]] = {
    "numbers are not looked at": ("sse", Walk, "_number", lambda *_: None),
    "every label passes": ("sse", Channels, "label", lambda _self, _place, text: text),
    "keys are not looked at": ("sse", walking, "_KNOWN", _Everything()),
    "names of events are not looked at": ("sse", StreamReader, "_fields", lambda _self, f: (f.name.decode(), "")),
    "what is no JSON passes": ("sse", StreamReader, "_text", lambda self, data, _n, _m, out: out.append(data)),
    "cuts matter": ("sse", Lines, "feed", _forgetful),
    "tails are forgotten": ("sse", Channels, "close", lambda _self, _channel: ""),
    "bytes that are not UTF-8 make a traceback": ("sse", reader, "_decoded", bytes.decode),
    "a repeated key is read": ("json", json_text, "_DECODER", json.JSONDecoder()),
    "large numbers are measures": ("json", document, "_is_measure", lambda *_: True),
    "keys are no text": ("json", Document, "_slot", lambda self, one, *at: one.kind == "key" or _slot(self, one, *at)),
    "JSON in a string is lost": ("json", document, "_put_whole", lambda *_: None),
    "a deep body makes a traceback": ("json", json_text, "parse", json.loads),
    "a bomb is let off": ("compressed", encoding, "_checked", lambda *_: None),
    "cut short is whole": ("compressed", encoding, "_DECODERS", {**encoding._DECODERS, "gzip": _cut_short_is_whole}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one seed at least."""
    name, where, what, instead = MISTAKES[mistake]
    harness = import_module(f"tests.fuzz.fuzz_{name}")
    monkeypatch.setattr(where, what, instead)
    assert not all(_holds(harness.one, path) for path in (HERE / "corpus" / name).iterdir())


def _holds(one: Callable[[bytes], None], path: Path) -> bool:
    try:
        one(path.read_bytes())
    except Exception:  # noqa: BLE001 - to a fuzzer every end but a quiet one is a finding
        return False
    return True
