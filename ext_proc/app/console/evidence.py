"""The console's evidence half (`console.ports.Exchanges`): the index says where, the bucket says what.

An auditor whose token names a tenant sees exchanges whose callers' tokens named the same one (``actor.tenant_ref``),
and nothing of others; records from before there was such a reference are nobody's, so only an auditor without a tenant
sees those. What is shown of one exchange is read from the bucket each time, not from the index.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ext_proc import telemetry
from ext_proc.app.console.charts import hours_of
from ext_proc.app.console.policies import Bundles, activations_of, out_of
from ext_proc.app.console.standing import Standings
from ext_proc.app.console.timeline import roles_of, steps_of
from ext_proc.app.evidence.auditing import auditor_policy, store_of_source
from ext_proc.app.evidence.verification import WholeVerification, environment_of
from ext_proc.audit.people import TENANT
from ext_proc.console import seen
from ext_proc.errors import AuditUnavailable, DependencyError, GateError, IntegrityError, RequestError
from ext_proc.evidence import examine, rendering, show
from ext_proc.evidence.index import Index
from ext_proc.evidence.index_asking import Wanted
from ext_proc.evidence.index_file import IndexFile, NotBuilt
from ext_proc.evidence.indexing import IndexThread
from ext_proc.evidence.rollup import keys_of
from ext_proc.evidence.versions import EvidenceError
from ext_proc.record_kinds import PayloadRole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.config import Config
    from ext_proc.console.people import Viewer
    from ext_proc.evidence.examine import Records
    from ext_proc.evidence.index import Line, Where
    from ext_proc.evidence.show import Opened
    from ext_proc.evidence.versions import VersionedStore
    from ext_proc.model import Receipt

PURPOSE_MAX: Final = 200
"""Characters that a record of reading holds (`audit.erasure.Order`)."""
_BODIES_MAX: Final = 20_000
"""Records that may hold pieces of one streamed body: days of streaming have more, and are for `affidavit show`."""
_PROOFS_MAX: Final = 50
_BEFORE: Final[Mapping[str, str]] = {
    PayloadRole.REQUEST_FORWARDED: PayloadRole.REQUEST_RAW,
    PayloadRole.RESPONSE_RELEASED: PayloadRole.RESPONSE_UPSTREAM,
}
_QUICK: Final = 4
_SLOW: Final = 3
_LINKS: Final = {"called_in": "Tool called in", "brought_by": "Tool's result in", "held_with": "Same hold"}
_T = TypeVar("_T")
_log = telemetry.logger()


class EvidenceUnavailable(DependencyError):
    """The bucket, or the index of it, cannot be read."""

    code = "evidence_unavailable"
    client_text = (
        "The evidence in the bucket cannot be read at the moment. If it stays so, the console's log says what the "
        "store answered: check audit.s3 in the configuration, and the console's permissions to list and read."
    )


class EvidenceNotIndexed(DependencyError):
    """The console has not read the bucket yet."""

    code = "evidence_not_indexed"
    client_text = (
        "The console is reading the bucket to make its index: the newest exchanges are there within seconds, all of "
        "them later. `affidavit records list` needs no index."
    )


class EvidenceDamaged(GateError):
    """What is in the bucket is not what the gateway writes."""

    code = "evidence_damaged"
    client_text = (
        "What the bucket holds of this cannot be read as records: it was damaged or changed. Run `affidavit verify` to "
        "learn what exactly."
    )


class ReadingNotRecorded(DependencyError):
    """No record, no view."""

    code = "reading_not_recorded"
    client_text = "That you read this cannot be put on record at the moment, so nothing is shown. Try again."


class BadPurpose(RequestError):
    """It could not stand in a record."""

    code = "bad_purpose"
    client_text = f"Say why on one line of 1 to {PURPOSE_MAX} characters: it is kept with the record."


class TooLong(RequestError):
    """More than the console reads at once."""

    code = "too_long"
    client_text = "This answer streamed for so long that the console cannot show it: use `affidavit show --payloads`."


class ConsoleEvidence:
    """`ports.Exchanges`. Whatever takes time is done in threads.

    Args:
        index: of the bucket.
        store: the bucket.
        keyring: opens bodies, and makes references to tenants and viewers.
        journal: where reading is recorded.
        policy: the auditor's policy, as `affidavit auditor-policy` prints it.
        bundles: policy bundles that were seen.
        whole: the verification of the whole bucket.
        clock: aware UTC.
    """

    def __init__(  # noqa: PLR0913 - all that it stands on
        self,
        index: Index,
        store: VersionedStore,
        keyring: KeyRing,
        journal: Journal,
        *,
        policy: Callable[[], Mapping[str, Any]],
        bundles: Bundles,
        whole: WholeVerification,
        clock: Callable[[], datetime],
    ) -> None:
        self._index = index
        self._store = store
        self._keyring = keyring
        self._journal = journal
        self._told_policy = policy
        self._bundles = bundles
        self._standings = Standings(index, store, whole)
        self._clock = clock
        # Threads of its own: whoever verifies many must not keep others from the inbox, nor from a search.
        self._quick = ThreadPoolExecutor(_QUICK, "console-index")
        self._slow = ThreadPoolExecutor(_SLOW, "console-bucket")

    def close(self) -> None:
        """Nothing is asked any more; what goes on is not waited for."""
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)

    async def search(self, viewer: Viewer, filters: seen.Filters, limit: int, after: str | None) -> seen.Found:
        """See `ports.Exchanges.search`."""
        wanted = Wanted(
            query=filters.query,
            since=filters.since,
            until=filters.until,
            connection=filters.connection,
            model=filters.model,
            decision=filters.decision,
            outcome=filters.outcome,
            entity=filters.entity,
            code=filters.code,
            tenant_ref=self._tenant(viewer),
        )
        page = await self._apart(self._quick, lambda: self._index.search(wanted, limit, after, self._clock()))
        lines = tuple(map(_line, page.lines))
        more = lines[-1].exchange_id if page.is_more and lines else None
        return seen.Found(lines, more, page.total, self._keyring.subject_reference(viewer.identity))

    async def one(self, viewer: Viewer, exchange_id: str) -> seen.ExchangeSeen | None:
        """See `ports.Exchanges.one`."""
        return await self._apart(self._slow, lambda: self._one(viewer, exchange_id))

    async def payloads(self, viewer: Viewer, exchange_id: str, purpose: str) -> seen.PayloadsSeen | None:
        """See `ports.Exchanges.payloads`."""
        return await self._apart(self._slow, lambda: self._payloads(viewer, exchange_id, purpose))

    async def verify_one(self, viewer: Viewer, exchange_id: str) -> seen.Verdict | None:
        """See `ports.Exchanges.verify_one`."""
        return await self._apart(self._slow, lambda: self._verify_one(viewer, exchange_id))

    async def charts(self, viewer: Viewer, since: datetime) -> seen.Charts:
        """See `ports.Exchanges.charts`."""
        now = self._clock()
        wanted = Wanted(since=since, tenant_ref=self._tenant(viewer))
        hours, entities = await self._apart(self._quick, lambda: self._index.hours(wanted, now))
        counted = sorted(entities.items(), key=lambda one: (-one[1], one[0]))
        return seen.Charts(since, now, hours_of(hours, since, now), tuple(seen.Count(*one) for one in counted))

    async def activations(self) -> seen.Activations:
        """See `ports.Exchanges.activations`."""
        return await self._apart(self._quick, lambda: activations_of(self._index, self._bundles, self._gateway))

    async def verification(self) -> seen.Standing:
        """See `ports.Exchanges.verification`. It begins the next verification of the whole bucket, if that is due."""
        return await self._apart(
            self._slow, lambda: self._standings.standing(self._gateway, self._keys(), self._clock())
        )

    # ---------------------------------------------------------------------------------------------------------------

    def _one(self, viewer: Viewer, exchange_id: str) -> seen.ExchangeSeen | None:
        where = self._index.where(exchange_id, self._tenant(viewer))
        if where is None:
            return None
        found = self._records(where)
        if not found.records:
            raise EvidenceDamaged("; ".join(found.faults))
        links = [seen.Fact(_LINKS[one.kind], one.exchange_id) for one in where.links]
        links += [seen.Fact("Not readable", fault) for fault in found.faults]
        if found.left_out or where.left_out:
            told = f"{found.left_out} more records, {where.left_out} more objects"
            links.append(seen.Fact("Not shown", f"{told}: `affidavit show` has them all"))
        return seen.ExchangeSeen(
            _line(where.line), steps_of(found.records), self._proofs(found), roles_of(found.records), tuple(links),
            self._keyring.subject_reference(viewer.identity),
        )  # fmt: skip

    def _proofs(self, found: Records) -> tuple[seen.Proof, ...]:
        """What each record rests on. Of one log, the first signed head that covers the last record covers them all."""
        keys = self._keys()
        heads = {origin: examine.head_after(self._store, origin, last, keys) for origin, last in found.places.items()}
        made = []
        for one in found.records[:_PROOFS_MAX]:
            head = heads.get(one.leaf["origin"])
            made.append(
                seen.Proof(
                    seen.Place(one.leaf["origin"], one.leaf["sequence"]),
                    one.leaf["kind"],
                    one.leaf_hash,
                    one.key,
                    one.lock.mode,
                    one.lock.retain_until,
                    head.size if head else None,
                    head.root_hash if head else None,
                )
            )
        return tuple(made)

    def _payloads(self, viewer: Viewer, exchange_id: str, purpose: str) -> seen.PayloadsSeen | None:
        if not purpose.strip() or len(purpose) > PURPOSE_MAX or not purpose.isprintable():
            raise BadPurpose
        where = self._index.where(exchange_id, self._tenant(viewer))
        if where is None:
            return None
        found = self._records(where, _BODIES_MAX)
        if found.left_out or where.left_out:
            raise TooLong
        noting = _Noting(self._journal)
        # Who reads stands in the log for ever: as everybody does, by reference.
        by = self._keyring.subject_reference(viewer.identity)
        try:
            opened = show.open_payloads(self._store, self._keyring, noting, found.located, by=by, purpose=purpose)
        except AuditUnavailable as error:
            raise ReadingNotRecorded(error.detail) from None
        read = {one.role: one for one in opened if one.body is not None}
        bodies = tuple(_body(one, found, read.get(_BEFORE.get(one.role, ""))) for one in opened)
        return seen.PayloadsSeen(exchange_id, bodies, noting.place)

    def _verify_one(self, viewer: Viewer, exchange_id: str) -> seen.Verdict | None:
        where = self._index.where(exchange_id, self._tenant(viewer))
        if where is None:
            return None
        now = self._clock()
        found = self._records(where)
        found.left_out += where.left_out
        policy = {**self._told_policy(), "log_keys": [base64.b64encode(key).decode() for key in self._keys()]}
        examined = examine.examine(self._store, exchange_id, found, policy, now)
        is_ok = all(one.is_ok for one in examined)
        told = tuple(seen.Examined(one.name, one.is_ok, one.detail) for one in examined)
        return seen.Verdict(exchange_id, is_ok, now, told)

    def _records(self, where: Where, parts_max: int = examine.PARTS_MAX) -> Records:
        return examine.records_of(self._store, where.keys, where.line.exchange_id, parts_max)

    def _tenant(self, viewer: Viewer) -> str | None:
        """The reference of the viewer's tenant; None: they may see everybody's."""
        tenant = viewer.identity.tenant
        return self._keyring.reference(TENANT, tenant) if tenant else None

    @property
    def _gateway(self) -> str:
        return str(self._told_policy()["gateway"])

    def _keys(self) -> set[bytes]:
        """Those that sign now, and those before them."""
        policy = self._told_policy()
        told = [base64.b64decode(one) for one in policy["log_keys"] if isinstance(one, str)]
        return {key for one in told for key in keys_of(self._store, str(policy["gateway"]), one)}

    async def _apart(self, pool: Executor, work: Callable[[], _T]) -> _T:
        def safely() -> _T:
            with _translated():
                return work()

        return await asyncio.get_running_loop().run_in_executor(pool, safely)


@contextmanager
def _translated() -> Iterator[None]:
    """What went wrong in words for whoever looks at a page; the whole of it is in our log."""
    try:
        yield
    except NotBuilt as error:
        _log.info("console.evidence", code=error.code, detail=error.detail)
        raise EvidenceNotIndexed(error.detail) from None
    except EvidenceError as error:
        _log.warning("console.evidence", code=error.code, detail=error.detail)
        raise EvidenceUnavailable(error.detail) from None
    except IntegrityError as error:
        _log.warning("console.evidence", code=error.code, detail=error.detail)
        raise EvidenceDamaged(error.detail) from None


class _Noting:
    """A journal that remembers where the note stands."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.place: seen.Place | None = None

    def note(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        """See `erasure.Journal.note`."""
        receipt = self._journal.note(kind, fields)
        self.place = seen.Place(receipt.origin, receipt.sequence)
        return receipt


def _line(line: Line) -> seen.ExchangeLine:
    return seen.ExchangeLine(
        exchange_id=line.exchange_id,
        at=line.at,
        subject_ref=line.subject_ref,
        connection=line.connection,
        operation=line.operation,
        model=line.model,
        decision=line.decision,
        outcome=line.outcome,
        http_status=line.http_status,
        code=line.code,
        masked=tuple(seen.Count(name, count) for name, count in line.masked.items()),
        hold_id=line.hold_id,
    )


def _body(opened: Opened, found: Records, before: Opened | None) -> seen.BodySeen:
    role = cast("Any", opened.role)  # `show.ROLES` has no others
    if opened.body is None:
        return seen.BodySeen(role, opened.state, opened.content_type, (), opened.why)
    pieces, unplaced = rendering.pieces(opened, found.located, secrets.token_hex(16), before)
    segments = tuple(seen.Segment(one.text, one.entity, one.action) for one in pieces)
    return seen.BodySeen(role, "read", opened.content_type, segments, "", unplaced)


class EvidenceHalf:
    """Everything behind it, from start to stop: the index's thread and the verification beside.

    Args:
        config: the configuration.
        keyring: the keys.
        journal: where reading is recorded: the console's own log.
        clock: aware UTC.

    Raises:
        EvidenceError: the bucket's settings cannot be used.
    """

    def __init__(self, config: Config, keyring: KeyRing, journal: Journal, clock: Callable[[], datetime]) -> None:
        folder = config.state_dir / "console"
        store = store_of_source(None, config)
        file = IndexFile(folder, store.name)
        told: list[dict[str, Any]] = []

        def policy() -> dict[str, Any]:
            if not told:  # the signing key does not change while the process lives
                told.append(auditor_policy(config))
            return told[0]

        self._thread = IndexThread(store, file, clock)
        self._whole = WholeVerification(folder, store.name, policy, environment_of(config), clock)
        bundles = Bundles(folder, config.policy.bundle_file, out_of(store))
        self.exchanges = ConsoleEvidence(
            Index(file), store, keyring, journal, policy=policy, bundles=bundles, whole=self._whole, clock=clock
        )

    def start(self) -> None:
        """Begin to read the bucket."""
        self._thread.start()

    def stop(self) -> None:
        """Stop. Waits for the object that is being read."""
        self.exchanges.close()
        self._whole.stop()
        self._thread.stop()
