from __future__ import annotations

import json
from datetime import timedelta

import pytest
import yaml

from ext_proc.audit import merkle
from ext_proc.errors import IntegrityError
from ext_proc.evidence.prove import NotFound, Pathfinder, prove, prove_receipt
from ext_proc.evidence.versions import EvidenceError
from ext_proc.verify import verify
from tests.fakes import forge as forging
from tests.fakes.recorded import GATEWAY, NOON, Recorded
from tests.fakes.signer import FakeSigner


def quiet(_count):
    pass


@pytest.fixture
def recorded(tmp_path):
    return Recorded.at(tmp_path)


def findings(tmp_path, recorded, proof):
    path, policy = tmp_path / "proof.json", tmp_path / "policy.yaml"
    path.write_text(json.dumps(proof))
    key = forging.base64.b64encode(recorded.signer.public_key).decode()
    told = {
        "schema": "affidavit/policy/v1", "gateway": GATEWAY, "log_keys": [key], "retention_days": 400,
        "heartbeat_seconds": 60,
    }  # fmt: skip
    policy.write_text(yaml.safe_dump(told))
    return verify(str(path), policy, jobs=1).findings


@pytest.mark.parametrize("size", [*range(1, 12), 255, 256, 257, 512, 513, 700, 1025])
def test_paths_are_those_of_the_rfc(size):
    hashes = [merkle.hash_leaf(str(number).encode()) for number in range(size)]
    marked = {0, size // 2, size - 1, min(255, size - 1), min(256, size - 1)}
    tree = Pathfinder()
    for number, one in enumerate(hashes):
        tree.add(one, is_marked=number in marked)
    assert tree.root() == forging.tree_root(hashes)
    for index in marked:
        assert tree.proof(index) == forging.inclusion(hashes, index)


def test_an_exchange_is_proved_to_a_verifier_who_has_only_the_file(recorded, tmp_path):
    log = recorded.log()
    for number in range(300):
        log.exchange(f"before-{number}", NOON + timedelta(seconds=number))
        if number % 50 == 49:
            log.seal()
    log.exchange("wanted", NOON + timedelta(seconds=400), outcome=False)
    log.seal()
    log.outcome("wanted", NOON + timedelta(seconds=500), 601)
    log.seal()
    log.exchange("after", NOON + timedelta(seconds=600))
    log.seal()
    proof = prove(recorded.store, "wanted", quiet)
    assert proof["gateway"] == GATEWAY
    assert proof["schema"] == "affidavit/proof/v1"
    assert [json.loads(one["leaf"])["kind"] for one in proof["proofs"]] == ["inference.intent", "inference.outcome"]
    assert [one["index"] for one in proof["proofs"]] == [601, 602]
    assert {one["size"] for one in proof["proofs"]} == {603}, "the first checkpoint that covers it"
    assert findings(tmp_path, recorded, proof) == []
    proof["proofs"][0]["leaf"] = proof["proofs"][0]["leaf"].replace("gpt-4o", "gpt-5o")
    assert [one.code for one in findings(tmp_path, recorded, proof)] == ["root_mismatch"]


def test_witnesses_are_preferred(recorded):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal()
    log.exchange("other", NOON)
    log.seal()
    log.checkpoint(FakeSigner("witness"))
    proof = prove(recorded.store, "wanted", quiet)
    assert {one["size"] for one in proof["proofs"]} == {5}
    assert "— witness " in proof["proofs"][0]["checkpoint"]


def test_reads_only_the_span_that_is_named(recorded):
    early, late = recorded.log(at=NOON - timedelta(days=2)), recorded.log(at=NOON, salt="bbbbbbbb")
    early.exchange("old", NOON - timedelta(days=2))
    old = early.seal()
    late.exchange("wanted", NOON)
    late.seal()
    prove(recorded.store, "wanted", quiet, since=NOON - timedelta(minutes=1))
    assert old not in recorded.store.downloads
    with pytest.raises(NotFound):
        prove(recorded.store, "wanted", quiet, until=NOON - timedelta(days=1))


def test_a_receipt_is_redeemed_from_its_own_log_alone(recorded, tmp_path):
    other, log = recorded.log("gw-0-1", salt="bbbbbbbb"), recorded.log()
    other.exchange("elsewhere", NOON)
    elsewhere = other.seal()
    log.exchange("wanted", NOON)
    log.seal()
    proof = prove_receipt(recorded.store, log.receipt(2), quiet)
    assert proof["exchange_id"] == "wanted"
    assert [one["index"] for one in proof["proofs"]] == [1, 2]
    assert elsewhere not in recorded.store.downloads
    assert findings(tmp_path, recorded, proof) == []


@pytest.mark.parametrize("receipt", ["", "x", "a;b;c;d", "o;1;00;AAAA", "a/b/c;1;00;AAAA", "a/b/c;-1;00;AAAA"])
def test_what_is_no_receipt_is_refused(recorded, receipt):
    with pytest.raises(EvidenceError, match="not a receipt"):
        prove_receipt(recorded.store, receipt, quiet)


def test_receipts_that_the_log_does_not_keep(recorded):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal()
    good = log.receipt(2)
    with pytest.raises(NotFound, match="affidavit verify"):
        prove_receipt(recorded.store, good.replace(";2;", ";7;"), quiet)
    with pytest.raises(IntegrityError, match="not the one that the receipt promises"):
        prove_receipt(recorded.store, good.replace(";2;", ";1;"), quiet)


def test_refuses_to_prove_what_was_tampered_with(recorded):
    log = recorded.log()
    log.exchange("wanted", NOON)
    key = log.seal()
    number = next(n for n, (name, _, _) in enumerate(recorded.store.puts) if name == key)
    _, body, at = recorded.store.puts[number]
    lines = [one.replace(b"gpt-4o", b"gpt-5o") for one in forging.lines_of(body)]
    recorded.store.puts[number] = (key, forging.compressed(lines), at)
    with pytest.raises(IntegrityError, match="not the ones that were signed"):
        prove(recorded.store, "wanted", quiet)
    recorded.store.puts[number] = (key, forging.compressed(lines[:-1]), at)
    with pytest.raises(IntegrityError, match="holds 2 leaves"):
        prove(recorded.store, "wanted", quiet)
    recorded.store.puts[number] = (key, forging.compressed([b"{}", *lines[1:]]), at)
    with pytest.raises(IntegrityError):
        prove(recorded.store, "wanted", quiet)


def test_a_checkpoint_by_another_key_proves_nothing(recorded):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal(checkpoint=False)
    with pytest.raises(EvidenceError, match="try again"):
        prove(recorded.store, "wanted", quiet)
    recorded.signer = FakeSigner("thief")
    log.checkpoint()
    with pytest.raises(IntegrityError, match="not signed by the log's key"):
        prove(recorded.store, "wanted", quiet)


def test_somebody_reading_it_is_no_part_of_the_proof(recorded):
    log, command = recorded.log(), recorded.log("gw-0-command", salt="cccccccc")
    log.exchange("wanted", NOON)
    log.seal()
    command.add("access.read", NOON, {"exchange_id": "wanted", "roles": [], "by": "audit", "purpose": "x"})
    command.seal()
    proof = prove(recorded.store, "wanted", quiet)
    assert {json.loads(one["leaf"])["kind"] for one in proof["proofs"]} == {"inference.intent", "inference.outcome"}


def test_nothing_of_that_name(recorded):
    with pytest.raises(NotFound, match="no record of"):
        prove(recorded.store, "nobody", quiet)
    with pytest.raises(EvidenceError, match="x-affidavit-exchange"):
        prove(recorded.store, "a\nb", quiet)


def test_the_oldest_version_is_the_one_that_is_proved(recorded):
    log = recorded.log()
    log.exchange("wanted", NOON)
    key = log.seal()
    recorded.store.put(key, forging.compressed([b"{}"]))
    recorded.store.put(key, None)
    assert len(prove(recorded.store, "wanted", quiet)["proofs"]) == 2
