"""The signed statement of completeness, and the leaf that names it."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.note import sign_json
from ext_proc.audit.record import instant
from ext_proc.audit.seal import SealedObject

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.audit.note import Signer
    from ext_proc.evidence.envoy_lines import Line
    from ext_proc.evidence.reconcile import Account

SCHEMA: Final = "affidavit/reconcile/v1"


def statement(account: Account, gateway: str, signer: Signer, at: datetime) -> SealedObject:
    """The note, under its key.

    Raises:
        AuditUnavailable: the signing key cannot be used now.
    """
    day = f"{account.span.since:%Y-%m-%d}"
    fields = {
        "schema": SCHEMA,
        "gateway": gateway,
        "day": day,
        "from": instant(account.span.since),
        "to": instant(account.span.until),
        "envoy": account.envoy,
        "audited": account.audited,
        "orphans": account.orphans,
        "explained": account.explained,
        "gaps": account.gaps,
        "at": instant(at),
    }
    return note_of_day("reconcile", day, sign_json(fields, gateway, signer))


def note_of_day(room: str, day: str, body: bytes) -> SealedObject:
    """A note under ``v1/<room>/dt=<day>/``, named by its content."""
    sha256 = hashlib.sha256(body).hexdigest()
    return SealedObject(f"v1/{room}/dt={day}/{sha256[:16]}.note", body, sha256)


def result_leaf(account: Account, made: SealedObject) -> dict[str, Any]:
    """Fields of ``reconcile.result``: small, so the gaps only by their number."""
    counted = Counter(gap["code"] for gap in account.gaps)
    return {
        "day": f"{account.span.since:%Y-%m-%d}",
        "envoy": account.envoy,
        "audited": account.audited,
        "orphans": account.orphans,
        "gaps": [{"code": code, "count": count} for code, count in sorted(counted.items())],
        "statement_sha256": made.sha256,
    }


def refused_leaf(line: Line) -> dict[str, Any]:
    """Fields of ``inference.refused_by_envoy``: what Envoy's line says, and its place, so that it is told once."""
    return {
        "request_id": line.request_id,
        "details": line.short_details,
        "status": line.status,
        "began_at": instant(line.began_at),
        "replica": line.replica,
        "generation": line.generation,
        "offset": line.offset,
    }
