"""`audit.attest`: outsiders may fail in every way; nothing is asked twice that is there, nothing is forgotten."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.audit import note
from ext_proc.audit.attest import PAUSE, PAUSE_MAX, ROUND_MAX, Attestor, Outsiders
from ext_proc.audit.cosign import COSIGN_EVERY
from ext_proc.audit.desk import Desk, Terms
from ext_proc.audit.merkle import hash_leaf, root_of
from ext_proc.audit.record import build_leaf
from ext_proc.audit.seal import named_object, seal_leaves
from ext_proc.audit.signer import LocalSigner
from ext_proc.audit.store import StoreUnavailable
from ext_proc.audit.timestamp import Authority, verify_stamp
from ext_proc.audit.witness import Witness, Witnesses, cosignatures_of, parse_witness_key
from tests.fakes.store import RETENTION, BadStore, FakeStore
from tests.fakes.tsa import FakeTsa
from tests.fakes.witness import FakeWitness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = LocalSigner(b"k" * 32)
EPOCH = "20261125T100000000000-0badcafe"
AT = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


class Outside:
    """The store, the outsiders, a clock that only the test moves, and logs that grow into the store."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.now = AT
        self.store = FakeStore(clock=lambda: self.now)
        self.tsa = stack.enter_context(FakeTsa(folder))
        self.witness = stack.enter_context(FakeWitness())
        self.other = stack.enter_context(FakeWitness("witness.example/other"))
        self.leaves: dict[str, list[bytes]] = {}
        self.digests: dict[str, int] = {}
        self.shipped: list[str] = []

    def attestor(self, *, stamps: bool = True, quorum: int | None = 1, replica: str = "gw-0") -> Attestor:
        authorities = [Authority(self.tsa.url, (self.tsa.root,))] if stamps else []
        asked = [Witness(one.url, parse_witness_key(one.vkey)) for one in (self.witness, self.other)[: quorum or 0]]
        witnesses = Witnesses(asked, quorum, 5.0) if quorum else None
        outsiders = Outsiders(authorities, witnesses)
        memory = self.folder / "attested.json"
        return Attestor(Desk(self.store, Terms(RETENTION, KEY), lambda: self.now), outsiders, replica, memory)

    def put(self, key: str, body: bytes) -> None:
        self.store.write_over(key, body)
        self.shipped.append(key)

    def grow(self, replica: str = "gw-0-1", count: int = 3, *, is_trusted: bool = True) -> str:
        """A segment and its checkpoint."""
        origin = f"demo.example/{replica}/{EPOCH}"
        if is_trusted:
            for witness in (self.witness, self.other):
                witness.trust(origin, KEY.public_key)
        known = self.leaves.setdefault(origin, [])
        first = len(known)
        fresh = [
            build_leaf("heartbeat", origin=origin, sequence=first + n, at=self.now, fields={}) for n in range(count)
        ]
        sealed = seal_leaves(first, fresh, ())
        known += fresh
        self.put(sealed.objects[0].key, sealed.objects[0].body)
        text = note.checkpoint_text(origin, len(known), root_of([hash_leaf(one) for one in known]))
        head = named_object(
            f"v1/log/{replica}/{EPOCH}/checkpoint/{len(known):016d}", note.sign(text, origin, KEY).encode(), "note"
        )
        self.put(head.key, head.body)
        return origin

    def digest(self, replica: str = "gw-0-1") -> str:
        """A digest of all there is."""
        origin = f"demo.example/{replica}/{EPOCH}"
        number = self.digests[origin] = self.digests.get(origin, -1) + 1
        body = note.sign_json({"size": len(self.leaves[origin]), "number": number}, origin, KEY)
        place = f"dt={self.now:%Y-%m-%d}/hour={self.now:%H}/replica={replica}/epoch={EPOCH}"
        made = named_object(f"v1/digest/{place}/{number:06d}", body, "note")
        self.put(made.key, made.body)
        return made.key

    def round(self, attestor: Attestor, later: timedelta = timedelta()) -> tuple[str, ...]:
        """As the shipper calls it."""
        self.now += later
        shipped, self.shipped = self.shipped, []
        return attestor.attend(shipped)

    def stamps(self) -> list[str]:
        return [key for key in self.store.keys("v1/digest/") if key.endswith(".tsr")]

    def cosigned(self) -> list[tuple[str, int, int]]:
        """Replica log, size, and how many witnesses."""
        keys = [parse_witness_key(one.vkey) for one in (self.witness, self.other)]
        found = [key for key in self.store.keys("v1/log/") if "/cosigned/" in key]
        return [
            (key.split("/")[2], int(key.rpartition("/")[2][:16]), len(cosignatures_of(self.store.fetch(key), keys)))
            for key in found
        ]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    with ExitStack() as stack:
        yield Outside(tmp_path, stack)


def test_a_digest_is_stamped_and_its_checkpoint_cosigned_in_the_same_round(outside: Outside):
    attestor = outside.attestor()
    outside.grow()
    key = outside.digest()
    assert outside.round(attestor) == ()
    assert outside.stamps() == [f"{key}.tsr"]
    verify_stamp(outside.store.fetch(key), outside.store.fetch(f"{key}.tsr"), [outside.tsa.root])
    assert outside.cosigned() == [("gw-0-1", 3, 1)]
    assert attestor.is_done
    assert outside.round(attestor) == ()  # and nothing is asked again
    assert (len(outside.tsa.queries), len(outside.witness.requests)) == (1, 1)


def test_between_digests_a_checkpoint_waits_two_minutes_and_proves_that_the_tree_grew(outside: Outside):
    attestor = outside.attestor()
    outside.grow(count=5)
    outside.round(attestor)
    assert outside.cosigned() == []
    for count in (1, 7, 20, 3):
        outside.round(attestor, COSIGN_EVERY)
        outside.grow(count=count)
        outside.round(attestor)
    outside.round(attestor, COSIGN_EVERY)
    assert outside.cosigned() == [("gw-0-1", size, 1) for size in (5, 6, 13, 33, 36)]


def test_proofs_need_each_object_once(outside: Outside):
    """A log that lives for months is not read from its first leaf every two minutes."""
    attestor = outside.attestor(stamps=False)
    fetched: list[str] = []
    real = outside.store.fetch
    outside.store.fetch = lambda key: (fetched.append(key), real(key))[1]  # type: ignore[method-assign]
    for _ in range(6):
        outside.grow(count=4)
        outside.round(attestor, COSIGN_EVERY)
        outside.round(attestor, COSIGN_EVERY)
    events = [key for key in fetched if key.startswith("v1/events/")]
    assert len(outside.cosigned()) == 6
    assert len(set(events)) == 6
    assert max(events.count(key) for key in events) <= 2  # for the proof, and for the edge


def test_nothing_configured_nothing_done(outside: Outside):
    attestor = outside.attestor(stamps=False, quorum=None)
    outside.grow()
    outside.digest()
    outside.store.is_open = False
    assert outside.round(attestor) == ()
    assert not (outside.folder / "attested.json").exists()


@pytest.mark.parametrize("misbehaviour", ["error", "garbage", "long", "replay"])
def test_authority_that_fails_is_asked_again_after_a_pause(outside: Outside, misbehaviour: str):
    attestor = outside.attestor(quorum=None)
    outside.tsa.misbehaviour = misbehaviour
    outside.tsa._first = b"an answer to another question"
    outside.grow()
    key = outside.digest()
    [failure] = outside.round(attestor)
    assert failure.startswith(f"time_stamp: {outside.tsa.url}: ")
    asked = len(outside.tsa.queries)
    assert outside.round(attestor, PAUSE / 2) == ()  # shipping does not wait for it each round
    assert len(outside.tsa.queries) == asked
    assert outside.stamps() == []
    assert not attestor.is_done
    outside.tsa.misbehaviour = ""
    assert outside.round(attestor, PAUSE) == ()
    assert outside.stamps() == [f"{key}.tsr"]


def test_pauses_grow_and_have_an_end(outside: Outside):
    attestor = outside.attestor(quorum=None)
    outside.tsa.misbehaviour = "error"
    outside.grow()
    outside.digest()
    asked_at = [outside.now for _ in range(3600) if outside.round(attestor, timedelta(seconds=5))]
    gaps = [later - earlier for earlier, later in pairwise(asked_at)]
    assert gaps == sorted(gaps)
    assert PAUSE_MAX <= gaps[-1] <= PAUSE_MAX + timedelta(seconds=5)


def test_many_digests_at_once_do_not_keep_the_shipper(outside: Outside):
    attestor = outside.attestor(quorum=None)
    outside.grow()
    for _ in range(2 * ROUND_MAX + 1):
        outside.digest()
    for done in (ROUND_MAX, 2 * ROUND_MAX, 2 * ROUND_MAX + 1):
        outside.round(attestor)
        assert len(outside.stamps()) == done


def test_one_digest_that_cannot_be_stamped_does_not_hold_up_the_others(outside: Outside):
    attestor = outside.attestor(quorum=None)
    outside.grow()
    bad, good = outside.digest(), outside.digest()
    del outside.store.objects[bad]
    assert len(outside.round(attestor)) == 1
    for _ in range(3):
        outside.round(attestor, PAUSE_MAX)
    assert outside.stamps() == [f"{good}.tsr"]
    assert not attestor.is_done


def test_a_stamp_whose_put_had_no_answer_is_not_made_twice(outside: Outside):
    outside.store = BadStore(clock=lambda: outside.now, fault="persisted but error", strikes=".tsr", times=1)
    attestor = outside.attestor(quorum=None)
    outside.grow()
    key = outside.digest()
    assert outside.round(attestor) == ("StoreUnavailable: InternalError",)
    assert outside.round(attestor, PAUSE) == ()
    assert len(outside.store.objects[f"{key}.tsr"]) == 1
    assert len(outside.tsa.queries) == 1


@pytest.mark.parametrize("fault", ["no lock", "governance", "short lock", "wrong bytes", "lying"])
def test_an_attestation_that_is_not_kept_as_it_must_be_is_a_failure(outside: Outside, fault: str):
    outside.store = BadStore(clock=lambda: outside.now, fault=fault, strikes=".tsr")
    attestor = outside.attestor(quorum=None)
    outside.grow()
    outside.digest()
    assert len(outside.round(attestor)) == 1
    assert not attestor.is_done


# After a crash --------------------------------------------------------------------------------------------------------


def test_what_was_not_attested_is_found_again_in_the_store(outside: Outside):
    """No file of ours is needed: not even the digest's key was remembered when the process died."""
    outside.grow()
    earlier = outside.digest()
    outside.round(outside.attestor())
    outside.grow(count=2)
    later = outside.digest()
    outside.shipped.clear()  # killed before it was told
    again = outside.attestor()
    assert outside.round(again) == ()
    assert outside.stamps() == sorted([f"{earlier}.tsr", f"{later}.tsr"])
    assert outside.cosigned() == [("gw-0-1", 3, 1), ("gw-0-1", 5, 1)]  # the proof came from the store alone
    assert again.is_done
    assert (len(outside.tsa.queries), len(outside.witness.requests)) == (2, 3)  # of 5: once to learn that it has 3


@pytest.mark.parametrize("mark", [None, b"", b"{}", b'{"from_day": 7}', b'{"from_day": "soon"}'])
def test_a_mark_that_is_lost_or_damaged_costs_a_look_at_everything(outside: Outside, mark: bytes | None):
    outside.grow()
    key = outside.digest()
    outside.shipped.clear()
    if mark is not None:
        (outside.folder / "attested.json").write_bytes(mark)
    outside.now += timedelta(days=100)
    outside.round(outside.attestor())
    assert outside.stamps() == [f"{key}.tsr"]


def test_the_mark_stays_at_the_oldest_day_that_is_not_attested(outside: Outside):
    attestor = outside.attestor()
    outside.grow()
    outside.digest()
    outside.round(attestor)
    mark = outside.folder / "attested.json"
    assert json.loads(mark.read_bytes()) == {"from_day": "2026-11-25"}
    outside.tsa.misbehaviour = "error"
    outside.grow()
    kept = outside.digest()
    outside.round(attestor)
    outside.now += timedelta(days=30)
    for _ in range(3):
        outside.round(attestor, PAUSE_MAX)
    assert json.loads(mark.read_bytes()) == {"from_day": "2026-11-25"}
    outside.tsa.misbehaviour = ""
    outside.round(outside.attestor())  # another process, a month later
    assert f"{kept}.tsr" in outside.stamps()
    assert json.loads(mark.read_bytes()) == {"from_day": "2026-12-25"}


def test_another_replica_asks_for_its_own(outside: Outside):
    for replica in ("gw-0-1", "gw-0-shipper", "gw-0-command", "gw-0-x-1", "gw-10-1"):
        outside.grow(replica)
        outside.digest(replica)
    outside.shipped.clear()
    attestor = outside.attestor()
    outside.round(attestor)
    assert {name for name, _, _ in outside.cosigned()} == {"gw-0-1", "gw-0-shipper", "gw-0-command"}
    assert len(outside.stamps()) == 3


def test_a_store_that_is_away_at_the_start_is_asked_again(outside: Outside):
    outside.grow()
    outside.digest()
    outside.shipped.clear()
    outside.store.is_open = False
    attestor = outside.attestor()
    assert len(outside.round(attestor)) == 2
    assert not attestor.is_done
    outside.store.is_open = True
    assert outside.round(attestor, PAUSE) == ()
    assert attestor.is_done


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"[]\n\n", b"{}\n\n\xe2\x80\x94 x AAAAAAAA\n"])
@pytest.mark.parametrize("place", ["v1/digest/", "v1/log/", "v1/events/"])
def test_what_the_store_spoilt_is_a_failure_and_no_crash(outside: Outside, place: str, garbage: bytes):
    attestor = outside.attestor()
    outside.grow()
    outside.digest()
    outside.round(attestor)  # size 3 is cosigned: now a proof is needed
    outside.grow()
    outside.digest()
    for key in list(outside.store.objects):
        if key.startswith(place) and not key.endswith(".tsr") and "cosigned" not in key:
            outside.store.objects[key][:] = []
            outside.store.write_over(key, garbage)
    outside.shipped.clear()
    again = outside.attestor()
    outside.round(again)
    assert not [one for one in outside.cosigned() if one[1] == 6]


# Witnesses ------------------------------------------------------------------------------------------------------------


def test_without_a_quorum_nothing_is_kept_and_the_newest_is_asked_for_again(outside: Outside):
    attestor = outside.attestor(quorum=2)
    outside.other.misbehaviour = "error"
    outside.grow()
    outside.digest()
    [failure] = outside.round(attestor)
    assert failure == f"witness: gw-0-1/{EPOCH}: witness.example/other: http_500"
    assert outside.cosigned() == []
    outside.grow(count=4)
    outside.other.misbehaviour = ""
    assert outside.round(attestor, PAUSE) == ()
    assert outside.cosigned() == [("gw-0-1", 7, 2)]  # one had seen 3, the other nothing


def test_a_log_that_a_witness_does_not_know_does_not_hold_up_the_others(outside: Outside):
    attestor = outside.attestor()
    for number in range(ROUND_MAX + 1):
        outside.grow(f"gw-0-{number}", is_trusted=number == ROUND_MAX)
        outside.digest(f"gw-0-{number}")
    outside.round(attestor)
    outside.round(attestor, PAUSE)
    outside.round(attestor, PAUSE_MAX)
    assert outside.cosigned() == [(f"gw-0-{ROUND_MAX}", 3, 1)]
    assert len(outside.stamps()) == ROUND_MAX + 1  # whoever stamps is not to blame


def test_leaves_that_the_store_lost_are_not_papered_over(outside: Outside):
    attestor = outside.attestor()
    outside.grow()
    outside.round(attestor, COSIGN_EVERY)
    outside.round(attestor, COSIGN_EVERY)
    outside.grow(count=4)
    outside.grow(count=4)
    gone = [key for key in outside.store.objects if key.startswith("v1/events/")][1]
    outside.round(attestor)
    real = outside.store.fetch

    def fetch(key: str) -> Any:
        if key == gone:
            raise StoreUnavailable("no such object")
        return real(key)

    outside.store.fetch = fetch  # type: ignore[method-assign]
    assert outside.round(attestor, COSIGN_EVERY) == ("StoreUnavailable: no such object",)
    assert outside.cosigned() == [("gw-0-1", 3, 1)]


def test_another_process_does_not_ask_for_what_is_attested(outside: Outside):
    outside.grow()
    outside.digest()
    outside.round(outside.attestor())
    asked = len(outside.tsa.queries), len(outside.witness.requests)
    again = outside.attestor()
    assert outside.round(again) == ()
    assert again.is_done
    assert (len(outside.tsa.queries), len(outside.witness.requests)) == asked


def test_an_earlier_checkpoint_does_not_take_the_newest_one_s_place(outside: Outside):
    outside.grow()
    outside.digest()
    outside.shipped.clear()
    outside.grow()
    assert outside.round(outside.attestor()) == ()
    assert outside.cosigned() == [("gw-0-1", 6, 1)]


def test_an_object_that_this_process_did_not_see_is_read_from_the_store(outside: Outside):
    attestor = outside.attestor(stamps=False)
    outside.grow()
    outside.round(attestor)
    outside.round(attestor, COSIGN_EVERY)
    outside.grow(count=2)
    outside.round(attestor)
    outside.grow(count=5)
    outside.shipped.clear()
    outside.grow(count=1)
    outside.round(attestor)
    outside.round(attestor, COSIGN_EVERY)
    assert outside.cosigned() == [("gw-0-1", 3, 1), ("gw-0-1", 11, 1)]
