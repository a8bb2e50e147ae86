"""What the policy was asked, out of the records of a span of time: each decision with its question, opened in bulk.

One pack is read once, whatever is wanted of it. That the questions are read is on record before: the caller sees to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol, cast

from ext_proc.audit.keys import Shredded
from ext_proc.audit.record import instant
from ext_proc.audit.writer import binding_of
from ext_proc.errors import IntegrityError
from ext_proc.evidence.erased import UNEXPLAINED, Erasures
from ext_proc.evidence.events import SPOOL_BYTES, damaged, objects, parse_leaf, read_ahead, window
from ext_proc.evidence.show import entries, packs_of
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ext_proc.evidence.versions import VersionedStore

_POLICY: Final = b'"policy":{'
_KINDS: Final = frozenset({LeafKind.INFERENCE_INTENT, LeafKind.APPROVAL_REQUESTED, LeafKind.INFERENCE_OUTCOME})

State = Literal["read", "shredded", "none", "damaged"]


class Opener(Protocol):
    """Who may open payloads: `audit.keys.Opener`."""

    def decrypt(self, told: dict[str, Any], ciphertext: bytes, binding: str) -> bytes:
        """See `audit.keys.KeyRing.decrypt`."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision. ``body`` is None unless ``state`` is ``read``; ``why`` then says what became of it.

    ``none``: the record is of before questions were kept.
    """

    leaf: dict[str, Any]
    state: State
    body: bytes | None = None
    why: str = ""

    @property
    def exchange_id(self) -> str:
        """Of which exchange."""
        return str(self.leaf.get("exchange_id"))

    @property
    def policy(self) -> dict[str, Any]:
        """What the leaf says of the decision."""
        said: dict[str, Any] = self.leaf["policy"]
        return said

    def __repr__(self) -> str:
        return f"Recorded({self.exchange_id!r}, {self.state!r})"


def recorded(
    store: VersionedStore,
    opener: Opener,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    exchange_id: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
    before_opening: Callable[[], None] = lambda: None,
) -> Iterator[Recorded]:
    """Each decision of the span, in the order of the bucket: one for each leaf that has the question beside it.

    ``progress`` is told how many records were looked at; ``before_opening`` is called where there are some to open.

    Raises:
        EvidenceError: the store cannot be read.
        IntegrityError: an events object is damaged: verify.
    """
    after, is_before = window(since, until)
    needle = None if exchange_id is None else exchange_id.encode()
    count = 0
    erasures = Erasures(store)
    for name, version, lines in read_ahead(store, (one for one in objects(store, after) if is_before(one[0]))):
        wanted: list[dict[str, Any]] = []
        for line in lines:
            if _POLICY in line and (needle is None or needle in line):
                leaf = parse_leaf(line, version.key)
                if _is_wanted(leaf, exchange_id, since, until):
                    wanted.append(leaf)
        if wanted:
            before_opening()
        yield from _opened(store, opener, erasures, version.key, wanted)
        count += name.last - name.first + 1
        progress(count)


def leaf_count(store: VersionedStore, since: datetime | None = None, until: datetime | None = None) -> int:
    """How many records `recorded` will look at, as their objects' names say.

    Raises:
        EvidenceError: the store cannot be listed.
    """
    after, is_before = window(since, until)
    return sum(name.last - name.first + 1 for name, _ in objects(store, after) if is_before(name))


def _is_wanted(leaf: dict[str, Any], exchange_id: str | None, since: datetime | None, until: datetime | None) -> bool:
    if leaf["kind"] not in _KINDS or not isinstance(leaf.get("policy"), dict):
        return False
    if exchange_id is not None and leaf.get("exchange_id") != exchange_id:
        return False
    if (since is not None and leaf["at"] < instant(since)) or (until is not None and leaf["at"] > instant(until)):
        return False
    if leaf["kind"] != LeafKind.INFERENCE_OUTCOME or _question_of(leaf) is not None:
        return True
    # Its decision is told of before: in the intent, or in the asking of people.
    return leaf.get("intent_sequence") is None and "approval" not in leaf


def _question_of(leaf: dict[str, Any]) -> dict[str, Any] | None:
    told = leaf.get("payloads")
    listed = told if isinstance(told, list) else []
    return next(
        (one for one in listed if isinstance(one, dict) and one.get("role") == PayloadRole.POLICY_QUESTION), None
    )


def _opened(
    store: VersionedStore, opener: Opener, erasures: Erasures, key: str, leaves: list[dict[str, Any]]
) -> Iterator[Recorded]:
    found = {id(leaf): _question_of(leaf) for leaf in leaves}
    digests = {str(one.get("ciphertext_sha256")) for one in found.values() if one is not None}
    ciphertexts = _ciphertexts(store, key, digests) if digests else {}
    for leaf in leaves:
        told = found[id(leaf)]
        if told is None:
            yield Recorded(leaf, "none", why="it was recorded without its question")
        else:
            yield _one(opener, erasures, leaf, told, ciphertexts)


def _one(
    opener: Opener, erasures: Erasures, leaf: dict[str, Any], told: dict[str, Any], ciphertexts: dict[str, bytes]
) -> Recorded:
    try:
        ciphertext = ciphertexts.get(told["ciphertext_sha256"])
        if ciphertext is None:
            return Recorded(leaf, "damaged", why="no pack holds its question: run `affidavit verify`")
        return Recorded(leaf, "read", opener.decrypt(told, ciphertext, binding_of(leaf["origin"], leaf["exchange_id"])))
    except Shredded as error:
        if not erasures.has(error, told["key"]):
            return Recorded(leaf, "damaged", why=UNEXPLAINED.format(error.sequence, error.origin))
        return Recorded(leaf, "shredded", why=error.detail or "")
    except IntegrityError as error:
        return Recorded(leaf, "damaged", why=error.detail or "")
    except (KeyError, TypeError, ValueError):
        return Recorded(leaf, "damaged", why="what the leaf says of its question is not of the published form")


def _ciphertexts(store: VersionedStore, key: str, digests: set[str]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for version in packs_of(store, key):
        with SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast("BinaryIO", spool)
            store.download(version, file)
            try:
                places = [one for one in entries(file) if one[0] in digests]
            except IntegrityError as error:
                raise damaged(version.key, error.detail or "") from None
            for digest, length, at in places:
                file.seek(at)
                made[digest] = file.read(length)
    return made
