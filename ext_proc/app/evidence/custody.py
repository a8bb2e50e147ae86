"""The commands on people and keys: erase, legal-hold, keys. Each step is on record in a log of the command's own."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ext_proc.app import registry
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit import erasure, note, rotation, signer
from ext_proc.audit.desk import Desk, NotKept, ShipReport, Terms
from ext_proc.audit.record import instant
from ext_proc.audit.seal import named_object
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.config import load
from ext_proc.errors import AuditUnavailable, ConfigError, IntegrityError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.erasure import ErasureResult, Order
    from ext_proc.audit.keys import KeyRing
    from ext_proc.config import Config


@dataclass(frozen=True, slots=True)
class Person:
    """Whose content: a reference, or a subject in clear, as the token or certificate names it."""

    reference: str | None = None
    subject: str | None = None
    issuer: str | None = None
    tenant: str | None = None

    def reference_by(self, keyring: KeyRing, config: Config) -> str:
        """The keyed reference.

        Raises:
            ConfigError: it is no reference, or it is not said which issuer's subject is meant.
        """
        if self.reference is not None:
            if self.issuer or self.tenant:
                raise ConfigError("--reference stands for itself: leave out --issuer and --tenant")
            return erasure.parse_reference(self.reference)
        if not self.subject:
            raise ConfigError("name the person: --subject, as the token's subject, or --reference")
        mtls = config.identity.mtls
        known = [one.issuer for one in config.identity.issuers] + ([f"mtls:{mtls.name}"] if mtls else [])
        if self.issuer is None and len(known) != 1:
            raise ConfigError(f"--issuer: subjects of which one? {', '.join(known)}")
        return keyring.person_reference(self.issuer or known[0], self.tenant, self.subject)


# affidavit erase ---------------------------------------------------------------------------------------------------


def erase(path: Path, person: Person, order: Order, *, is_sure: bool, as_json: bool) -> int:
    """``affidavit erase``. Exit status 0 only if no key of the person is left, and there was one."""
    config, digest = load(path)
    keyring = registry.keyring(config)
    subject_ref = person.reference_by(keyring, config)
    if keyring.registry.newest(subject_ref) is None:
        return _tell_erasure(subject_ref, erasure.ErasureResult("unknown"), as_json=as_json)
    if not is_sure:
        _confirm(f"Nobody will ever read the content of {subject_ref} again. Destroy the key?")
    with Journal(config, digest, "command", keyring) as journal:
        result = erasure.erase(keyring.registry, subject_ref, order=order, clock=clock, journal=journal)
    return _tell_erasure(subject_ref, result, as_json=as_json)


def _tell_erasure(subject_ref: str, result: ErasureResult, *, as_json: bool) -> int:
    record = result.record
    if as_json:
        place = None if record is None else {"origin": record.origin, "sequence": record.sequence}
        told = {"subject_ref": subject_ref, "outcome": result.outcome, "generations": list(result.generations)}
        print(json.dumps({**told, "record": place, "hold": result.hold.name if result.hold else None}))
        return result.exit_status
    where = "" if record is None else f"record {record.sequence} of {record.origin}"
    match result.outcome:
        case "erased":
            numbers = ", ".join(map(str, result.generations))
            print(f"erased: key {numbers} of {subject_ref} is destroyed, as {where} says.")
            print(
                "Proofs still verify. Copies of the registry (backups, replicas) hold the key until they are destroyed."
            )
        case "already":
            print(f"nothing to erase: no key of {subject_ref} is left since {where}")
        case "held":
            print(f"refused: the legal hold {result.hold.name if result.hold else ''} is in force, as {where} says")
        case "unknown":
            print(f"unknown: the registry never had a key of {subject_ref}. Check --issuer and --tenant, or take")
            print("--reference: actor.subject_ref of a record (affidavit records show).")
    return result.exit_status


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask on: if you are sure, add --yes")
    print(f"{question} [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfigError("not confirmed: nothing was done")


# affidavit legal-hold ----------------------------------------------------------------------------------------------


def place_hold(path: Path, person: Person, name: str, until: str | None, order: Order) -> int:
    """``affidavit legal-hold place``."""
    config, digest = load(path)
    keyring = registry.keyring(config)
    subject_ref = person.reference_by(keyring, config)
    end = _time(until) if until is not None else None
    with Journal(config, digest, "command", keyring) as journal:
        placed = erasure.place_hold(keyring.registry, subject_ref, name, until=end, order=order, journal=journal)
    told = "it is released" if end is None else instant(end)
    print(f"placed: {name} on {subject_ref}, until {told}; record {placed.sequence} of {placed.origin}")
    return 0


def release_hold(path: Path, person: Person, name: str, order: Order) -> int:
    """``affidavit legal-hold release``."""
    config, digest = load(path)
    keyring = registry.keyring(config)
    subject_ref = person.reference_by(keyring, config)
    if name not in {hold.name for hold in keyring.registry.holds(subject_ref, clock())}:
        raise ConfigError(f"no hold {name} is in force on {subject_ref}: see affidavit legal-hold list")
    with Journal(config, digest, "command", keyring) as journal:
        gone = erasure.release_hold(keyring.registry, subject_ref, name, order=order, journal=journal, at=clock())
    print(f"released: {name} on {subject_ref}; record {gone.sequence} of {gone.origin}")
    return 0


def list_holds(path: Path, person: Person | None, *, as_json: bool) -> int:
    """``affidavit legal-hold list``."""
    config, _ = load(path)
    keyring = registry.keyring(config)
    subject_ref = person.reference_by(keyring, config) if person is not None else None
    found = keyring.registry.holds(subject_ref, clock())
    for hold in found:
        until = instant(hold.until) if hold.until else None
        if as_json:
            print(json.dumps({"subject_ref": hold.subject_ref, "hold": hold.name, "until": until}))
        else:
            print(f"{hold.subject_ref}  {hold.name}  until {until or 'it is released'}")
    if not found and not as_json:
        print("no hold is in force")
    return 0


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--until: {text!r} is no time; write for example 2027-01-31T00:00:00Z") from None


# affidavit keys ----------------------------------------------------------------------------------------------------


def create_key(path: Path) -> int:
    """``affidavit keys create``."""
    public_key = base64.b64encode(signer.create_signing_key(path)).decode()
    print(f"{path}: made; public key {public_key}")
    print("A first key: name it in audit.signing.file. A next one: name it in a copy of the configuration, then run")
    print("  affidavit keys rotate --config FILE --new-config COPY")
    return 0


def rotate_keys(path: Path, new_path: Path, handover_hours: int) -> int:
    """``affidavit keys rotate``: the manifest into the bucket, then the leaf. Run again after a crash, it goes on."""
    (config, digest), (new_config, _) = load(path), load(new_path)
    _check_same_gateway(config, new_config, new_path)
    old, new = registry.log_signer(config), registry.log_signer(new_config)
    desk = Desk(store_of(config), Terms(timedelta(days=config.audit.s3.retention_days), old), clock)
    try:
        number, made = _manifest(desk, config.audit.origin, old, new, timedelta(hours=handover_hours))
        with Journal(config, digest, "command", registry.keyring(config)) as journal:
            desk.put(named_object(f"v1/keys/{number:06d}", made, "note"), ShipReport())
            public_key = base64.b64encode(new.public_key).decode()
            facts = {"number": number, "public_key": public_key, "manifest_sha256": hashlib.sha256(made).hexdigest()}
            placed = journal.note(LeafKind.KEY_ROTATED, facts)
    except (StoreUnavailable, StoreRefused, NotKept) as error:
        raise AuditUnavailable(f"bucket {config.audit.s3.bucket}: {error}; run it again") from None
    print(f"key {number + 1}: {public_key} follows {base64.b64encode(old.public_key).decode()}")
    print(f"as v1/keys/{number:06d} and record {placed.sequence} of {placed.origin} say. Now:")
    print(f"  1. put audit.signing of {new_path} into {path}")
    until = note.json_of(note.open_note(made.decode()))["previous_until"]
    print(f"  2. restart every `affidavit serve` before {until}: what the old key signs later is no evidence")
    print("  3. then destroy the old key; auditors need no new policy file")
    return 0


def _check_same_gateway(config: Config, new: Config, new_path: Path) -> None:
    for name in ("origin", "s3"):
        if getattr(config.audit, name) != getattr(new.audit, name):
            raise ConfigError(f"{new_path}: audit.{name} differs; only audit.signing may")
    if config.audit.signing == new.audit.signing:
        raise ConfigError(f"{new_path}: audit.signing is the same; name the new key there (affidavit keys create)")


def _manifest(
    desk: Desk, gateway: str, old: signer.Signer, new: signer.Signer, handover: timedelta
) -> tuple[int, bytes]:
    """Number and note of the next manifest; the newest one if it is this rotation's already.

    Raises:
        ConfigError: the keys do not continue what is in the bucket.
        IntegrityError: what is in the bucket is no chain of manifests.
    """
    chain = [desk.store.fetch(key).decode(errors="replace") for key in desk.store.keys("v1/keys/")]
    rotation.accepted_keys([], chain, gateway)
    told = [note.json_of(note.open_note(one)) for one in chain]
    keys = [_told_key(old), _told_key(new)]
    if told and [told[-1]["previous_public_key"], told[-1]["public_key"]] == keys:
        return len(chain) - 1, chain[-1].encode()
    if told and told[-1]["public_key"] != keys[0]:
        raise ConfigError(
            "audit.signing is not the key that the bucket's newest manifest names: it was replaced before"
        )
    before = hashlib.sha256(chain[-1].encode()).hexdigest() if chain else None
    made = rotation.rotate(old, new, gateway, len(chain), before, clock(), handover)
    try:
        rotation.accepted_keys([], [*chain, made], gateway)
    except IntegrityError:
        raise ConfigError("the new key was the log's before: make another one (affidavit keys create)") from None
    return len(chain), made.encode()


def _told_key(one: signer.Signer) -> str:
    return base64.b64encode(one.public_key).decode()
