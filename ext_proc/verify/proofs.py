"""A proof file (``affidavit/proof/v1``): single records that are proven without the bucket."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

import orjson

from ext_proc.verify import notes
from ext_proc.verify.canonical import proven
from ext_proc.verify.findings import Findings, Report, VerifyError
from ext_proc.verify.leaves import KINDS
from ext_proc.verify.tree import leaf_hash, root_of_inclusion

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.verify.policy import AuditorPolicy

_FILE_MAX_BYTES: Final = 64 * 1024 * 1024
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "leaf": str,
    "index": int,
    "size": int,
    "hashes": list,
    "checkpoint": str,
    "vkey": str,
}


def verify_proofs(path: Path, policy: AuditorPolicy) -> Report:
    """Every proof in the file.

    Raises:
        VerifyError: it is no proof file.
    """
    try:
        if path.stat().st_size > _FILE_MAX_BYTES:
            raise VerifyError(f"{path}: too large for a proof file")
        told = orjson.loads(path.read_bytes())
    except OSError as error:
        raise VerifyError(f"{path}: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise VerifyError(f"{path}: neither a directory of an export nor a proof file") from None
    if (
        not isinstance(told, dict)
        or told.get("schema") != "affidavit/proof/v1"
        or not isinstance(told.get("proofs"), list)
    ):
        raise VerifyError(f"{path}: not a proof file of the form affidavit/proof/v1")
    findings = Findings()
    origins: set[str] = set()
    if told.get("gateway", policy.gateway) != policy.gateway:
        findings.add("note_replayed", path.name, f"The proofs are of the gateway {told['gateway']}.")
    if not told["proofs"]:
        findings.add("object_missing", path.name, "The file proves nothing.")
    for number, proof in enumerate(told["proofs"]):
        origin = _check(f"{path.name}: proof {number}", proof, policy, findings)
        if origin:
            origins.add(origin)
    return findings.report(len(told["proofs"]), len(origins))


def _check(where: str, proof: Any, policy: AuditorPolicy, findings: Findings) -> str:
    """One proof; the origin of its log."""
    if not isinstance(proof, dict) or not all(notes.is_a(proof.get(name), kind) for name, kind in _FIELDS.items()):
        findings.add("object_unreadable", where, "A field is missing or of the wrong kind.")
        return ""
    try:
        note = notes.parse(proof["checkpoint"].encode())
        head = notes.checkpoint(note)
        hashes = [base64.b64decode(one, validate=True) for one in proof["hashes"]]
        vkey = notes.key_of_vkey(proof["vkey"])
    except (ValueError, TypeError, binascii.Error):
        findings.add("object_unreadable", where, "The checkpoint, the key or the hashes cannot be read.")
        return ""
    _check_signature(where, note, head, vkey, policy, findings)
    leaf = proof["leaf"].encode()
    root = root_of_inclusion(proof["index"], proof["size"], leaf_hash(leaf), hashes)
    if proof["size"] != head.size or root != head.root_hash or any(len(one) != 32 for one in hashes):
        findings.add("root_mismatch", where, "The record is not in the tree that was signed.")
    _check_leaf(where, leaf, head.origin, proof["index"], findings)
    return head.origin


def _check_signature(
    where: str,
    note: notes.Note,
    head: notes.Checkpoint,
    vkey: tuple[str, bytes],
    policy: AuditorPolicy,
    findings: Findings,
) -> None:
    if not head.origin.startswith(policy.gateway + "/") or vkey[0] != head.origin:
        findings.add("note_replayed", where, f"The checkpoint is of {head.origin}, not of {policy.gateway}.")
    signer = notes.signer(note, head.origin, policy.public_keys)
    if isinstance(signer, str):
        findings.add(signer, where, "None of the policy's keys signed the checkpoint.")
    elif signer != vkey[1]:
        findings.add("signature_unknown_key", where, "The proof names another key than the one that signed it.")


def _check_leaf(where: str, leaf: bytes, origin: str, index: int, findings: Findings) -> None:
    try:
        told = proven(leaf)
        is_valid = told["kind"] in KINDS
        is_here = told["origin"] == origin and told["sequence"] == index
    except (ValueError, KeyError, TypeError):
        is_valid, is_here = False, True
    if not is_valid:
        findings.add("leaf_invalid", where, "It is not a valid record.")
    if not is_here:
        findings.add("leaf_misplaced", where, "The record says that it stands elsewhere.")
