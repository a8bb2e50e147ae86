"""The library as the command uses it: policy, sources, proofs, reports, processes."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ext_proc.verify import MEANING, Progress, VerifyError, verify
from ext_proc.verify.findings import Findings
from ext_proc.verify.names import read
from tests.fakes.forge import FIRST, GATEWAY, NOW, SECOND, Forge, Signer, build, canonical


@pytest.fixture(scope="module")
def forge() -> Forge:
    return build()


@pytest.fixture(scope="module")
def export(forge, tmp_path_factory):
    return forge.bucket.export(tmp_path_factory.mktemp("bucket") / "export", NOW, with_trees=True)


@pytest.fixture
def policy(forge, tmp_path):
    return forge.policy(tmp_path / "policy.yaml")


def test_several_processes_say_the_same_as_one(forge, export, policy, tmp_path):
    receipts = tmp_path / "receipts"
    receipts.write_text(forge.receipt(FIRST, 10) + "\n\n" + forge.receipt(SECOND, 3) + "x\n")
    seen: list[Progress] = []
    one = verify(str(export), policy, receipts=receipts, jobs=1)
    many = verify(str(export), policy, receipts=receipts, jobs=2, progress=seen.append)
    assert one == many
    assert [finding.code for finding in one.findings] == ["receipt_forged"]
    assert seen[-1].step == "done"
    assert seen[-1].leaves == one.leaves > 300
    assert one.epochs == 7


def test_the_report_for_machines(export, policy):
    told = verify(str(export), policy, jobs=1).to_json()
    assert set(told) == {"ok", "leaves", "epochs", "findings"}
    assert json.loads(json.dumps(told)) == told
    assert told["ok"] is True


def test_without_payloads_packs_are_not_read(forge, export, policy, tmp_path):
    mine = build()
    pack = mine.bucket.named("v1/payload/")[0]
    pack.body = bytes(len(pack.body or b""))
    folder = mine.bucket.export(tmp_path / "export", NOW)
    assert verify(str(folder), policy, jobs=1, without_payloads=True).ok
    assert not verify(str(folder), policy, jobs=1).ok


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"log_keys": []}, "log_keys"),
        ({"log_keys": ["x"]}, "log_keys"),
        ({"retention_days": "400"}, "retention_days"),
        ({"schema": "affidavit/policy/v2"}, "schema"),
        ({"surprise": 1}, "surprise"),
        ({"tsa_certificates": ["-----BEGIN"]}, "tsa_certificates"),
        ({"witnesses": {"keys": ["x"], "quorum": 1}}, "witnesses"),
        ({"heartbeat_seconds": 0}, "heartbeat_seconds"),
    ],
)
def test_a_policy_that_is_not_valid_names_the_field(forge, export, tmp_path, changes, word):
    with pytest.raises(VerifyError, match=word):
        verify(str(export), forge.policy(tmp_path / "p.yaml", **changes), jobs=1)


@pytest.mark.parametrize("text", ["", "[", "- 1", "a: !!python/object:os.system {}", "x: " + "[" * 5000])
def test_a_policy_that_is_no_policy(export, tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(VerifyError):
        verify(str(export), tmp_path / "p.yaml", jobs=1)


def test_what_cannot_run_says_what_to_do(forge, export, policy, tmp_path):
    for source in ("nowhere", str(tmp_path), str(policy)):
        with pytest.raises(VerifyError):
            verify(source, policy, jobs=1)
    with pytest.raises(VerifyError):
        verify(str(export), tmp_path / "nowhere.yaml", jobs=1)
    with pytest.raises(VerifyError):
        verify(str(export), policy, receipts=tmp_path / "nowhere", jobs=1)


# Proof files ---------------------------------------------------------------------------------------------------------


def proof_file(tmp_path, *proofs, **changes):
    path = tmp_path / "proof.json"
    path.write_text(json.dumps({"schema": "affidavit/proof/v1", "gateway": GATEWAY, "proofs": list(proofs), **changes}))
    return str(path)


def test_a_proof(forge, policy, tmp_path):
    source = proof_file(tmp_path, forge.proof(FIRST, 0), forge.proof(FIRST, 33), forge.proof(SECOND, 7))
    report = verify(source, policy)
    assert (report.ok, report.leaves, report.epochs) == (True, 3, 2)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"leaf": '{"a":1}'}, "root_mismatch"),
        ({"index": 34}, "root_mismatch"),
        ({"index": 34}, "leaf_misplaced"),
        ({"size": 35}, "root_mismatch"),
        ({"hashes": []}, "root_mismatch"),
        ({"hashes": ["x"]}, "object_unreadable"),
        ({"hashes": [5]}, "object_unreadable"),
        ({"checkpoint": "x"}, "object_unreadable"),
        ({"vkey": Signer("x").vkey("x")}, "note_replayed"),
        ({"leaf": 5}, "object_unreadable"),
        ({"index": -1}, "object_unreadable"),
    ],
)
def test_a_proof_that_does_not_hold(forge, policy, tmp_path, change, code):
    source = proof_file(tmp_path, {**forge.proof(FIRST, 33), **change})
    assert code in {one.code for one in verify(source, policy).findings}


def test_a_proof_of_a_leaf_with_a_fraction(forge, policy, tmp_path):
    proof = forge.proof(FIRST, 33)
    told = json.loads(proof["leaf"])
    for value, codes in ((1, {"root_mismatch"}), (1.5, {"root_mismatch", "leaf_invalid"})):
        leaf = canonical({**told, "x": value}).decode().rstrip("\n")
        report = verify(proof_file(tmp_path, {**proof, "leaf": leaf}), policy)
        assert {one.code for one in report.findings} == codes


def test_a_proof_by_another_key_or_gateway(forge, policy, tmp_path):
    from copy import copy

    other = copy(forge)
    other.signer = Signer("another")
    found = verify(proof_file(tmp_path, other.proof(FIRST, 3)), policy)
    assert {one.code for one in found.findings} == {"signature_unknown_key"}
    found = verify(proof_file(tmp_path, forge.proof(FIRST, 3), gateway="x"), policy)
    assert {one.code for one in found.findings} == {"note_replayed"}
    assert not verify(proof_file(tmp_path), policy).ok


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"schema":"affidavit/proof/v1"}',
        "[" * 10000,
        '{"schema":"affidavit/proof/v1","proofs":["\\ud800"]}',
    ],
)
def test_what_is_no_proof_file(policy, tmp_path, text):
    (tmp_path / "proof.json").write_text(text)
    with pytest.raises(VerifyError):
        verify(str(tmp_path / "proof.json"), policy)


# Small things --------------------------------------------------------------------------------------------------------


def test_findings_are_counted_beyond_what_is_kept():
    findings = Findings()
    for n in range(1000):
        findings.add("sequence_gap", f"o{n}", "A hole.")
        findings.add("sequence_gap", "o0", "A hole.")
    report = findings.report(0, 0)
    assert len(report.findings) == 201
    assert "more findings" in report.findings[-1].explanation
    findings.add("canary_failed", "a\x1b[31m\n", "It\x07.")
    last = next(one for one in findings.report(0, 0).findings if one.code == "canary_failed")
    assert last.object.isprintable()
    assert last.explanation.isprintable()


def test_every_code_of_the_document_has_a_meaning():
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "record-format.md").read_text()
    table = text.partition("## 9.")[2].partition("\n## ")[0]
    codes = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert codes == set(MEANING)


@pytest.mark.parametrize(
    "key",
    [
        "v1/events/x",
        "v1/events/dt=2026-11-24/hour=24/replica=a/epoch=20261124T221000000000-aaaaaaaa/0000000000000000-0000000000000001-0123456789abcdef.jsonl.zst",
        "v1/events/dt=2026-11-24/hour=22/replica=../epoch=20261124T221000000000-aaaaaaaa/0000000000000000-0000000000000001-0123456789abcdef.jsonl.zst",
        "v1/events/dt=2026-11-24/hour=22/replica=a/epoch=20261124T221000000000-aaaaaaaa/0000000000000002-0000000000000001-0123456789abcdef.jsonl.zst",
        "v1/events/dt=2026-11-24/hour=22/replica=a/epoch=20261124T221000000000-aaaaaaaa/0000000000000000-0000000000000001-0123456789abcdeF.jsonl.zst",
        "v1/events/dt=\uff12026-11-24/hour=22/replica=a/epoch=20261124T221000000000-aaaaaaaa/0000000000000000-0000000000000001-0123456789abcdef.jsonl.zst",
        "v1/rollup/dt=2026-11-24/0123456789abcdef.note\n",
        "v2/rollup/dt=2026-11-24/0123456789abcdef.note",
        "v1",
    ],
)
def test_names_that_do_not_belong(key):
    assert read(key) is None


def test_a_young_bucket_is_no_tampered_one(tmp_path, policy):
    """Between an object and what follows it (checkpoint, digest, leaf that names it) a verification may fall."""
    forge = build()
    cut = NOW - timedelta(minutes=5)
    forge.bucket.versions = [one for one in forge.bucket.versions if one.at <= cut]
    assert verify(str(forge.bucket.export(tmp_path / "export", cut)), policy, jobs=1).findings == []


@pytest.mark.parametrize("minutes", range(1, 140, 9))
def test_at_any_moment(tmp_path, policy, minutes):
    """The bucket as it was at some moment of its life verifies, up to what only time can tell."""
    forge = build()
    cut = NOW - timedelta(minutes=minutes)
    forge.bucket.versions = [one for one in forge.bucket.versions if one.at <= cut]
    found = {one.code for one in verify(str(forge.bucket.export(tmp_path / "export", cut)), policy, jobs=1).findings}
    # An object is sealed for ten minutes here, longer than a young log may be silent.
    assert found <= {"epoch_unended", "epoch_missing", "object_unexpected", "canary_failed"} - {"canary_failed"}


def test_the_room_shares_no_code_with_the_writer():
    import ast
    from pathlib import Path

    import ext_proc.verify

    for file in Path(ext_proc.verify.__file__).parent.glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
            elif isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
        ours = {name for name in names if name.startswith("ext_proc") and not name.startswith("ext_proc.verify")}
        # `aws` brings bytes or an error; what they mean is not there.
        assert ours <= {"ext_proc.errors", "ext_proc.aws"}, file
        aws = {name for name in names if name.split(".")[0] in ("boto3", "botocore")}
        assert not aws or file.name == "bucket.py"
