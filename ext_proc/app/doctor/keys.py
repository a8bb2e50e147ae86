"""Issuers, keys and certificates: reached, the right ones, and not about to end."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from ext_proc import strict_yaml
from ext_proc.app import registry
from ext_proc.app.doctor.asking import Unreachable, asked, told_by_envoy
from ext_proc.app.doctor.envoy import FAIL, OK, WARN, Finding
from ext_proc.app.doctor.store import clock_finding
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit import note, rotation
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ext_proc.config import Config, Issuer
    from ext_proc.identity.keys import KeySet

SOON_DAYS: Final = 14
_DISCOVERY: Final = "/.well-known/openid-configuration"


def look(config: Config, policy_file: Path | None, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """All there is to say of them."""
    for issuer in config.identity.issuers:
        yield from _issuer(issuer, clock)
    yield from _signing(config, policy_file)
    if (tls := config.listen.tls) is not None:
        yield certificate_finding(tls.certificate_file, config.listen.admin, clock())


def _issuer(issuer: Issuer, clock: Callable[[], datetime]) -> Iterator[Finding]:
    _, keys = registry.trust_of(issuer)
    failure = asyncio.run(_fetched(keys))
    name = f"issuer {issuer.issuer}"
    if failure is not None:
        yield Finding(name, FAIL, f"its keys cannot be fetched: {failure}", "docs/runbook.md#affidavitkeysnotfetched")
        return
    yield Finding(name, OK, "its keys are there")
    try:
        _, date = asked(issuer.issuer.rstrip("/") + _DISCOVERY, issuer.ca_file)
    except Unreachable:
        return  # it need not have one: keys came from elsewhere
    if date is not None:
        yield clock_finding(f"clock of {issuer.issuer}", (clock() - date).total_seconds())


async def _fetched(keys: KeySet) -> str | None:
    await keys.refresh()
    failure = keys.failure
    await keys.close()
    return failure


def _signing(config: Config, policy_file: Path | None) -> Iterator[Finding]:
    """The key that signs is one that auditors were told of: in their file, or by a manifest in the bucket."""
    mine = base64.b64encode(registry.log_signer(config).public_key).decode()
    if policy_file is None:
        says = f"signs with {mine[:12]}…; compare it with auditors' file: --policy FILE"
        yield Finding("keys.signing", OK, says)
        return
    told = strict_yaml.read(policy_file.read_bytes())
    if not isinstance(told, dict) or told.get("gateway") != config.audit.origin:
        yield Finding("keys.signing", FAIL, f"{policy_file}: is of another gateway", "affidavit auditor-policy")
        return
    chain = [_text(config, key) for key in store_of(config).keys("v1/keys/")]
    known = {str(one) for one in told.get("log_keys", ())}
    try:
        rotation.accepted_keys([], chain, config.audit.origin)
        manifests: list[Any] = [note.json_of(note.open_note(one)) for one in chain]
    except IntegrityError as error:
        yield Finding("keys.signing", FAIL, f"the bucket's manifests are no chain: {error.detail}", "affidavit verify")
        return
    for one in manifests:  # each begins with a key that is known already
        if one["previous_public_key"] in known:
            known.add(one["public_key"])
    if mine not in known:
        says = f"signs with {mine[:12]}…, of which auditors know nothing"
        yield Finding("keys.signing", FAIL, says, "affidavit keys rotate hands a key over; put the old one back")
        return
    yield Finding("keys.signing", OK, "signs with a key that auditors know")


def _text(config: Config, key: str) -> str:
    return store_of(config).fetch(key).decode(errors="replace")


def certificate_finding(path: Path, admin: str, now: datetime) -> Finding:
    """When the certificate ends that callers get: Envoy reads the file once, and this process may not have it.

    Args:
        path: its file.
        admin: Envoy's admin interface.
        now: by our clock.
    """
    try:
        ends = _served_until(told_by_envoy(admin, "/certs"), str(path.absolute()))
        whose = ""
    except Unreachable as silent:
        whose = f" (in {path}: Envoy does not say which one it serves, {silent})"
        try:
            ends = x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
        except (OSError, ValueError, IndexError):
            return Finding(
                "tls.certificate",
                FAIL,
                f"none that can be read{whose}",
                "start Envoy, or mend listen.tls.certificate_file",
            )
    if ends is None:
        says = f"Envoy serves no certificate of {path}"
        return Finding("tls.certificate", FAIL, says, "restart Envoy with the configuration that is in force")
    days = (ends - now).total_seconds() / 86400
    says = f"ends in {days:.0f} days" if days >= 0 else f"ended {-days:.0f} days ago"
    verdict = FAIL if days < 0 else WARN if days < SOON_DAYS else OK
    return Finding("tls.certificate", verdict, f"{says}{whose}", "renew it, and restart Envoy: it reads the file once")


def _served_until(told: Mapping[str, Any], path: str) -> datetime | None:
    """The end of the first to end of those that Envoy serves out of this file; None: it serves none of it.

    Raises:
        Unreachable: that is not what Envoy says of its certificates.
    """
    try:
        chains = [one for each in told["certificates"] for one in each.get("cert_chain", ()) if one["path"] == path]
        ends = [datetime.fromisoformat(one["expiration_time"]).astimezone(UTC) for one in chains]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Unreachable("no list of certificates") from None
    return min(ends, default=None)
