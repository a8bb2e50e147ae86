"""JSON read strictly and written again: what another parser might read differently is refused (RFC 8259, RFC 7493)."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

import orjson

DEPTH_MAX: Final = 64
"""Nesting accepted. Chat bodies use about 8; engines differ from some hundreds on."""


class JsonError(ValueError):
    """Not JSON, or JSON that two readers could understand in two ways."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise JsonError("a key is repeated")
    return made


def _constant(_: str) -> NoReturn:
    raise JsonError("NaN or Infinity")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError("a number out of range")
    return value


class Written(float):
    """A number with a fraction or an exponent that knows how it was written."""

    __slots__ = ("written",)

    written: str


def _written(text: str) -> Written:
    value = Written(_float(text))
    value.written = text
    return value


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)
_DECODER_WRITTEN: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_written)


def parse(text: str, *, as_written: bool = False) -> Any:
    """The value of one JSON text: no repeated key, no lone surrogate, no NaN, not too deep, nothing after it.

    Args:
        text: the text.
        as_written: numbers with a fraction or an exponent are `Written`: the text may go on as it is.

    Raises:
        JsonError: see the class.
    """
    try:
        value = (_DECODER_WRITTEN if as_written else _DECODER).decode(text)
    except JsonError:
        raise
    except (ValueError, RecursionError):
        raise JsonError("not JSON") from None
    if "\\u" in text:  # only an escape can make a lone surrogate: UTF-8 decoding refused the others
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            raise JsonError("a lone surrogate") from None
    return value


def parse_bytes(body: bytes) -> Any:
    """`parse` of UTF-8 bytes without a byte order mark.

    Raises:
        JsonError: also when it is not UTF-8.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    return parse(text)


def render(value: Any) -> str:
    """Compact JSON."""
    return _ENCODER.encode(value)


def render_whole(value: Any) -> bytes:
    """`render` of a value without fractions, as UTF-8: the same bytes, made five times as fast.

    (Of fractions orjson writes some otherwise: ``1e-7`` where Python writes ``1e-07``.)
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # a number of more than 64 bits
        return render(value).encode()
