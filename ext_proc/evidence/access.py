"""Envoy's access log as it lies in the store: its lines in order, and the holes between its parts."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import zstandard

from ext_proc.evidence.envoy_lines import read_line
from ext_proc.evidence.events import SPOOL_BYTES
from ext_proc.evidence.versions import EvidenceError, firsts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ext_proc.evidence.envoy_lines import Line
    from ext_proc.evidence.versions import Version, VersionedStore

ACCESS: Final = "v1/access/"
_KEY: Final = re.compile(
    r"v1/access/replica=(?P<replica>[A-Za-z0-9][A-Za-z0-9._-]{0,127})/(?P<generation>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"
    r"/(?P<first>\d{16})-(?P<last>\d{16})-[0-9a-f]{16}\.jsonl\.zst",
    re.ASCII,
)
_LINE_MAX: Final = 16 << 20
_STEP_BYTES: Final = 1 << 18
_WINDOW_BYTES: Final = 1 << 27
_NEXT: Final = b'{"at":"'
"""How every line begins. Where one broke off (Envoy was killed), the next may follow without a newline."""


@dataclass(frozen=True, slots=True)
class Part:
    """One object: bytes ``first`` up to (not with) ``last`` of a generation."""

    replica: str
    generation: str
    first: int
    last: int
    version: Version


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that is not there or cannot be read."""

    code: str
    object: str
    explanation: str


def parts(store: VersionedStore) -> Iterator[list[Part]]:
    """Each generation's parts, in order.

    Raises:
        EvidenceError: the store cannot be listed.
    """
    found: dict[tuple[str, str], list[Part]] = defaultdict(list)
    for version in firsts(store, ACCESS):
        key = _KEY.fullmatch(version.key)
        if key is not None:
            part = Part(key["replica"], key["generation"], int(key["first"]), int(key["last"]), version)
            found[part.replica, part.generation].append(part)
    for name in sorted(found):
        yield sorted(found[name], key=lambda one: (one.first, one.last))


def lines(store: VersionedStore, since: datetime, until: datetime) -> Iterator[Line | Hole]:
    """Every line that may tell of a request that began between ``since`` and ``until``, and the holes among them.

    Nothing that was put before ``since`` can, nor (in one generation) what follows a part all of whose requests began
    after ``until``: the caller says by ``until`` how long a request may last.

    Raises:
        EvidenceError: the store cannot be read.
    """
    for generation in parts(store):
        end = 0
        for part in generation:
            if part.version.last_modified >= since:
                if part.first > end:
                    what = f"Bytes {end} to {part.first} of the access log are not in the store."
                    yield Hole("access_log_gap", part.version.key, what)
                earliest = None
                for line in _lines(store, part, max(end, part.first)):
                    if not isinstance(line, Hole):
                        earliest = min(earliest or line.began_at, line.began_at)
                    yield line
                if earliest is not None and earliest > until:
                    break
            end = max(end, part.last)


def _lines(store: VersionedStore, part: Part, after: int) -> Iterator[Line | Hole]:
    """The lines of one part from byte ``after`` on (what lies before was in another part too)."""
    at = part.first
    try:
        for raw in _raw(store, part.version):
            if at >= after:
                yield from _read(raw, part, at)
            at += len(raw)
    except zstandard.ZstdError:
        raise EvidenceError(f"{part.version.key}: damaged; run `affidavit verify`") from None
    if at != part.last:
        what = f"It must hold {part.last - part.first} bytes of the access log, and holds {at - part.first}."
        yield Hole("access_log_gap", part.version.key, what)


def _read(raw: bytes, part: Part, at: int) -> Iterator[Line | Hole]:
    line = read_line(raw, part.replica, part.generation, at)
    if line is not None:
        yield line
        return
    yield Hole("access_log_unreadable", part.version.key, f"Byte {at} of the access log begins no whole line.")
    again = raw.rfind(_NEXT)
    if again > 0:
        line = read_line(raw[again:], part.replica, part.generation, at + again)
        if line is not None:
            yield line


def _raw(store: VersionedStore, version: Version) -> Iterator[bytes]:
    """Lines with their newline; the last one may have none."""
    with cast("BinaryIO", SpooledTemporaryFile(SPOOL_BYTES)) as file:
        store.download(version, file)
        file.seek(0)
        engine = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        rest = b""
        with engine.stream_reader(file, read_across_frames=True, closefd=False) as reader:
            while piece := reader.read(_STEP_BYTES):
                *whole, rest = (rest + piece).split(b"\n")
                if len(rest) > _LINE_MAX:
                    raise EvidenceError(f"{version.key}: a line without end; run `affidavit verify`")
                for line in whole:
                    yield line + b"\n"
        if rest:
            yield rest
