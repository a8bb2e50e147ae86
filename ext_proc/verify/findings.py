"""What the verifier says: findings with stable codes, in words that need no programmer. Pure.

`MEANING` is the whole vocabulary (section 9 of ``docs/record-format.md``): what the finding means, and what to do next.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from ext_proc.errors import GateError

_KEPT_PER_CODE: Final = 200
_TEXT_MAX: Final = 400
_RESTORE: Final = "Ask who could write to the bucket at that time, and compare with another copy of the bucket."
_KEY: Final = "Treat everything signed after this moment with care, and ask the operator who holds the signing key."


class VerifyError(GateError):
    """The verification could not run at all (exit status 2); ``detail`` says what to do."""

    code: ClassVar[str] = "could_not_verify"


MEANING: Final[dict[str, str]] = {
    "object_unexpected": f"Somebody put something there that the gateway does not write. {_RESTORE}",
    "object_changed": f"The stored bytes are not the ones that were written: they were changed or damaged. {_RESTORE}",
    "object_missing": f"Something that the log itself names has been removed. {_RESTORE}",
    "object_unreadable": f"The stored bytes are damaged or made up. {_RESTORE}",
    "version_extra": "Somebody wrote over evidence; the first version is still there and is the one that counts. "
    "Look in the store's own access log for who wrote it.",
    "delete_marker": "Somebody tried to delete evidence; it is hidden, not gone, and was read all the same. "
    "Look in the store's own access log for who deleted it.",
    "lock_missing": "Nothing keeps this object from being deleted. Lock it now, and repair the bucket's default lock.",
    "lock_short": "This object may be deleted before the policy allows it. Extend its lock now.",
    "policy_lock_short": "The policy that decided may be deleted before the record of what it decided; nobody could "
    "then make that decision again. Extend the lock of its newest copy now.",
    "bucket_unlocked": "The bucket itself does not protect the evidence. Turn on versioning and Object Lock.",
    "leaf_invalid": "A record is not in the published form, so the gateway did not write it like this. "
    "Read it by hand, and treat its log as edited.",
    "leaf_misplaced": "A record stands where it was not written: records were swapped, moved or copied. "
    "Treat this log as edited.",
    "sequence_gap": f"Records are missing from the middle of this log. {_RESTORE}",
    "root_mismatch": "The records are not the ones that were signed: at least one was changed, added or removed. "
    "Treat this log as edited.",
    "checkpoint_stale": f"The signed end of this log and its records do not meet: its tail was cut off. {_RESTORE}",
    "checkpoint_missing": f"Records without a signature over them: the signed note was removed. {_RESTORE}",
    "signature_invalid": f"The signature is not over this text: the text or the signature was edited. {_RESTORE}",
    "signature_unknown_key": "It was signed with a key that you do not accept. If the operator rotated keys, the key "
    "manifests must say so; otherwise somebody else signed it.",
    "signature_retired_key": "It was signed by a key that the operator had replaced by then. Whoever kept or stole "
    "the old key made it; do not rely on it.",
    "note_replayed": f"A true note was copied to a place where it does not belong. {_RESTORE}",
    "epoch_forked": f"There are two histories for the same time, and only one can be true. {_KEY}",
    "epoch_missing": f"A whole log that must be there is gone. {_RESTORE}",
    "roster_missing": f"A log without its birth record: the record was removed, or the log was made up. {_RESTORE}",
    "roster_mismatch": f"The log is not the one that announced itself at birth. {_KEY}",
    "epoch_unended": "This process stopped without saying how it ended, and nobody closed its log. "
    "Ask the operator to run recovery; until then its last minutes are unproven.",
    "clock_backwards": "The times in this log cannot be true. Do not rely on when these records say they were made.",
    "heartbeat_missing": "For longer than allowed this process gave no sign of life. Ask what happened in that time, "
    "and compare with Envoy's own log.",
    "payload_missing": f"The content of an exchange that the log commits to is gone. {_RESTORE}",
    "payload_changed": f"The stored content of an exchange is not what was recorded. {_RESTORE}",
    "digest_broken": "The hourly digests and the records tell different stories. Treat this hour as edited.",
    "digest_missing": "An hour without its signed digest: it was removed, or the gateway could not write it. "
    "Ask the operator why.",
    "rollup_mismatch": f"The day's summary and the logs tell different stories: one was edited. {_KEY}",
    "rollup_missing": "A day without its signed summary. Ask the operator to make it, and why it was not made.",
    "timestamp_invalid": "The time stamp is not by an authority that you accept, or is of something else. "
    "Do not rely on it.",
    "timestamp_missing": "No accepted authority says when this hour was written. Ask the operator why.",
    "witness_missing": "Too few independent witnesses saw this log's end; the operator could show others another one. "
    "Ask the witnesses for what they saw.",
    "receipt_forged": "This receipt was not made by the gateway, or was edited. Ask whoever gave it to you.",
    "receipt_unmatched": f"The caller holds the gateway's own signature for a record that is not in the log. {_KEY}",
    "access_log_gap": "Envoy's own access log is not complete, so nobody can show that no call bypassed the record. "
    "Ask for the file itself.",
    "reconcile_mismatch": "The statement of completeness does not hold. Run the reconciliation again yourself.",
    "outcome_missing": "A call was let through, and how it ended was never recorded. Ask the operator about it.",
    "intent_missing": "An answer is recorded for a call whose beginning is not. Treat this log as edited.",
    "approval_missing": "A call passed that needed people's agreement, and it is not on record that they gave it. "
    "Ask the operator who let it pass.",
    "approval_mismatch": "A call passed with an approval that could not count. "
    "Ask the operator, and those who are said to have agreed.",
    "approval_reused": "One approval let more than one call pass. Ask the operator, and those who agreed.",
    "canary_failed": "The store let somebody change or delete locked evidence when that was tried. "
    "Do not rely on its locks.",
    "tile_mismatch": "The exported tree for other tools does not follow from the records. Export again.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold: a stable code, the object, and what it means."""

    code: str
    object: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came out. ``ok``: no finding. ``leaves`` and ``epochs``: how much was read."""

    ok: bool
    leaves: int
    epochs: int
    findings: list[Finding]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    step: str
    objects_done: int
    objects_total: int
    leaves: int


class Findings:
    """Collects findings. What an attacker can make a million of is counted, not kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], None] = {}
        self._counts: dict[str, int] = {}

    def add(self, code: str, object_: str, what: str) -> None:
        """Note that something does not hold.

        Args:
            code: one of `MEANING`.
            object_: the key, file or origin that it is about.
            what: one sentence: what was found there.
        """
        found = (code, clean(object_) or "(no name)", clean(what))
        if found in self._kept:
            return
        count = self._counts[code] = self._counts.get(code, 0) + 1
        if count <= _KEPT_PER_CODE:
            self._kept[found] = None

    def report(self, leaves: int, epochs: int) -> Report:
        """Everything that was found, in the order in which it was."""
        listed = [Finding(code, object_, f"{what} {MEANING[code]}") for code, object_, what in self._kept]
        for code, count in self._counts.items():
            if count > _KEPT_PER_CODE:
                what = f"{count - _KEPT_PER_CODE} more findings of this kind are not listed."
                listed.append(Finding(code, "(more)", f"{what} {MEANING[code]}"))
        return Report(not listed, leaves, epochs, listed)


def clean(text: str) -> str:
    """Fit for a terminal: names in a bucket are anybody's to choose."""
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[:_TEXT_MAX])
    return shown if len(text) <= _TEXT_MAX else shown + "…"
