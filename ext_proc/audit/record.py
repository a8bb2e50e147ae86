"""The leaf: one small canonical JSON record (RFC 8785), the unit of proof. Pure.

No floats, no personal data in clear, no plain hash of content: a leaf commits to the SHA-256 of ciphertext. The
fields are in ``docs/record-format.md``.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import orjson

from ext_proc.audit.merkle import hash_leaf
from ext_proc.errors import IntegrityError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

SCHEMA: Final = "affidavit/v1"
LEAF_MAX_BYTES: Final = 16 * 1024
"""A leaf is read by people and hashed by everyone: small. (C2SP tlog-tiles allows 65,535.)"""

PART_PAYLOADS_MAX: Final = 24
"""More would not fit into a leaf."""

# Strict: no number beyond 2**53 - 1, where readers of RFC 8785 disagree.
_SORTED: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]{1,64}")


def canonical(value: Any) -> bytes:
    """RFC 8785 of what a leaf may hold: texts, whole numbers, booleans, null, lists, objects with ASCII keys.

    Raises:
        IntegrityError: anything else. It would be a bug of ours, and a record that nobody can check.
    """
    _check(value)
    try:
        written = orjson.dumps(value, None, _SORTED)
    except TypeError:  # a key that is no text; half of a surrogate pair; a number beyond `OPT_STRICT_INTEGER`
        raise IntegrityError("leaf key, text or number") from None
    if not written.isascii():  # else no key can be anything else
        _check(value, has_ascii_keys=False)
    return written


def _check(value: Any, *, has_ascii_keys: bool = True) -> None:
    """What orjson would write and a leaf must not hold: it is asked of all of a level at once, a leaf has hundreds.

    Keys are looked at only where nothing else says that they are ASCII.
    """
    left = [value]
    while left:
        node = left.pop()
        kind = type(node)
        if kind is dict:
            if not has_ascii_keys and not "".join(node).isascii():
                raise IntegrityError("leaf key")
            inside = node.values()
        elif kind is list or kind is tuple:
            inside = node
        elif kind in _PLAIN or isinstance(node, str):
            continue
        else:
            raise IntegrityError(f"leaf value of type {kind.__name__}")
        if not _PLAIN.issuperset(map(type, inside)):
            left += [inner for inner in inside if type(inner) not in _PLAIN]


def leaf_hash(leaf: bytes) -> str:
    """RFC 6962 section 2.1: SHA-256 of a zero byte and the leaf, in lower-case hex."""
    return hash_leaf(leaf).hex()


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def build_leaf(
    kind: str, *, origin: str, sequence: int, at: datetime, fields: Mapping[str, Any], listed: Sequence[str] = ()
) -> bytes:
    """The leaf's bytes. Too long: lists of spans under ``listed`` are left out, and counted in the leaf.

    Raises:
        IntegrityError: it cannot be made canonical or small enough.
    """
    whole = {
        **fields,
        "schema": SCHEMA,
        "kind": kind,
        "origin": origin,
        "sequence": sequence,
        "at": instant(at),
    }
    leaf = canonical(whole)
    for name in listed:
        if len(leaf) <= LEAF_MAX_BYTES:
            break
        part = whole.get(name)
        if isinstance(part, dict) and part.get("spans"):
            unlisted = part["spans_unlisted"] + len(part["spans"])
            whole[name] = {**part, "spans": [], "spans_unlisted": unlisted}
            leaf = canonical(whole)
    if len(leaf) > LEAF_MAX_BYTES:
        raise IntegrityError("leaf too large")
    return leaf


def claims_release(kind: str, fields: Mapping[str, Any]) -> bool:
    """Does the record say that an answer was released? It is written before that, so it may have said too much."""
    said = fields.get("outcome") if kind == LeafKind.INFERENCE_OUTCOME else None
    return said is not None and said["status"] in ("completed", "error") and said.get("code") is None


def media_type(content_type: str) -> str:
    """The media type if it looks like one: it comes from a header, and a leaf holds nobody's free text."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind if _MEDIA_TYPE.fullmatch(kind) else "other"
