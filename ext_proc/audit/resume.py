"""What the store has already, for a shipper that cannot rely on what it remembers.

After a crash between put and state the same objects are made again. The same leaves may then be other bytes (zstd
changed with an update), and the same note may bear another signature (the key was rotated): what is there is adopted,
so that no record is ever there twice. And where the state is damaged or behind, it is made anew from the store.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from zstandard import ZstdError

from ext_proc.audit.epoch import Draft, EpochState
from ext_proc.audit.note import json_of, open_note, read_checkpoint
from ext_proc.audit.origin import Origin
from ext_proc.audit.seal import SealedObject, read_events, reopen
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ext_proc.audit.store import Store

EVENTS: Final = ".jsonl.zst"


def adopted(store: Store, one: SealedObject) -> SealedObject:
    """What is in the store already and says the same as ``one``, under another SHA-256; else ``one`` itself.

    Raises:
        StoreUnavailable: no answer.
        StoreRefused: we may not list.
    """
    keys = list(store.keys(f"{one.key.rpartition('-')[0]}-"))
    if one.key in keys:
        return one
    for key in keys:
        there = SealedObject.named(key, store.fetch(key))
        if meaning(there) == meaning(one):
            return there
    return one


def adopted_birth(store: Store, one: SealedObject) -> SealedObject | None:
    """The birth record that is there under the key of ``one``, if it is of the same birth.

    Raises:
        StoreUnavailable: no answer.
        StoreRefused: the store does not let us.
    """
    there = SealedObject.named(one.key, store.fetch(one.key))
    return there if meaning(there) == meaning(one) else None


def meaning(one: SealedObject) -> Any:
    """What an object says, however it is packed and whoever signed it."""
    with suppress(IntegrityError, ValueError, ZstdError):
        if one.key.endswith(EVENTS):
            return list(read_events(one.body))
        if one.key.startswith("v1/roster/"):
            return {**json_of(open_note(one.body.decode())), "log_key": None}
        if one.key.endswith(".note"):
            return open_note(one.body.decode()).text
    return one.body


def newest_size(store: Store, origin: str) -> int:
    """How many leaves of the log the store has by its newest checkpoint.

    Raises:
        StoreUnavailable: no answer.
        StoreRefused: we may not list.
    """
    name = Origin.read(origin).name
    sizes = [int(_name(key)[:16]) for key in store.keys(f"v1/log/{name}/checkpoint/")]
    return max(sizes, default=0)


def rebuild(store: Store, origin: str, now: datetime) -> EpochState:
    """The state of the log ``origin`` as of its newest checkpoint in the store.

    Raises:
        StoreUnavailable: no answer.
        StoreRefused: the store does not let us.
        IntegrityError: what is there is not one log.
    """
    state = EpochState(origin=origin)
    size = newest_size(store, origin)
    found = _objects(store, origin, now)
    covered = 0
    for key in sorted(found["digest"], key=_name):
        body = store.fetch(key)
        covered = json_of(open_note(body.decode()))["size"]
        state.draft = Draft.after(state.draft.number, body)
    packs = {_span(key): key for key in found["payload"]}
    for key in sorted(found["events"], key=_name):
        first, last = _span(key)
        if first >= size or first < state.frontier.size:
            continue
        if first != state.frontier.size or last >= size:
            raise IntegrityError("the store does not hold the log from its beginning to its newest checkpoint")
        pack = packs.get((first, last))
        keys = (pack, key) if pack else (key,)
        sealed = reopen(first, tuple(SealedObject.named(one, store.fetch(one)) for one in keys))
        state.frontier.append(sealed.leaf_hashes)
        state.end = sealed.end or state.end
        if first >= covered:
            state.draft.add(sealed)
        if not first:
            state.roster_sha256 = _birth_sha256(store, origin, sealed.first_at)
    _compare(store, state, size)
    return state


def _compare(store: Store, state: EpochState, size: int) -> None:
    """Is the tree of these leaves the one that was signed?"""
    name = Origin.read(state.origin).name
    roots = {
        read_checkpoint(open_note(store.fetch(key).decode()))[2]
        for key in store.keys(f"v1/log/{name}/checkpoint/{size:016d}-")
    }
    if state.frontier.size != size or (size and roots != {state.frontier.root()}):
        raise IntegrityError("the log in the store is not the one that was signed")


def _objects(store: Store, origin: str, now: datetime) -> dict[str, list[str]]:
    """Keys by room. Only the days of the epoch are listed: the bucket is large."""
    name = Origin.read(origin)
    try:
        day = date.fromisoformat(name.epoch[:8])
    except ValueError:
        raise IntegrityError("the epoch's name is not a time") from None
    place = f"/replica={name.log}/epoch={name.epoch}/"
    found: dict[str, list[str]] = defaultdict(list)
    while day <= now.date() + timedelta(days=1):
        for room in ("events", "payload", "digest"):
            found[room] += [key for key in _listed(store, f"v1/{room}/dt={day}/") if place in key]
        day += timedelta(days=1)
    return found


def _listed(store: Store, prefix: str) -> Iterator[str]:
    return (key for key in store.keys(prefix) if not key.endswith(".tsr"))


def _birth_sha256(store: Store, origin: str, at: str) -> str:
    name = Origin.read(origin)
    stored = store.read_back(f"v1/roster/dt={at[:10]}/{name.log}.{name.epoch}.note")
    return stored.sha256 if stored else "missing"


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _span(key: str) -> tuple[int, int]:
    first, last, _ = _name(key).split("-")
    return int(first), int(last)
