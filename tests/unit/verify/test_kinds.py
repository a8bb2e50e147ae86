"""The verifier's own list of kinds, which shares no code with the writer, is complete."""

from __future__ import annotations

from ext_proc.audit import kinds
from ext_proc.verify import leaves


def test_every_kind_that_is_written_is_known() -> None:
    assert set(leaves.KINDS) == set(kinds.KINDS)
    assert len(leaves.KINDS) == len(set(leaves.KINDS))
