"""``affidavit check-installation``: one call as a caller makes it, and is its record locked in the store?

What `helm test` runs. It asks through the front door, then reads the bucket as an auditor would: the exchange's
records, each with its proof, verified by the verifier that shares nothing with the gate; and the locks of what holds
them.
"""

from __future__ import annotations

import json
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.app.evidence.auditing import auditor_policy, store_of_source
from ext_proc.app.process import clock
from ext_proc.config import load
from ext_proc.errors import ConfigError, GateError
from ext_proc.evidence.events import objects_of
from ext_proc.evidence.names import LogName
from ext_proc.evidence.prove import prove
from ext_proc.evidence.versions import EvidenceError
from ext_proc.record_kinds import LeafKind
from ext_proc.verify import VerifyError, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from ext_proc.config import Config
    from ext_proc.evidence.versions import VersionedStore

KINDS: Final = (LeafKind.INFERENCE_INTENT, LeafKind.INFERENCE_OUTCOME)
_CALL_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 2.0
_BEFORE: Final = timedelta(minutes=5)
"""Clocks of the store, the gate and this machine may differ so much."""


class NotSo(GateError):
    """Something is not as it must be; ``detail`` says what (exit status 1)."""

    code = "not_so"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: with a token from a file, or from an issuer's token endpoint."""

    token_file: Path | None = None
    token_endpoint: str | None = None
    client_dir: Path | None = None
    form: tuple[str, ...] = ()

    def token(self) -> str:
        """The access token.

        Raises:
            ConfigError: a file cannot be read, or the issuer gives none.
        """
        token = self._token()
        if not token.isprintable() or " " in token:
            raise ConfigError("no token: there is more than one word where it should be")
        return token

    def _token(self) -> str:
        told = dict(pair.split("=", 1) for pair in self.form if "=" in pair)
        if len(told) != len(self.form):
            raise ConfigError("--form: NAME=VALUE is wanted, each name once")
        try:
            if self.token_file is not None:
                return self.token_file.read_text().strip()
            if self.token_endpoint is None or self.client_dir is None:
                raise ConfigError("name --token-file, or --token-endpoint and --client-dir")
            form = {"grant_type": "client_credentials", **told}
            form |= {name: (self.client_dir / name).read_text().strip() for name in ("client_id", "client_secret")}
            data = urllib.parse.urlencode(form).encode()
            with urllib.request.urlopen(self.token_endpoint, data, timeout=_CALL_SECONDS) as answer:  # noqa: S310 - the operator's own
                return str(json.load(answer)["access_token"])
        except OSError as error:
            raise ConfigError(f"no token: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError("no token: the token endpoint did not answer with one") from None


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, and where. ``certificate``: the gateway's own, where no public authority vouches for it."""

    url: str
    body: str
    certificate: Path | None = None

    def made(self, token: str) -> str:
        """Ask; the exchange's id.

        Raises:
            NotSo: nobody answers, or not with a governed answer.
        """
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.url, self.body.encode(), headers)  # noqa: S310 - the operator's own
        try:
            with urllib.request.urlopen(request, timeout=_CALL_SECONDS, context=self._tls()) as answer:  # noqa: S310
                answer.read()
                exchange = answer.headers.get("x-affidavit-exchange")
        except urllib.error.HTTPError as refused:
            said = refused.read(500).decode(errors="replace")
            raise NotSo(f"{self.url} answered with {refused.code}: {said}") from None
        except (OSError, HTTPException) as error:
            raise NotSo(f"{self.url}: {error}") from None
        if not exchange:
            raise NotSo(f"{self.url}: the answer has no x-affidavit-exchange: is this the gateway?")
        return str(exchange)

    def _tls(self) -> ssl.SSLContext | None:
        if self.certificate is None:
            return None
        context = ssl.create_default_context(cafile=self.certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its own certificate is enough
        context.check_hostname = False  # and whoever has its key is the gateway, by whatever name we came
        return context


def run(path: Path, caller: Caller, call: Call, deadline_seconds: float) -> int:
    """Exit status 0: called, recorded, proved and locked; 1: one of these is not so."""
    config, _ = load(path)
    store = store_of_source(None, config)
    since = clock() - _BEFORE
    try:
        exchange = call.made(caller.token())
        print(f"✓ {call.url} answered; exchange {exchange}")
        proof = _proof(store, exchange, since, deadline_seconds)
        print(f"✓ its {len(proof['proofs'])} records are in {store.name}")
        _verified(config, proof)
        print("✓ their proofs hold: signed by the gateway's log key")
        until = min(_locked(config, store, proof))
        print(f"✓ they are locked (COMPLIANCE) until {until:%Y-%m-%d} at least")
    except NotSo as found:
        print(f"✗ {found.detail}")
        return 1
    return 0


def _proof(store: VersionedStore, exchange: str, since: datetime, seconds: float) -> Mapping[str, Any]:
    """Of intent and outcome, once both are there."""
    deadline = monotonic() + seconds
    why = "no record"
    while monotonic() < deadline:
        try:
            proof = prove(store, exchange, lambda _: None, since=since)
        except EvidenceError as not_yet:
            why = not_yet.detail
        else:
            found = {json.loads(one["leaf"])["kind"] for one in proof["proofs"]}
            if missing := [kind for kind in KINDS if kind not in found]:
                why = f"{missing[0]} is missing"
            else:
                return proof
        sleep(_POLL_SECONDS)
    raise NotSo(f"exchange {exchange} is not on record after {seconds:g} s: {why}")


def _verified(config: Config, proof: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, policy = Path(folder) / "proof.json", Path(folder) / "policy.yaml"
        file.write_text(json.dumps(proof))
        policy.write_text(yaml.safe_dump(auditor_policy(config)))
        try:
            report = verify(str(file), policy)
        except VerifyError as error:
            raise NotSo(f"the proof cannot be verified: {error}") from None
    if not report.ok:
        raise NotSo("; ".join(f"{one.code}: {one.explanation}" for one in report.findings))


def _locked(config: Config, store: VersionedStore, proof: Mapping[str, Any]) -> Iterator[datetime]:
    """Until when each object that holds a record is locked."""
    for one in proof["proofs"]:
        log = LogName.of_origin(json.loads(one["leaf"])["origin"])
        if log is None:
            raise NotSo("a record names no log")
        for name, version in objects_of(store, log):
            if not name.first <= one["index"] <= name.last:
                continue
            lock = store.download(version, BytesIO())
            least = version.last_modified + timedelta(days=config.audit.s3.retention_days - 1)
            if lock.mode != "COMPLIANCE" or lock.retain_until is None or lock.retain_until < least:
                raise NotSo(f"{version.key} is not locked for {config.audit.s3.retention_days} days: {lock}")
            yield lock.retain_until
