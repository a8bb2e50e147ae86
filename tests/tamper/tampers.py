"""What tamperers do, each with the code that must name it. Those in `SIGNED` hold the true signing key."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.fakes.forge import (
    FIRST,
    GATEWAY,
    SIGNER,
    START,
    THIRD,
    Draft,
    Forge,
    Plans,
    Signer,
    Stored,
    build,
    canonical,
    compressed,
    instant,
    lines_of,
    person,
    sha,
    standard_plans,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = Signer("somebody else's")


def events(forge: Forge, log: tuple[str, str], index: int = 1) -> Stored:
    found = [one for one in forge.bucket.named(f"epoch={log[1]}/") if one.key.startswith("v1/events/")]
    return sorted(found, key=lambda one: one.key.rpartition("/")[2])[index]


def packs(forge: Forge, log: tuple[str, str]) -> list[Stored]:
    return [one for one in forge.bucket.named(f"epoch={log[1]}/") if one.key.startswith("v1/payload/")]


def checkpoints(forge: Forge, log: tuple[str, str]) -> list[Stored]:
    return sorted(forge.bucket.named(f"{log[1]}/checkpoint/"), key=lambda one: one.key)


def only(forge: Forge, part: str) -> Stored:
    return forge.bucket.named(part)[0]


def rewrite(one: Stored, body: bytes) -> None:
    """Other bytes under the name that they ask for."""
    head, _, tail = one.key.rpartition("/")
    stem, _, suffix = tail.partition(".")
    one.key = f"{head}/{stem[:-16]}{sha(body)[:16]}.{suffix}"
    one.body = body


def flipped(body: bytes | None, at: int) -> bytes:
    made = bytearray(body or b"")
    made[at] ^= 1
    return bytes(made)


def edit_note(one: Stored, change: Callable[[dict[str, Any]], None], signer: Signer | None, name: str) -> None:
    text, _, tail = (one.body or b"").partition(b"\n\n")
    told = json.loads(text)
    change(told)
    text = canonical(told) + b"\n"
    rewrite(one, signer.note(name, text) if signer else text + b"\n" + tail)


# The bucket's tamperers: they hold no key ----------------------------------------------------------------------------


def flip(forge: Forge) -> None:
    one = events(forge, FIRST)
    one.body = flipped(one.body, len(one.body or b"") // 2)


def delete(forge: Forge) -> None:
    forge.bucket.remove(events(forge, FIRST))


def delete_checkpoint(forge: Forge) -> None:
    forge.bucket.remove(checkpoints(forge, FIRST)[2])


def delete_digest(forge: Forge) -> None:
    forge.bucket.remove(forge.bucket.named(f"v1/digest/dt=2026-11-24/hour=22/replica=gw-0-1/epoch={FIRST[1]}")[0])


def extra(forge: Forge) -> None:
    forge.bucket.put("v1/events/readme.txt", b"hello", START)


def extra_pack(forge: Forge) -> None:
    pack = packs(forge, FIRST)[0]
    copy = forge.bucket.put(pack.key, pack.body, pack.at)
    rewrite(copy, b"AFP1")


def delete_marker(forge: Forge) -> None:
    forge.bucket.put(events(forge, FIRST).key, None, START + timedelta(hours=3))


def newer(forge: Forge) -> None:
    one = events(forge, FIRST)
    forge.bucket.put(one.key, b"another text", one.at + timedelta(minutes=5))


def swap(forge: Forge) -> None:
    one = events(forge, FIRST)
    lines = lines_of(one.body or b"")
    lines[2], lines[3] = lines[3], lines[2]
    rewrite(one, compressed(lines))


def edit_leaf(forge: Forge) -> None:
    one = events(forge, FIRST)
    lines = lines_of(one.body or b"")
    lines[2] = lines[2].replace(b'"in_flight":0', b'"in_flight":1').replace(b'"http_status":200', b'"http_status":201')
    lines[2] = lines[2].replace(b'"exchange_id":"', b'"exchange_id":"x')
    rewrite(one, compressed(lines))


def bad_leaf(line: bytes) -> Callable[[Forge], None]:
    def change(forge: Forge) -> None:
        one = events(forge, FIRST)
        lines = lines_of(one.body or b"")
        told = json.loads(lines[2])
        lines[2] = line.replace(b"SEQUENCE", str(told["sequence"]).encode()).replace(b"ORIGIN", told["origin"].encode())
        rewrite(one, compressed(lines))

    return change


def truncate(forge: Forge) -> None:
    forge.bucket.remove(events(forge, THIRD, -1), packs(forge, THIRD)[-1])


def truncate_with_checkpoints(forge: Forge) -> None:
    forge.bucket.remove(events(forge, THIRD, -1), packs(forge, THIRD)[-1], checkpoints(forge, THIRD)[-1])


def hide_tail_of_notes(forge: Forge) -> None:
    forge.bucket.remove(checkpoints(forge, FIRST)[-1])


def no_checkpoints(forge: Forge) -> None:
    forge.bucket.remove(*checkpoints(forge, FIRST))


def other_key(forge: Forge) -> None:
    one = checkpoints(forge, FIRST)[1]
    text = (one.body or b"").partition(b"\n\n")[0] + b"\n"
    rewrite(one, OTHER.note(forge.built[FIRST].plan.origin, text))


def replay(forge: Forge) -> None:
    old, new = checkpoints(forge, FIRST)[1], checkpoints(forge, FIRST)[-1]
    new.body = old.body
    rewrite(new, old.body or b"")


def drop_epoch(forge: Forge) -> None:
    forge.bucket.remove(*forge.bucket.named(FIRST[1]))


def drop_epoch_but_roster(forge: Forge) -> None:
    forge.bucket.remove(*[one for one in forge.bucket.named(FIRST[1]) if not one.key.startswith("v1/roster/")])


def drop_roster(forge: Forge) -> None:
    forge.bucket.remove(only(forge, f"gw-0-1.{FIRST[1]}.note"))


def shorten_lock(forge: Forge) -> None:
    one = events(forge, FIRST)
    one.retain_until = one.at + timedelta(days=30)


def weaken_lock(forge: Forge) -> None:
    checkpoints(forge, FIRST)[1].lock_mode = "GOVERNANCE"


def without_lock(forge: Forge) -> None:
    one = only(forge, "v1/rollup/")
    one.lock_mode = one.retain_until = None


def remove_pack(forge: Forge) -> None:
    forge.bucket.remove(packs(forge, FIRST)[0])


def remove_payload(forge: Forge) -> None:
    one = packs(forge, FIRST)[0]
    body = one.body or b""
    (length,) = struct.unpack_from(">Q", body, 36)
    rewrite(one, body[:4] + body[4 + 40 + length :])


def corrupt_pack(forge: Forge) -> None:
    one = packs(forge, FIRST)[0]
    rewrite(one, flipped(one.body, -5))


def replace_payload(forge: Forge) -> None:
    one = packs(forge, FIRST)[0]
    text = b"x" * 96
    rewrite(one, b"AFP1" + hashlib.sha256(text).digest() + struct.pack(">Q", 96) + text)


def break_pack(forge: Forge) -> None:
    one = packs(forge, FIRST)[0]
    rewrite(one, (one.body or b"")[:-7])


def break_events(forge: Forge) -> None:
    one = events(forge, FIRST)
    rewrite(one, (one.body or b"")[:-7])


def bomb(forge: Forge) -> None:
    import zstandard

    rewrite(events(forge, FIRST), zstandard.ZstdCompressor().compress(b"\n" * (64 << 20)))


def wide_bomb(forge: Forge) -> None:
    import zstandard

    rewrite(events(forge, FIRST), zstandard.ZstdCompressor().compress(b"a" * (64 << 20)))


def edit_rollup_unsigned(forge: Forge) -> None:
    edit_note(only(forge, "v1/rollup/"), lambda told: told["epochs"].pop(), None, GATEWAY)


def remove_rollup(forge: Forge) -> None:
    forge.bucket.remove(only(forge, "v1/rollup/"))


def edit_statement(forge: Forge) -> None:
    edit_note(only(forge, "v1/reconcile/"), lambda told: told.update(audited=29), None, GATEWAY)


def drop_access_lines(forge: Forge) -> None:
    one = forge.bucket.named("v1/access/")[0]
    rewrite(one, compressed(lines_of(one.body or b"")[:-3]))


def drop_access_object(forge: Forge) -> None:
    forge.bucket.remove(forge.bucket.named("v1/access/")[0])


BUCKET: dict[str, tuple[Callable[[Forge], None], str]] = {
    "flip": (flip, "object_changed"),
    "delete": (delete, "object_missing"),
    "delete, gap": (delete, "sequence_gap"),
    "delete a checkpoint": (delete_checkpoint, "checkpoint_missing"),
    "delete a digest": (delete_digest, "digest_missing"),
    "extra object": (extra, "object_unexpected"),
    "extra pack": (extra_pack, "object_unexpected"),
    "delete marker": (delete_marker, "delete_marker"),
    "newer version": (newer, "version_extra"),
    "swap two leaves": (swap, "leaf_misplaced"),
    "edit a leaf": (edit_leaf, "root_mismatch"),
    "a float": (
        bad_leaf(
            b'{"at":"2026-11-24T22:20:00.000000Z","kind":"heartbeat","origin":"ORIGIN","schema":"affidavit/v1","sequence":SEQUENCE,"x":1.5}'
        ),
        "leaf_invalid",
    ),
    "a float in a list": (
        bad_leaf(
            b'{"at":"2026-11-24T22:20:00.000000Z","kind":"heartbeat","origin":"ORIGIN","schema":"affidavit/v1","sequence":SEQUENCE,"x":[1,1e22]}'
        ),
        "leaf_invalid",
    ),
    "a key twice": (
        bad_leaf(
            b'{"at":"2026-11-24T22:20:00.000000Z","at":"2026-11-24T22:20:00.000000Z","kind":"heartbeat","origin":"ORIGIN","schema":"affidavit/v1","sequence":SEQUENCE}'
        ),
        "leaf_invalid",
    ),
    "an unknown kind": (
        bad_leaf(
            b'{"at":"2026-11-24T22:20:00.000000Z","kind":"x","origin":"ORIGIN","schema":"affidavit/v1","sequence":SEQUENCE}'
        ),
        "leaf_invalid",
    ),
    "nesting": (bad_leaf(b"[" * 16000), "leaf_invalid"),
    "a huge number": (
        bad_leaf(
            b'{"at":"2026-11-24T22:20:00.000000Z","kind":"heartbeat","origin":"ORIGIN","schema":"affidavit/v1","sequence":SEQUENCE,"x":9007199254740993}'
        ),
        "leaf_invalid",
    ),
    "truncate the tail": (truncate, "checkpoint_stale"),
    "truncate with its checkpoint": (truncate_with_checkpoints, "epoch_unended"),
    "hide the last checkpoint": (hide_tail_of_notes, "checkpoint_stale"),
    "no checkpoints": (no_checkpoints, "checkpoint_missing"),
    "another key": (other_key, "signature_unknown_key"),
    "replay an old checkpoint": (replay, "note_replayed"),
    "drop an epoch": (drop_epoch, "epoch_missing"),
    "drop an epoch but its roster": (drop_epoch_but_roster, "epoch_missing"),
    "drop a roster": (drop_roster, "roster_missing"),
    "shorten a lock": (shorten_lock, "lock_short"),
    "weaken a lock": (weaken_lock, "lock_missing"),
    "no lock": (without_lock, "lock_missing"),
    "remove a pack": (remove_pack, "payload_missing"),
    "remove a payload": (remove_payload, "payload_missing"),
    "corrupt a pack": (corrupt_pack, "payload_changed"),
    "replace a payload": (replace_payload, "payload_missing"),
    "break a pack": (break_pack, "object_unreadable"),
    "break an events object": (break_events, "object_unreadable"),
    "bomb of lines": (bomb, "object_unreadable"),
    "bomb of one line": (wide_bomb, "object_unreadable"),
    "edit a roll-up": (edit_rollup_unsigned, "signature_invalid"),
    "remove a roll-up": (remove_rollup, "object_missing"),
    "edit a statement": (edit_statement, "reconcile_mismatch"),
    "drop access-log lines": (drop_access_lines, "access_log_gap"),
    "drop an access-log object": (drop_access_object, "access_log_gap"),
}


# Those who hold the signing key: plans are changed, and everything is signed anew ------------------------------------


def backdate() -> Forge:
    plans = standard_plans()
    half = len(plans.first.drafts) // 2
    for one in plans.first.drafts[half:-1]:
        one.at -= timedelta(minutes=12)
    return build(plans=plans)


def drop_heartbeats() -> Forge:
    plans = standard_plans()
    beats = [one for one in plans.first.drafts if one.kind == "heartbeat"]
    start, end = beats[30].at, beats[35].at
    plans.first.drafts = [one for one in plans.first.drafts if not start < one.at < end]
    return build(plans=plans)


def drop_intent() -> Forge:
    plans = standard_plans()
    plans.first.drafts.remove(next(one for one in plans.first.drafts if one.kind == "inference.intent"))
    return build(plans=plans)


def drop_outcome() -> Forge:
    plans = standard_plans()
    plans.first.drafts.remove(next(one for one in plans.first.drafts if one.kind == "inference.outcome"))
    return build(plans=plans)


def drop_doubt() -> Forge:
    """The outcome stands alone then, and says that its answer was released."""
    plans = standard_plans()
    plans.second.drafts.remove(next(one for one in plans.second.drafts if one.kind == "inference.undelivered"))
    return build(plans=plans)


def _approved(change: Callable[[Plans], None]) -> Callable[[], Forge]:
    """Something about the call that two people agreed to, or the one that nobody was asked for, is otherwise."""

    def make() -> Forge:
        plans = standard_plans()
        change(plans)
        return build(plans=plans)

    return make


def nobody_asked(plans: Plans) -> None:
    del plans.held[2].fields["approval"]


def not_yet_agreed(plans: Plans) -> None:
    plans.held[2].fields["approval"]["state"] = "pending"


def word_is_gone(plans: Plans) -> None:
    plans.words[1].kind = "approval.viewed"


def words_of_one_person(plans: Plans) -> None:
    said = plans.held[2].fields["approval"]["resolutions"]
    plans.words[1].fields["actor"] = plans.words[0].fields["actor"]
    said[1]["person_ref"] = said[0]["person_ref"]


def one_word_too_few(plans: Plans) -> None:
    plans.held[2].fields["approval"]["resolutions"].pop()


def word_of_somebody_else(plans: Plans) -> None:
    plans.words[1].fields["actor"] = person("a third")


def word_about_other_bytes(plans: Plans) -> None:
    plans.words[1].fields["binding_sha256"] = "ef" * 32


def word_about_another_hold(plans: Plans) -> None:
    plans.words[1].fields["hold_id"] = "ef" * 16


def word_was_no(plans: Plans) -> None:
    plans.words[1].fields["action"] = "deny"


def denied_and_passed(plans: Plans) -> None:
    plans.words[1].fields["action"] = plans.held[2].fields["approval"]["resolutions"][1]["action"] = "deny"


def own_call(plans: Plans) -> None:
    plans.held[2].fields["actor"] = plans.words[0].fields["actor"]


def too_late(plans: Plans) -> None:
    plans.held[2].fields["approval"]["valid_until"] = instant(plans.held[2].at - timedelta(minutes=6))


def agreed_afterwards(plans: Plans) -> None:
    plans.words[1].at = plans.held[2].at + timedelta(minutes=6)


def passed_twice(plans: Plans) -> None:
    plans.held[1].fields["time"]["forwarded"] = instant(plans.held[1].at)


def passed_twice_and_died(plans: Plans) -> None:
    plans.held[1].fields["outcome"]["status"] = "interrupted"


def of_another_caller(plans: Plans) -> None:
    plans.held[2].fields["actor"] = person("another caller")


def for_another_model(plans: Plans) -> None:
    plans.held[2].fields["request"] = plans.held[2].fields["request"] | {"model": "a dearer one"}


def under_another_policy(plans: Plans) -> None:
    plans.held[2].fields["policy"] = plans.held[2].fields["policy"] | {"bundle_digest": "c" * 64}


def asked_about_other_bytes(plans: Plans) -> None:
    plans.asked.fields["approval"]["binding_sha256"] = "ef" * 32


def asked_about_two_things(plans: Plans) -> None:
    other = copy.deepcopy(plans.asked)
    other.fields["approval"]["binding_sha256"] = "ef" * 32
    plans.first.drafts.insert(plans.first.drafts.index(plans.asked), other)


def not_asked_on_record(plans: Plans) -> None:
    plans.asked.kind = "approval.viewed"


def fewer_than_asked_for(plans: Plans) -> None:
    approval = plans.held[2].fields["approval"]
    approval["count"] = 1
    approval["resolutions"].pop()


def counts_for_ever(plans: Plans) -> None:
    plans.held[2].fields["approval"]["valid_until"] = instant(plans.held[2].at + timedelta(days=300))


def said_when_it_was_over(plans: Plans) -> None:
    plans.asked.fields["approval"]["expires"] = instant(plans.words[0].at - timedelta(minutes=6))


def told_that_it_came_too_late(plans: Plans) -> None:
    one = plans.words[0]
    fields = {**one.fields, "code": "expired"}
    plans.console.drafts.insert(-1, Draft("approval.refused", one.at, fields, segment=plans.words[1].segment))


def words_in_a_worker_s_log(plans: Plans) -> None:
    plans.console.role = plans.console.drafts[0].fields["role"] = "1"


def words_in_a_dead_log(plans: Plans) -> None:
    late = word("a third", plans.second.drafts[-1].at)
    late.segment = plans.second.drafts[-1].segment
    plans.second.drafts.append(late)


def seventeen_words(plans: Plans) -> None:
    plans.held[2].fields["approval"]["resolutions"] *= 9


def passed_twice_and_answered(plans: Plans) -> None:
    plans.held[1].fields["outcome"] |= {"status": "completed", "released_bytes": 5}


def passed_twice_and_released(plans: Plans) -> None:
    plans.held[1].fields["outcome"]["released_bytes"] = 5


def passed_twice_and_answered_upstream(plans: Plans) -> None:
    plans.held[1].fields["upstream"] = {"status": 200}


def passed_without_an_intent(plans: Plans) -> None:
    plans.held[3].intent = None
    plans.held[3].fields["intent_sequence"] = None


def emergency_lets_two_pass(plans: Plans) -> None:
    drafts = plans.second.drafts
    again = [copy.copy(one) for one in plans.emergency[1:]]
    again[1].intent = again[0]
    for one in again:
        one.fields, one.place = {**one.fields, "payloads": []}, {}
        one.ciphertexts = []
    at = drafts.index(plans.emergency[2]) + 1
    drafts[at:at] = again


def emergency_of_somebody_else(plans: Plans) -> None:
    plans.emergency[0].fields["actor"] = person("another caller")


def emergency_is_not_told(plans: Plans) -> None:
    plans.second.drafts.remove(plans.emergency[0])


def emergency_is_told_afterwards(plans: Plans) -> None:
    drafts = plans.second.drafts
    drafts.remove(plans.emergency[0])
    drafts.insert(drafts.index(plans.emergency[1]) + 1, plans.emergency[0])


def intent_without_a_policy(plans: Plans) -> None:
    del plans.held[2].fields["policy"]


def two_heirs() -> Forge:
    plans = standard_plans()
    plans.third.drafts[0].fields["previous"] = FIRST[1]
    return build(plans=plans)


def no_predecessor() -> Forge:
    plans = standard_plans()
    plans.first.drafts[0].fields["previous"] = "20261123T221000000000-00000000"
    return build(plans=plans)


def other_configuration() -> Forge:
    plans = standard_plans()
    plans.first.config_sha256 = sha(b"another")
    return build(plans=plans)


def never_ends() -> Forge:
    plans = standard_plans()
    plans.first.drafts.pop()
    return build(plans=plans)


def goes_on_after_the_end() -> Forge:
    plans = standard_plans()
    last = plans.first.drafts[-1]
    plans.first.drafts.append(Draft("heartbeat", last.at, segment=last.segment))
    return build(plans=plans)


def fork_checkpoint() -> Forge:
    forge = build()
    one = checkpoints(forge, FIRST)[1]
    origin, size, _ = (one.body or b"").partition(b"\n\n")[0].split(b"\n")
    text = origin + b"\n" + size + b"\n" + b"A" * 43 + b"=\n"
    copy = forge.bucket.put(one.key, b"", one.at)
    rewrite(copy, SIGNER.note(origin.decode(), text))
    return forge


def fork_events() -> Forge:
    forge = build()
    one = events(forge, FIRST)
    copy = forge.bucket.put(one.key, b"", one.at + timedelta(seconds=1))
    rewrite(copy, compressed(lines_of(one.body or b"")[:5]))
    return forge


def _digest(**changes: Any) -> Callable[[], Forge]:
    def make() -> Forge:
        forge = Forge()
        forge.change_digest = lambda told: told.update(changes)
        return build(forge)

    return make


def drop_from_digest() -> Forge:
    forge = Forge()
    forge.change_digest = lambda told: told["objects"].pop(0)
    return build(forge)


def _rollup(change: Callable[[dict[str, Any]], object]) -> Callable[[], Forge]:
    def make() -> Forge:
        forge = Forge()
        forge.change_rollup = change
        return build(forge)

    return make


def _said(change: Callable[[list[Draft]], object]) -> Callable[[], Forge]:
    return lambda: build(spoken=change)


def _each(kind: str, **changes: Any) -> Callable[[], Forge]:
    def change(said: list[Draft]) -> None:
        for one in said:
            if one.kind == kind:
                one.fields = {**one.fields, **changes}

    return _said(change)


def edit_statement_signed() -> Forge:
    forge = build()
    edit_note(only(forge, "v1/reconcile/"), lambda told: told.update(audited=28), SIGNER, GATEWAY)
    return forge


def all_by_another() -> Forge:
    return build(Forge(OTHER))


def other_day() -> Forge:
    forge = build()
    one = only(forge, "v1/rollup/")
    one.key = one.key.replace("2026-11-24", "2026-11-23")
    return forge


def failed_canary() -> Forge:
    checks = [{"name": "shorten", "expected": "refused", "found": "done", "ok": False}]
    return _each("worm.canary", ok=False, checks=checks)()


SIGNED: dict[str, tuple[Callable[[], Forge], str]] = {
    "backdate the clock": (backdate, "clock_backwards"),
    "drop heartbeats": (drop_heartbeats, "heartbeat_missing"),
    "drop an intent": (drop_intent, "intent_missing"),
    "drop an outcome": (drop_outcome, "outcome_missing"),
    "drop what a recovery doubts": (drop_doubt, "outcome_missing"),
    "approval: nobody asked": (_approved(nobody_asked), "approval_missing"),
    "approval: not yet agreed": (_approved(not_yet_agreed), "approval_missing"),
    "approval: a word is gone": (_approved(word_is_gone), "approval_missing"),
    "approval: one person twice": (_approved(words_of_one_person), "approval_missing"),
    "approval: one too few": (_approved(one_word_too_few), "approval_missing"),
    "approval: somebody else's word": (_approved(word_of_somebody_else), "approval_missing"),
    "approval: of other bytes": (_approved(word_about_other_bytes), "approval_missing"),
    "approval: of another hold": (_approved(word_about_another_hold), "approval_missing"),
    "approval: it was a no": (_approved(word_was_no), "approval_missing"),
    "approval: no policy": (_approved(intent_without_a_policy), "leaf_invalid"),
    "approval: denied": (_approved(denied_and_passed), "approval_mismatch"),
    "approval: the caller's own": (_approved(own_call), "approval_mismatch"),
    "approval: too late": (_approved(too_late), "approval_mismatch"),
    "approval: agreed afterwards": (_approved(agreed_afterwards), "approval_mismatch"),
    "approval: passed twice": (_approved(passed_twice), "approval_reused"),
    "approval: passed twice, and died": (_approved(passed_twice_and_died), "approval_reused"),
    "approval: of another caller": (_approved(of_another_caller), "approval_mismatch"),
    "approval: for another model": (_approved(for_another_model), "approval_mismatch"),
    "approval: under another policy": (_approved(under_another_policy), "approval_mismatch"),
    "approval: asked about other bytes": (_approved(asked_about_other_bytes), "approval_mismatch"),
    "approval: asked about two things": (_approved(asked_about_two_things), "approval_mismatch"),
    "approval: not asked on record": (_approved(not_asked_on_record), "approval_missing"),
    "approval: fewer than asked for": (_approved(fewer_than_asked_for), "approval_mismatch"),
    "approval: counts for ever": (_approved(counts_for_ever), "approval_mismatch"),
    "approval: said when it was over": (_approved(said_when_it_was_over), "approval_mismatch"),
    "approval: came too late": (_approved(told_that_it_came_too_late), "approval_mismatch"),
    "approval: words in a worker's log": (_approved(words_in_a_worker_s_log), "approval_mismatch"),
    "approval: words in a dead log": (_approved(words_in_a_dead_log), "leaf_misplaced"),
    "approval: seventeen words": (_approved(seventeen_words), "leaf_invalid"),
    "approval: passed twice, answered": (_approved(passed_twice_and_answered), "approval_reused"),
    "approval: passed twice, released": (_approved(passed_twice_and_released), "approval_reused"),
    "approval: passed twice, upstream": (_approved(passed_twice_and_answered_upstream), "approval_reused"),
    "approval: passed without an intent": (_approved(passed_without_an_intent), "intent_missing"),
    "emergency: lets two pass": (_approved(emergency_lets_two_pass), "approval_missing"),
    "emergency: of somebody else": (_approved(emergency_of_somebody_else), "approval_missing"),
    "emergency: not told": (_approved(emergency_is_not_told), "approval_missing"),
    "emergency: told afterwards": (_approved(emergency_is_told_afterwards), "approval_missing"),
    "two epochs with one predecessor": (two_heirs, "epoch_forked"),
    "a predecessor that is gone": (no_predecessor, "epoch_missing"),
    "another configuration": (other_configuration, "roster_mismatch"),
    "an epoch that never ends": (never_ends, "epoch_unended"),
    "leaves after the end": (goes_on_after_the_end, "leaf_misplaced"),
    "fork: two trees of one size": (fork_checkpoint, "epoch_forked"),
    "fork: two objects of one span": (fork_events, "epoch_forked"),
    "digest: another count": (_digest(counts={"heartbeat": 1}), "digest_broken"),
    "digest: another root": (_digest(root_hash="0" * 64), "digest_broken"),
    "digest: another chain": (_digest(previous_sha256="0" * 64), "digest_broken"),
    "digest: an object left out": (drop_from_digest, "object_unexpected"),
    "edit a roll-up": (_rollup(lambda told: told["epochs"][0].update(root_hash="0" * 64)), "rollup_mismatch"),
    "roll-up: an epoch left out": (_rollup(lambda told: told["epochs"].pop()), "rollup_mismatch"),
    "roll-up: a smaller size": (_rollup(lambda told: told["epochs"][0].update(size=3)), "rollup_mismatch"),
    "roll-up: no predecessor": (_rollup(lambda told: told.update(previous_sha256="0" * 64)), "rollup_missing"),
    "roll-up of another day": (other_day, "note_replayed"),
    "edit a statement": (edit_statement_signed, "reconcile_mismatch"),
    "re-sign with another key": (all_by_another, "signature_unknown_key"),
    "ended with more leaves": (_each("epoch.ended", leaves=10**6), "checkpoint_stale"),
    "ended with another root": (_each("epoch.ended", root_hash="0" * 64), "root_mismatch"),
    "born with another record": (_each("epoch.born", roster_sha256="0" * 64), "roster_mismatch"),
    "access log: fewer lines": (_each("access.shipped", lines=21), "access_log_gap"),
    "access log: not told": (_said(lambda said: said.pop(-2)), "object_unexpected"),
    "a store with a hole": (failed_canary, "canary_failed"),
}
