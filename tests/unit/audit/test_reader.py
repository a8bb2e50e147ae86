from __future__ import annotations

import hashlib
import json
import struct

import pytest

from ext_proc.audit import reader
from ext_proc.audit.seal import PACK_MAGIC, seal
from ext_proc.errors import IntegrityError
from tests.fakes.log import AT, E1, a_keyring, a_writer, intent, outcome
from tests.fakes.store import FakeStore


@pytest.fixture
async def bucket(tmp_path):
    """A store with two segments' objects of one log."""
    keys = a_keyring(tmp_path)
    store = FakeStore()
    writer = await a_writer(tmp_path, keyring=keys)
    for number in range(3):
        await writer.record(intent(number, b"question %d" % number), AT)
        await writer.record(outcome(number, b"answer %d" % number), AT)
    await writer.close(AT)
    for segment in sorted((tmp_path / "evidence" / E1).glob("*.sealed")):
        for one in seal(segment.read_bytes()).objects:
            store.put(one.key, one.body, one.sha256)
    return store, keys


def pack_key(store):
    [key] = store.keys("v1/payload/")
    return key


async def test_leaves_in_order_with_their_objects(bucket):
    store, _ = bucket
    found = list(reader.leaves(store))
    assert [leaf["sequence"] for _, leaf in found] == list(range(8))
    assert {key for key, _ in found} == set(store.keys("v1/events/"))


async def test_an_exchange_and_its_payloads(bucket):
    store, keys = bucket
    asked, answered = reader.exchange(store, "exchange-1")
    assert reader.payloads(store, keys, *asked) == {"request.raw": b"question 1"}
    assert reader.payloads(store, keys, *answered) == {"response.released": b"answer 1"}
    assert reader.exchange(store, "exchange-9") == []


async def test_a_leaf_without_payloads_has_none(bucket):
    store, keys = bucket
    first = next(reader.leaves(store))
    assert first[1]["kind"] == "log.open"
    assert reader.payloads(store, keys, *first) == {}


async def test_a_missing_pack_is_told_not_passed_over(bucket):
    store, keys = bucket
    [asked, _] = reader.exchange(store, "exchange-1")
    del store.objects[pack_key(store)]
    with pytest.raises(IntegrityError, match=r"request\.raw"):
        reader.payloads(store, keys, *asked)


async def test_a_later_version_of_the_pack_changes_nothing(bucket):
    store, keys = bucket
    store.write_over(pack_key(store), b"nothing happened")
    [asked, _] = reader.exchange(store, "exchange-1")
    assert reader.payloads(store, keys, *asked) == {"request.raw": b"question 1"}


async def test_a_forged_pack_beside_the_true_one_hides_nothing(bucket):
    store, keys = bucket
    [asked, _] = reader.exchange(store, "exchange-1")
    digest = bytes.fromhex(asked[1]["payloads"][0]["ciphertext_sha256"])
    forged = PACK_MAGIC + struct.pack(">32sQ", digest, 4) + b"lies"
    place, _, name = pack_key(store).rpartition("/")
    store.put(f"{place}/{name[:34]}{'0' * 16}.pack", forged, hashlib.sha256(forged).hexdigest())
    assert reader.payloads(store, keys, *asked) == {"request.raw": b"question 1"}


async def test_a_payload_of_another_exchange_is_not_this_one_s(bucket):
    store, keys = bucket
    key, leaf = reader.exchange(store, "exchange-1")[0]
    _, other = reader.exchange(store, "exchange-2")[0]
    with pytest.raises(IntegrityError):
        reader.payloads(store, keys, key, json.loads(json.dumps(leaf)) | {"payloads": other["payloads"]})
