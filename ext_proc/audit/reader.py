"""Reading the evidence back, for people: exchanges, their records, and (with the keys) their payloads."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ext_proc.audit.seal import read_events, read_pack
from ext_proc.audit.writer import binding_of
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.store import Store


def leaves(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every leaf in the bucket with the key of its object, in the order of the keys."""
    for key in store.keys("v1/events/"):
        for line in read_events(store.fetch(key)):
            yield key, json.loads(line)


def exchange(store: Store, exchange_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The leaves of one exchange."""
    return [(key, leaf) for key, leaf in leaves(store) if leaf.get("exchange_id") == exchange_id]


def payloads(store: Store, keyring: KeyRing, key: str, leaf: dict[str, Any]) -> dict[str, bytes]:
    """The payloads of one leaf in clear, by role.

    Args:
        store: the bucket.
        keyring: the keys.
        key: of the events object that holds the leaf.
        leaf: the leaf.

    Raises:
        IntegrityError: a ciphertext that the leaf commits to is not there, or its key is gone.
    """
    wanted = {told["ciphertext_sha256"]: told for told in leaf.get("payloads", ())}
    if not wanted:
        return {}
    place = key.removeprefix("v1/events/").rpartition("/")[0]
    span = key.rpartition("/")[2][:33]
    found: dict[str, bytes] = {}
    for pack in store.keys(f"v1/payload/{place}/{span}-"):
        for _, ciphertext in read_pack(store.fetch(pack)):
            # By what it is, not by what the pack says it is: a forged pack beside the true one hides nothing.
            told = wanted.pop(hashlib.sha256(ciphertext).hexdigest(), None)
            if told is not None:
                found[told["role"]] = keyring.decrypt(told, ciphertext, binding_of(leaf["origin"], leaf["exchange_id"]))
    if wanted:
        raise IntegrityError("payload is not in the bucket: " + ", ".join(one["role"] for one in wanted.values()))
    return found
