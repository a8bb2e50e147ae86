"""The tamper matrix: each way to tamper gives its own finding code, from the auditor's side alone."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from datetime import timedelta

import pytest

from ext_proc.verify import MEANING, verify
from tests.fakes.forge import (
    FIRST,
    GATEWAY,
    NOW,
    SECOND,
    SIGNER,
    START,
    THIRD,
    Draft,
    Forge,
    Signer,
    build,
    canonical,
    sha,
    standard_plans,
    write_sums,
)
from tests.tamper.tampers import BUCKET, OTHER, SIGNED, break_events, checkpoints, only, rewrite, truncate

TRIED: set[str] = set()


def codes_of(
    forge: Forge, folder, *, receipts: list[str] | None = None, policy: dict | None = None, **bucket
) -> set[str]:
    forge.bucket.export(folder / "export", NOW, **bucket)
    return codes_in(forge, folder, receipts=receipts, policy=policy)


def codes_in(forge: Forge, folder, *, receipts: list[str] | None = None, policy: dict | None = None) -> set[str]:
    file = None
    if receipts is not None:
        file = folder / "receipts.txt"
        file.write_text("\n".join(receipts) + "\n")
    report = verify(
        str(folder / "export"), forge.policy(folder / "policy.yaml", **(policy or {})), receipts=file, jobs=1
    )
    assert report.ok is (not report.findings)
    for one in report.findings:
        assert one.code in MEANING
        assert one.object
        assert one.explanation.endswith(".")
    found = {one.code for one in report.findings}
    TRIED.update(found)
    return found


def test_a_clean_bucket_gives_no_finding(forge, tmp_path):
    receipts = [forge.receipt(FIRST, 10), "x-affidavit-receipt: " + forge.receipt(SECOND, 3)]
    assert codes_of(forge, tmp_path, receipts=receipts, with_trees=True) == set()


@pytest.mark.parametrize("name", BUCKET)
def test_who_holds_the_bucket(forge, tmp_path, name):
    tamper, code = BUCKET[name]
    tamper(forge)
    assert code in codes_of(forge, tmp_path)


def test_ciphertexts_of_records_that_cannot_be_read_are_not_said_to_be_added(forge, tmp_path):
    """Nobody put them there: what named them was changed, and that is told."""
    break_events(forge)
    forge.bucket.export(tmp_path / "export", NOW)
    found = verify(str(tmp_path / "export"), forge.policy(tmp_path / "policy.yaml"), jobs=1).findings
    assert "object_unreadable" in {one.code for one in found}
    assert not [one for one in found if one.object.endswith(".pack") and one.code == "object_unexpected"]


def test_what_is_sealed_while_the_bucket_is_listed_is_no_finding(forge, tmp_path):
    """Events are listed first: the checkpoint is there then, and its events are not in the list."""
    truncate(forge)
    checkpoints(forge, THIRD)[-1].at = NOW + timedelta(seconds=1)
    assert "checkpoint_stale" not in codes_of(forge, tmp_path)


@pytest.mark.parametrize("name", SIGNED)
def test_who_holds_the_signing_key(tmp_path, name):
    tamper, code = SIGNED[name]
    assert code in codes_of(tamper(), tmp_path)


@pytest.mark.parametrize(
    "bucket",
    [
        {"versioning": "Suspended"},
        {"object_lock": {"enabled": False, "mode": None, "days": None}},
    ],
)
def test_a_bucket_without_lock(forge, tmp_path, bucket):
    assert codes_of(forge, tmp_path, **bucket) == {"bucket_unlocked"}


def test_nothing_at_all(forge, tmp_path):
    forge.bucket.versions = []
    assert codes_of(forge, tmp_path) == {"epoch_missing"}


# Receipts ------------------------------------------------------------------------------------------------------------


def test_forged_receipts(forge, tmp_path):
    good = forge.receipt(FIRST, 10)
    edited = good.replace(";10;", ";11;")
    by_another = forge.receipt(FIRST, 10, Signer("a forger's"))
    assert codes_of(forge, tmp_path, receipts=[edited]) == {"receipt_forged"}
    assert codes_in(forge, tmp_path, receipts=[by_another]) == {"receipt_forged"}
    assert codes_in(forge, tmp_path, receipts=["nonsense"]) == {"receipt_forged"}


def test_a_true_receipt_for_a_leaf_that_the_log_does_not_hold(forge, tmp_path):
    receipt = forge.receipt(THIRD, 5)
    forge.built[THIRD].hashes[6] = bytes(32)
    lost = forge.receipt(THIRD, 6)
    assert codes_of(forge, tmp_path, receipts=[receipt]) == set()
    assert codes_in(forge, tmp_path, receipts=[lost]) == {"receipt_unmatched"}


def test_a_receipt_of_a_log_that_was_removed(forge, tmp_path):
    receipt = forge.receipt(FIRST, 10)
    forge.bucket.remove(*forge.bucket.named(FIRST[1]))
    assert "receipt_unmatched" in codes_of(forge, tmp_path, receipts=[receipt])


# Time stamps and witnesses -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stamped(authority):
    return build(Forge(stamp=authority[1]))


def test_time_stamps(stamped, authority, tmp_path):
    policy = {"tsa_certificates": [authority[0]]}
    assert codes_of(stamped, tmp_path, policy=policy) == set()
    assert codes_in(stamped, tmp_path) == set()  # an auditor who names no authority


def test_a_forged_time_stamp(made, authority, tmp_path):
    from tests.tamper.authority import start_authority

    (tmp_path / "other").mkdir()
    root, _ = start_authority(tmp_path / "other")
    forge = build(Forge(stamp=authority[1]))
    forge.bucket.export(tmp_path / "export", NOW)
    assert "timestamp_invalid" in codes_in(forge, tmp_path, policy={"tsa_certificates": [root]})


def test_a_time_stamp_of_another_digest(authority, tmp_path):
    forge = build(Forge(stamp=authority[1]))
    first, second = forge.bucket.named(".tsr")[:2]
    first.body = second.body
    assert codes_of(forge, tmp_path, policy={"tsa_certificates": [authority[0]]}) == {"timestamp_invalid"}
    assert codes_in(forge, tmp_path) == {"timestamp_invalid"}


def test_a_flipped_time_stamp(authority, tmp_path):
    forge = build(Forge(stamp=authority[1]))
    one = forge.bucket.named(".tsr")[0]
    body = bytearray(one.body)
    body[-20] ^= 1
    one.body = bytes(body)
    assert codes_of(forge, tmp_path, policy={"tsa_certificates": [authority[0]]}) == {"timestamp_invalid"}


def test_missing_time_stamps(authority, forge, tmp_path):
    assert codes_of(forge, tmp_path, policy={"tsa_certificates": [authority[0]]}) == {"timestamp_missing"}


def test_records_from_after_their_time_stamp(authority, tmp_path):
    """The authority's clock is today's; a gateway that dates its records a century on is caught by it."""
    forge = Forge(stamp=authority[1])
    forge.change_digest = lambda told: told.update(to="2126-11-24T22:59:00.000000Z")
    found = codes_of(build(forge), tmp_path, policy={"tsa_certificates": [authority[0]]})
    assert "clock_backwards" in found


def test_witnesses(tmp_path):
    witnesses = {"w1.example": Signer("w1"), "w2.example": Signer("w2")}
    forge = Forge()
    forge.witnesses = witnesses
    build(forge)
    keys = [signer.vkey(name, b"\4") for name, signer in witnesses.items()]
    assert codes_of(forge, tmp_path, policy={"witnesses": {"keys": keys, "quorum": 2}}) == set()
    stranger = Signer("w3").vkey("w3.example", b"\4")
    policy = {"witnesses": {"keys": [keys[0], stranger], "quorum": 2}}
    assert codes_in(forge, tmp_path, policy=policy) == {"witness_missing"}


# Keys ----------------------------------------------------------------------------------------------------------------


def manifest(forge: Forge, new: Signer, signers: list[Signer], number: int = 0, **changes) -> None:
    told = {
        "schema": "affidavit/keys/v1", "gateway": "demo.example/affidavit", "number": number,
        "public_key": new.public_text, "previous_public_key": SIGNER.public_text, "previous_sha256": None,
        "at": "2026-11-24T22:00:00.000000Z", "previous_until": "2026-11-25T22:00:00.000000Z", **changes,
    }  # fmt: skip
    text = canonical(told) + b"\n"
    note = text + b"\n" + b"".join(one.line("demo.example/affidavit", text) for one in signers)
    forge.bucket.put(f"v1/keys/{number:06d}-{sha(note)[:16]}.note", note, NOW - timedelta(hours=3))


def test_a_rotated_key_is_accepted(tmp_path):
    forge = build(Forge(OTHER))
    manifest(forge, OTHER, [SIGNER, OTHER])
    assert codes_of(forge, tmp_path) == set()


@pytest.mark.parametrize(
    ("signers", "changes", "code"),
    [
        ([OTHER], {}, "signature_unknown_key"),
        ([SIGNER], {}, "signature_invalid"),
        ([SIGNER, OTHER], {"gateway": "another"}, "note_replayed"),
        ([SIGNER, OTHER], {"gateway": GATEWAY + "2"}, "note_replayed"),
        ([SIGNER, OTHER], {"previous_sha256": "0" * 64}, "note_replayed"),
        ([SIGNER, OTHER], {"public_key": "x"}, "object_unreadable"),
    ],
)
def test_a_key_that_nobody_introduced(tmp_path, signers, changes, code):
    forge = build(Forge(OTHER))
    manifest(forge, OTHER, signers, **changes)
    found = codes_of(forge, tmp_path)
    assert code in found
    assert "signature_unknown_key" in found


def test_a_key_that_was_replaced_signs_on(tmp_path):
    """A thief of the old key: what he signs is true to the letter, and the store got it too late."""
    forge = build()
    manifest(forge, OTHER, [SIGNER, OTHER], previous_until="2026-11-24T23:00:00.000000Z")
    assert "signature_retired_key" in codes_of(forge, tmp_path)


def test_a_key_that_was_replaced_introduces_no_other(tmp_path):
    forge, thief = build(), Signer("thief")
    manifest(forge, OTHER, [SIGNER, OTHER])
    [first] = [one for one in forge.bucket.versions if one.key.startswith("v1/keys/")]
    manifest(forge, thief, [SIGNER, thief], 1, previous_sha256=sha(first.body))
    assert codes_of(forge, tmp_path) == {"signature_retired_key"}


@pytest.mark.parametrize(("until", "codes"), [("2027-01-01T00:00:00Z", set()), ("2026-11-24T23:00:00Z", None)])
def test_the_auditor_may_say_until_when_a_key_counts(tmp_path, until, codes):
    forge = build()
    forge.bucket.export(tmp_path / "export", NOW)
    found = codes_in(forge, tmp_path, policy={"log_keys": [{"key": SIGNER.public_text, "until": until}]})
    assert found == codes if codes is not None else "signature_retired_key" in found


# Days ----------------------------------------------------------------------------------------------------------------


def test_a_day_without_a_roll_up(forge, tmp_path):
    forge.bucket.export(tmp_path / "export", NOW + timedelta(days=2))
    found = codes_in(forge, tmp_path)
    assert "rollup_missing" in found  # 25 November has records, is over, and was not rolled up


def test_an_hour_without_a_digest(forge, tmp_path):
    forge.bucket.remove(*[one for one in forge.bucket.named("v1/digest/") if SECOND[1] in one.key])
    assert "digest_missing" in codes_of(forge, tmp_path)


# The export itself ---------------------------------------------------------------------------------------------------


def files_of(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_any_flipped_byte_of_any_file_is_found(forge, tmp_path):
    """One random byte of every file; files that are small, or have a part of their own, more often."""
    forge.bucket.put("v1/canary/x/again", b"later bait", NOW - timedelta(hours=1))
    forge.bucket.export(tmp_path / "export", NOW, with_trees=True)
    assert codes_in(forge, tmp_path) == set()
    policy = tmp_path / "policy.yaml"
    chosen = random.Random(20261125)
    for path in files_of(tmp_path / "export"):
        whole = path.read_bytes()
        for _ in range(3 if path.parent == tmp_path / "export" else 1):
            at, bit = chosen.randrange(len(whole)), 1 << chosen.randrange(8)
            changed = bytearray(whole)
            changed[at] ^= bit
            path.write_bytes(changed)
            report = verify(str(tmp_path / "export"), policy, jobs=1)
            assert not report.ok, f"{path.relative_to(tmp_path)}: byte {at}, bit {bit}"
        path.write_bytes(whole)
    assert codes_in(forge, tmp_path) == set()


def test_files_that_are_not_listed_or_gone(forge, tmp_path):
    forge.bucket.export(tmp_path / "export", NOW, with_trees=True)
    (tmp_path / "export" / "objects" / "v1" / "stray").write_text("x")
    assert codes_in(forge, tmp_path) == {"object_unexpected"}
    (tmp_path / "export" / "objects" / "v1" / "stray").unlink()
    (tmp_path / "export" / "objects" / "link").symlink_to("/etc/passwd")
    assert codes_in(forge, tmp_path) == {"object_unexpected"}
    (tmp_path / "export" / "objects" / "link").unlink()
    path = tmp_path / "export" / "objects" / only(forge, "v1/rollup/").key
    path.unlink()
    assert "object_missing" in codes_in(forge, tmp_path)


@pytest.mark.parametrize(
    "place", ["../../etc/passwd", "/etc/passwd", "objects/../../policy.yaml", "objects/\0", "objects"]
)
def test_an_inventory_that_points_elsewhere(forge, tmp_path, place):
    folder = forge.bucket.export(tmp_path / "export", NOW)
    lines = (folder / "inventory.jsonl").read_bytes().splitlines()
    told = json.loads(lines[0])
    lines[0] = canonical({**told, "file": place})
    (folder / "inventory.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    write_sums(folder)
    assert "object_missing" in codes_in(forge, tmp_path)


def test_a_pipe_in_place_of_an_object_does_not_hang(forge, tmp_path):
    import os

    folder = forge.bucket.export(tmp_path / "export", NOW)
    path = folder / "objects" / only(forge, "v1/rollup/").key
    path.unlink()
    os.mkfifo(path)
    assert "object_missing" in codes_in(forge, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda log: (log / "checkpoint").write_bytes(b"x"),
        lambda log: (log / "log.vkey").write_text(OTHER.vkey("x")),
        lambda log: shutil.rmtree(log / "tile" / "entries"),
        lambda log: shutil.rmtree(log / "tile" / "0"),
        lambda log: (log / "tile" / "0" / "001").write_bytes(bytes(8192)),
        lambda log: (log / "tile" / "notes").write_bytes(b"x"),
        shutil.rmtree,
    ],
)
def test_trees_that_do_not_follow(forge, tmp_path, change):
    folder = forge.bucket.export(tmp_path / "export", NOW, with_trees=True)
    change(folder / "logs" / FIRST[0] / FIRST[1])
    assert codes_in(forge, tmp_path) == {"tile_mismatch"}


JUNK = [
    None,
    5,
    -1,
    "",
    "x",
    "2026",
    [],
    {},
    True,
    [5],
    [[]],
    {"a": 1},
    2**53 - 1,
    "9999-12-31T23:59:59.999999Z",
    "\ud7ff",
]


def spoil(chosen: random.Random, told: dict) -> None:
    for name in chosen.sample(sorted(told), k=min(len(told), chosen.randrange(1, 3))):
        value = told[name]
        if isinstance(value, list) and value and isinstance(value[0], dict) and chosen.random() < 0.7:
            spoil(chosen, value[0])
        else:
            told[name] = chosen.choice(JUNK)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_holder_of_the_key_signs_there_is_a_report(tmp_path, seed):
    """Fields of leaves and notes of any kind and size: findings, and never a traceback."""
    chosen = random.Random(seed)
    forge = Forge()
    forge.change_digest = lambda told: spoil(chosen, told)
    forge.change_rollup = lambda told: spoil(chosen, told)
    plans = standard_plans()
    for draft in plans.third.drafts:
        if draft.fields and draft.kind != "log.open" and chosen.random() < 0.3:
            spoil(chosen, draft.fields)
    if seed % 3 == 0:
        spoil(chosen, plans.second.drafts[0].fields)
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # the forge itself may stumble over its junk
        build(forge, plans, spoken=lambda said: [spoil(chosen, one.fields) for one in said] and None)
    for one in forge.bucket.named("v1/r"):
        if one.body and chosen.random() < 0.5:
            text, _, tail = one.body.partition(b"\n\n")
            told = json.loads(text)
            spoil(chosen, told)
            text = canonical(told) + b"\n"
            rewrite(one, SIGNER.note(tail.split(b" ")[1].decode(), text))
    assert codes_of(forge, tmp_path, policy={"witnesses": {"keys": [OTHER.vkey("w", b"\4")], "quorum": 1}})


BUNDLE = b"a bundle"


def decided(*copies: tuple[int, bytes, bool]) -> Forge:
    """A policy that decided in the first log, an hour long, and copies of it: minutes after its beginning, bytes, named?"""
    plans, forge, digest = standard_plans(), Forge(), sha(BUNDLE)
    for draft in plans.first.drafts:
        if "policy" in draft.fields and draft is not plans.asked:
            draft.fields["policy"] = draft.fields["policy"] | {"bundle_digest": digest}

    def spoken(said: list[Draft]) -> None:
        for minutes, body, is_named in copies:
            at = START + timedelta(minutes=minutes)
            key = f"v1/policy/{digest}{f'.{at:%Y%m%dT%H%M%SZ}' if minutes else ''}.tar.gz"
            forge.bucket.put(key, body, at)
            if is_named:
                kind = "policy.kept" if minutes else "policy.activated"
                said.append(Draft(kind, at + timedelta(seconds=1), {"revision": "r", "digest": digest, "key": key}))

    return build(forge, plans, spoken=spoken)


@pytest.mark.parametrize(
    ("copies", "found"),
    [
        ([(0, BUNDLE, True)], {"policy_lock_short"}),
        ([(0, BUNDLE, True), (30, BUNDLE, True)], {"policy_lock_short"}),
        ([(0, BUNDLE, True), (80, BUNDLE, True)], set()),
        ([(0, BUNDLE, True), (80, b"another", True)], {"policy_lock_short", "object_changed"}),
        ([(0, BUNDLE, True), (80, BUNDLE, False)], {"policy_lock_short", "object_unexpected"}),
        ([], set()),
    ],
)
def test_a_policy_is_kept_as_long_as_what_it_decided(tmp_path, copies, found):
    forge = decided(*copies)
    forge.bucket.export(tmp_path / "export", NOW + timedelta(days=3))
    later = {
        "epoch_unended",
        "rollup_missing",
        "digest_missing",
    }  # that the standard bucket stops in the middle is found by then
    assert codes_in(forge, tmp_path) - later == found


def test_a_policy_is_put_again_within_two_days(tmp_path):
    assert codes_of(decided((0, BUNDLE, True)), tmp_path) == set()


def test_zz_every_code_of_the_format_was_seen():
    """Runs last: a code that nothing provokes is a promise that nobody tried."""
    if len(TRIED) < 20:
        pytest.skip("only a part of the matrix was run")
    assert set(MEANING) - TRIED == set()
