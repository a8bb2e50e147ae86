"""Content codings: undone, or refused with the reason."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.protocols.encoding import MEMBERS_MAX, CodingError, decoded

TEXT = b'{"a":"' + b"some text that is long enough " * 40 + b'"}'
LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


CODERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd}
ALL = [*CODERS.items(), ("deflate", raw_deflate)]


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_round_trip(name, coder) -> None:
    assert decoded(coder(TEXT), name, LIMIT) == TEXT
    assert decoded(coder(TEXT), f" {name.upper()} ", LIMIT) == TEXT


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_empty(name, coder) -> None:
    assert decoded(coder(b""), name, LIMIT) == b""


@settings(deadline=None)
@given(st.sampled_from(ALL), st.binary(max_size=3000))
def test_any_bytes(one, data) -> None:
    assert decoded(one[1](data), one[0], LIMIT) == data


def test_large_answers() -> None:
    import random

    data = bytes(random.Random(1).choices(b"abcdefgh ", k=200_000))
    for name, coder in ALL:
        assert decoded(coder(data), name, LIMIT) == data


def test_plain() -> None:
    assert decoded(b"x", "", LIMIT) == decoded(b"x", "identity", LIMIT) == decoded(b"x", " , identity,", LIMIT) == b"x"


def test_two_in_a_row_are_undone_last_first() -> None:
    assert decoded(brotli.compress(gzip.compress(TEXT)), "gzip, br", LIMIT) == TEXT
    with pytest.raises(CodingError, match="damaged"):
        decoded(brotli.compress(gzip.compress(TEXT)), "br, gzip", LIMIT)
    with pytest.raises(CodingError, match="too many codings"):
        decoded(TEXT, "gzip, gzip, gzip", LIMIT)


@pytest.mark.parametrize("name", ["compress", "aws-chunked", "gzip;q=1", "gzip x", "*", "dcb"])
def test_unknown(name) -> None:
    with pytest.raises(CodingError, match="unknown coding"):
        decoded(TEXT, name, LIMIT)


@pytest.mark.parametrize(("name", "coder"), ALL)
@pytest.mark.parametrize("cut", [1, 5, 20])
def test_cut_short(name, coder, cut) -> None:
    with pytest.raises(CodingError):
        decoded(coder(TEXT)[:-cut], name, LIMIT)


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_bytes_after_the_end(name, coder) -> None:
    with pytest.raises(CodingError):
        decoded(coder(TEXT) + b"bob@example.org", name, LIMIT)


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_damaged(name, coder) -> None:
    with pytest.raises(CodingError):
        decoded(b"\x00\xff" + coder(TEXT), name, LIMIT)


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_too_large(name, coder) -> None:
    data = coder(bytes(range(256)) * 8)
    assert len(decoded(data, name, 2048)) == 2048
    with pytest.raises(CodingError, match="too large"):
        decoded(data, name, 2047)


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_bomb_by_ratio(name, coder) -> None:
    with pytest.raises(CodingError, match="grows too much"):
        decoded(coder(bytes(2 << 20)), name, 1 << 30)


@pytest.mark.parametrize(("name", "coder"), ALL)
def test_bomb_by_size(name, coder) -> None:
    with pytest.raises(CodingError, match=r"too large|grows too much"):
        decoded(coder(coder(bytes(2 << 20))), f"{name}, {name}", LIMIT)


def test_plain_body_over_the_limit_after_a_coding() -> None:
    assert decoded(b"xx", "", 1) == b"xx"  # the driver looked at the size on the wire already


def test_members() -> None:
    assert decoded(gzip.compress(b"ab") + gzip.compress(b"cd"), "gzip", LIMIT) == b"abcd"
    assert decoded(gzip.compress(b"") * MEMBERS_MAX, "gzip", LIMIT) == b""
    with pytest.raises(CodingError, match="too many members"):
        decoded(gzip.compress(b"") * (MEMBERS_MAX + 1), "gzip", LIMIT)
    with pytest.raises(CodingError, match="bytes after the end"):
        decoded(zlib.compress(b"ab") + zlib.compress(b"cd"), "deflate", LIMIT)


def test_zstd_frames() -> None:
    assert decoded(zstd(b"ab") + zstd(b"cd"), "zstd", LIMIT) == b"abcd"


def test_zstd_window_is_bounded() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(CodingError, match="damaged"):
        decoded(engine.compress(TEXT * 10) + engine.flush(), "zstd", LIMIT)
