"""Bytes packed as letters: what looks like it, and is no text in disguise. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_PACKED: Final = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
_PRINTED: Final = bytes([*b"\t\r\n", *range(0x20, 0x7F)])
_TEXT_SHARE: Final = 0.75
"""Of bytes by chance 38 in a hundred are ASCII that can be printed."""
_URL_SAFE: Final = str.maketrans("-_", "+/")


def is_packed(text: str) -> bool:
    """Is it base64, plain or URL-safe, of bytes that are no text?"""
    if not _PACKED.fullmatch(text):
        return False
    packed = text.rstrip("=").translate(_URL_SAFE)
    for skipped in range(4):  # a piece may begin anywhere in a group of four
        part = packed[skipped : skipped + (len(packed) - skipped) // 4 * 4]
        try:
            raw = base64.b64decode(part, validate=True)
        except binascii.Error:
            return False
        if is_text(raw):
            return False
    return True


def is_printed(raw: bytes | bytearray) -> bool:
    """Are most of the bytes ASCII that can be printed?"""
    return len(raw) - len(raw.translate(None, _PRINTED)) >= len(raw) * _TEXT_SHARE


def is_text(raw: bytes | bytearray) -> bool:
    """Are most of the bytes ASCII that can be printed, or all of them UTF-8?"""
    if is_printed(raw):
        return True
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
