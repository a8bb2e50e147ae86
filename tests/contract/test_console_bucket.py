"""The console's evidence half as it runs: a configuration, a bucket with Object Lock (SeaweedFS), a log of its own."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from ext_proc.app import registry
from ext_proc.app.console.evidence import EvidenceHalf, EvidenceNotIndexed
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.app.serving.shipping import store_of
from ext_proc.console import seen
from ext_proc.console.people import Role, Viewer
from ext_proc.demo.seaweed import Seaweed, start_seaweed
from ext_proc.model import Identity
from tests.fakes.configured import a_config
from tests.fakes.indexed import exchange_id
from tests.fakes.recorded import GATEWAY, Recorded
from tests.fakes.s3_section import s3_section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_SECONDS = 60
X = exchange_id(1)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", 30)
    yield server
    server.program.stop()


async def test_what_is_put_is_found_shown_verified_and_its_reading_recorded(seaweed: Seaweed, tmp_path: Path) -> None:
    config, digest = a_config(tmp_path, origin=GATEWAY, s3=s3_section(tmp_path, seaweed, "console/"))
    keyring = registry.keyring(config)
    recorded = Recorded(keyring)
    recorded.signer = registry.log_signer(config)  # type: ignore[assignment]
    log = recorded.log(at=clock())
    log.exchange(X, clock())
    log.seal()
    store = store_of(config)
    for key, body, _ in recorded.store.puts:
        store.put(key, body or b"", hashlib.sha256(body or b"").hexdigest())
    ida = Identity("https://idp.example", "ida", "oidc", ("auditors",))
    viewer = Viewer(ida, frozenset({Role.AUDITOR}))
    with Journal(config, digest, "command", keyring) as journal:
        half = EvidenceHalf(config, keyring, journal, clock)
        half.start()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not await _found(half, viewer):  # noqa: ASYNC110 - a thread builds it
                    await asyncio.sleep(0.2)
            exchanges = half.exchanges
            one = await exchanges.one(viewer, X)
            verdict = await exchanges.verify_one(viewer, X)
            shown = await exchanges.payloads(viewer, X, "ticket 1")
            standing = await exchanges.verification()
            activations = await exchanges.activations()
        finally:
            half.stop()
        assert one is not None
        assert verdict is not None
        assert [(each.name, each.detail) for each in verdict.examined if not each.is_ok] == []
        assert all(proof.lock_mode == "COMPLIANCE" and proof.root_hash for proof in one.proofs)
        assert shown is not None
        assert shown.record is not None
        assert shown.record.origin == journal.origin
        assert {body.state for body in shown.bodies} == {"read"}
        assert [(head.origin, head.size) for head in standing.heads] == [(log.origin, 3)]
        assert [each.revision for each in activations.activations] == ["r1"]
    leaves = b"".join(path.read_bytes() for path in registry.evidence_directory(config).rglob("*") if path.is_file())
    assert b'"kind":"access.read"' in leaves
    assert keyring.subject_reference(ida).encode() in leaves


async def _found(half: EvidenceHalf, viewer: Viewer) -> bool:
    try:
        page = await half.exchanges.search(viewer, seen.Filters(query=X), 1, None)
    except EvidenceNotIndexed:
        return False
    return bool(page.lines)
