"""The line of bundles: what is offered, what counts as OPA's word on it, and that there is no way back."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from ext_proc.policy.publishing import REASONS, Offer, Publishing, Refusal


def a_bundle(revision: str, number: Any = None) -> bytes:
    manifest = json.dumps({"revision": revision, "metadata": {"affidavit_number": number}}).encode()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("/.manifest")
        member.size = len(manifest)
        archive.addfile(member, io.BytesIO(manifest))
    return gzip.compress(made.getvalue(), mtime=0)


def status(active: str, code: str | None = None, message: str = "") -> dict[str, Any]:
    told = {"active_revision": active, "code": code, "message": message}
    return {"bundles": {"policy": {name: value for name, value in told.items() if value}}}


def accepted(revision: str = "r1", number: int = 1) -> Publishing:
    made = Publishing()
    assert made.consider(a_bundle(revision, number)) is None
    assert isinstance(made.heard(status(revision)), Offer)
    return made


def test_offered_then_accepted() -> None:
    line = accepted()
    assert line.consider(a_bundle("r2", 2)) is None
    assert line.serving is not None
    assert (line.serving.revision, line.accepted and line.accepted.revision) == ("r2", "r1")
    assert line.heard(status("r1")) is None, "it has not got it yet"
    offer = line.heard(status("r2"))
    assert isinstance(offer, Offer)
    assert (line.accepted, line.offered, line.serving) == (offer, None, offer)


def test_an_error_counts_only_once_opa_has_the_offer() -> None:
    line = accepted()
    line.consider(a_bundle("r2", 2))
    error = status("r1", "bundle_error", "/x.rego: digest mismatch (want: 0, got: 1)")
    assert line.heard(error) is None
    line.gave("another")
    assert line.heard(error) is None
    assert line.offered is not None
    line.gave(line.offered.digest)
    refusal = line.heard(error)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.number) == ("tampered", 2)
    assert (line.offered, line.serving) == (None, line.accepted), "the one before is what a new OPA gets"


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (a_bundle("r0", 4), "older"),
        (a_bundle("r9", 5), "number_reused"),
        (a_bundle("r5", 6), "revision_reused"),
        (a_bundle("r6"), "unnumbered"),
        (a_bundle("r6", "7"), "unnumbered"),
        (a_bundle("r6", True), "unnumbered"),
        (a_bundle("r6", -1), "unnumbered"),
        (a_bundle("r6", 6.5), "unnumbered"),
        (b"", "unreadable"),
    ],
)
def test_out_of_line(bundle: bytes, reason: str) -> None:
    line = accepted("r5", 5)
    refusal = line.consider(bundle)
    assert refusal is not None
    assert refusal.reason == reason
    assert reason in REASONS
    assert line.consider(bundle) is None, "it is said once"
    assert line.refused == refusal
    assert line.consider(a_bundle("r5", 5)) is None
    assert line.refused is None, "the accepted one is back in its place"


@pytest.mark.parametrize(
    "late",
    [
        {"code": "bundle_error", "message": "server replied with Not Found", "http_code": 404},
        {"code": "bundle_error", "message": 'request failed: Get "http://127.0.0.1:9465/bundle": connection refused'},
    ],
)
def test_what_opa_could_not_fetch_is_not_refused(late: dict[str, Any]) -> None:
    """It asked before there was anything to have, and says so when it has fetched the offer: OPA 1.22 does, where it was
    started before the gate."""
    line = Publishing()
    assert line.consider(a_bundle("r1", 1)) is None
    assert line.offered is not None
    line.gave(line.offered.digest)
    assert line.heard({"bundles": {"policy": {"name": "policy", **late}}}) is None
    told = line.heard(status("r1"))
    assert told is not None and line.accepted == told and line.refused is None


def test_an_offer_that_is_replaced_is_forgotten() -> None:
    line = accepted()
    line.consider(a_bundle("r2", 2))
    line.consider(a_bundle("r3", 3))
    assert line.heard(status("r2")) is None
    assert isinstance(line.heard(status("r3")), Offer)


def test_other_bytes_are_no_offer_and_no_floor() -> None:
    line = accepted()
    line.consider(a_bundle("r2", 2))
    offer = line.heard(status("r2"))
    assert isinstance(offer, Offer)
    assert line.mistaken(offer).reason == "other_bytes"
    assert line.accepted is not None
    assert line.accepted.revision == "r1"


@pytest.mark.parametrize("said", [{}, {"bundles": None}, {"bundles": {"policy": 7}}, {"bundles": {"other": {}}}])
def test_a_status_that_says_nothing(said: Any) -> None:
    line = accepted()
    line.consider(a_bundle("r2", 2))
    assert line.heard(said) is None


def test_a_line_goes_on_after_a_restart() -> None:
    line = Publishing(Offer("r5", 5, "0" * 64))
    refusal = line.consider(a_bundle("r4", 4))
    assert refusal is not None
    assert refusal.reason == "older"
