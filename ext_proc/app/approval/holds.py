"""Holds: where the keys (`audit`), the register and its bell (`approval`) are joined into `ports.Holds`.

What approvers read of a call is sealed with the caller's key, as payloads are: an erasure takes it too.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ext_proc import telemetry
from ext_proc.app.approval.passages import marks_of
from ext_proc.approval import hold as rules
from ext_proc.approval.hold import Hold
from ext_proc.approval.silence import BEAT_SECONDS, Silence
from ext_proc.audit.vault import Sealer
from ext_proc.errors import ApprovalUnavailable, TooLargeToApprove
from ext_proc.model import HoldId, HoldState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ext_proc.approval.bell import Bell
    from ext_proc.approval.register import Holder, Register
    from ext_proc.audit.keys import KeyRing
    from ext_proc.model import ApprovalTerms, Asking, ExchangeId, HoldEnding, Standing

    _Demanded = tuple[str, str, ApprovalTerms]
    """Of one call: its binding, its caller, and what the policy demands."""

SHOWN, CLEAR = "shown", "clear"
"""The two texts that are sealed: as the model would get it, and as it came."""
TEXT_MAX: Final = 256 * 1024
"""Characters of a body that people can be asked about. Nobody agrees to what they cannot read to its end."""
ANSWER_SECONDS: Final = 30.0
"""How long a call waits to be held: a register that stands still (its disk hangs) refuses nobody by itself."""
LATE_SECONDS: Final = 3.0
"""How much later than its time an exchange that waits may hear how the hold stands. Envoy's patience is five seconds
longer than the longest wait (`listen.longest_wait_seconds`): ours must end first, or the caller is told nothing."""
_RETRY_SECONDS: Final = 1.0
_LOST_MAX: Final = 1000
_THREADS: Final = 4

_log = telemetry.logger()


class HoldDesk:
    """`ports.Holds` of one worker.

    Args:
        keyring: has the callers' keys.
        register: keeps the holds.
        bell: tells when one changes.
        holder: the worker's log, as it stands now.
        status_url: where a caller can ask how a hold stands, if anywhere.
        clock: aware UTC.
        ticks: seconds of a clock that only goes on.
    """

    def __init__(
        self,
        keyring: KeyRing,
        register: Register,
        bell: Bell,
        holder: Callable[[], Holder],
        status_url: Callable[[HoldId], str | None],
        clock: Callable[[], datetime],
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self._keyring = keyring
        self._register = register
        self._bell = bell
        self._holder = holder
        self._status_url = status_url
        self._clock = clock
        self._ticks = ticks
        self._silence = Silence()
        self._asked: dict[ExchangeId, asyncio.Future[Hold]] = {}  # what the register last said to each, or will say
        self._held: dict[ExchangeId, HoldId] = {}
        self._demanded: dict[ExchangeId, _Demanded] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._lost: dict[ExchangeId, HoldEnding] = {}  # ended, and nobody knows whether the register kept them
        # Of its own: a slow database must not keep large bodies waiting that are read in the others.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="holds")

    async def ask(self, asking: Asking, now: datetime) -> Standing:
        """See `ports.Holds.ask`."""
        exchange_id = asking.call.exchange_id
        if max(len(asking.body), len(asking.forwarded.body)) > TEXT_MAX:
            raise TooLargeToApprove
        caller_ref = self._keyring.subject_reference(asking.call.identity)
        demanded = self._demanded[exchange_id] = (rules.binding_of(asking, caller_ref), caller_ref, asking.terms)
        hold = await self._kept(exchange_id, lambda: self._ask(asking, demanded, now), ANSWER_SECONDS)
        return self._stands(hold, exchange_id)

    async def wait(self, hold_id: HoldId, exchange_id: ExchangeId, until: datetime) -> Standing:
        """See `ports.Holds.wait`."""
        self._held[exchange_id] = hold_id
        seen = HoldState.PENDING
        while True:
            await self._bell.changed(hold_id, seen, until)
            seconds = max(0.0, (until - self._clock()).total_seconds()) + LATE_SECONDS
            hold = await self._kept(exchange_id, lambda: self._claim(hold_id, exchange_id), seconds)
            is_others = hold.state is HoldState.CLAIMED and hold.claimed_by != exchange_id
            if not is_others or self._clock() >= until:
                return self._stands(hold, exchange_id)
            seen = HoldState.CLAIMED  # what becomes of it: it may be given back

    def ended(self, exchange_id: ExchangeId, ending: HoldEnding) -> None:
        """See `ports.Holds.ended`."""
        asked, held = self._asked.pop(exchange_id, None), self._held.pop(exchange_id, None)
        self._demanded.pop(exchange_id, None)
        if asked is None:
            return
        task = asyncio.get_running_loop().create_task(self._end(asked, held, exchange_id, ending))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def live(self) -> None:
        """Hear of changes, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bell.run_forever())
            group.create_task(self._beat_forever())

    async def settle(self, seconds: float) -> None:
        """Let the register hear what became of those that ended, for so long at most."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=seconds)

    # ---------------------------------------------------------------------------------------------------------------

    async def _beat_forever(self) -> None:
        """While anybody waits here: say that this worker lives, and take away what silent ones held."""
        is_away = False
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not self._asked:
                continue
            try:
                await self._apart(self._beat)
                is_away = False
            except ApprovalUnavailable as error:
                if not is_away:
                    _log.warning("register of holds cannot be used", detail=error.detail)
                is_away = True

    async def _apart(self, work: Callable[..., object], *told: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, work, *told)

    async def _kept(self, exchange_id: ExchangeId, work: Callable[[], Hold], seconds: float) -> Hold:
        """What a question to the register says. It goes on where its caller leaves, or has waited for so long, and
        `ended` waits for it.
        """
        asked = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._asked[exchange_id] = asked
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody asks
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise ApprovalUnavailable("approval_register: no answer") from None

    def _ask(self, asking: Asking, demanded: _Demanded, now: datetime) -> Hold:
        holder = self._holder()
        return self._register.ask(self._made(asking, demanded, now), asking.call.exchange_id, holder, now)

    def _claim(self, hold_id: HoldId, exchange_id: ExchangeId) -> Hold:
        found = self._register.claim(hold_id, exchange_id, self._holder(), self._clock())
        if found is None:
            raise ApprovalUnavailable("hold is gone")
        return found

    def _beat(self) -> None:
        self._register.beat(self._holder().origin, self._clock())
        silent = self._silence.after(self._register.beats(), self._ticks())
        self._register.abandon_silent(silent, self._clock())

    async def _end(
        self, asked: asyncio.Future[Hold], held: HoldId | None, exchange_id: ExchangeId, ending: HoldEnding
    ) -> None:
        try:
            held = (await asked).hold_id
        except Exception as error:  # noqa: BLE001 - `_kept` told its caller; a lost answer may have been a yes
            _log.warning("the register's answer is not known", exchange=exchange_id, error=type(error).__name__)
            if held is None and isinstance(error, ApprovalUnavailable):
                await self._end_lost(exchange_id, ending)
        while held is not None:
            try:
                await self._apart(self._register.ended, held, exchange_id, ending, self._clock())
            except ApprovalUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _end_lost(self, exchange_id: ExchangeId, ending: HoldEnding) -> None:
        """Nobody knows which hold: the question may have been kept all the same, and with it a claim.

        One of those that ended so asks for all: while the database is away, there are many. What is left out is over
        when its time is.
        """
        is_asked_for = bool(self._lost)
        if len(self._lost) < _LOST_MAX:
            self._lost[exchange_id] = ending
        while self._lost and not is_asked_for:
            await asyncio.sleep(_RETRY_SECONDS)  # the database may be at it still
            some = dict(self._lost)
            with suppress(ApprovalUnavailable):
                await self._apart(self._end_anywhere, some)
                for one in some:
                    del self._lost[one]

    def _end_anywhere(self, some: Mapping[ExchangeId, HoldEnding]) -> None:
        for exchange_id, ending in some.items():
            self._register.ended_anywhere(exchange_id, ending, self._clock())

    def _stands(self, hold: Hold, exchange_id: ExchangeId) -> Standing:
        demanded = self._demanded.get(exchange_id)
        is_ours = hold.state is HoldState.CLAIMED and hold.claimed_by == exchange_id
        if is_ours and (demanded is None or not rules.is_agreed(hold, *demanded)):
            _log.error("what is kept of a hold is not what people agreed to", hold=hold.hold_id, exchange=exchange_id)
            raise ApprovalUnavailable("altered")
        return hold.standing(exchange_id, self._status_url(hold.hold_id))

    def _made(self, asking: Asking, demanded: _Demanded, now: datetime) -> Hold:
        """A hold for this call, to be kept if there is none yet."""
        hold_id = HoldId(uuid.uuid4().hex)
        binding, caller_ref, terms = demanded
        sealer = Sealer(self._keyring.token_key(caller_ref), scope_of(hold_id, binding))
        clear = asking.body.decode(errors="replace") if asking.terms.clear_to else None
        return Hold(
            hold_id=hold_id,
            binding_sha256=binding,
            caller_ref=caller_ref,
            tenant=asking.call.identity.tenant,
            terms=terms,
            facts=_facts(asking),
            sealed=sealer.seal(SHOWN, json.dumps(_shown(asking))),
            sealed_clear=None if clear is None else sealer.seal(CLEAR, clear),
            asked_at=now,
            expires_at=now + timedelta(seconds=asking.terms.within_seconds),
        )


def scope_of(hold_id: HoldId, binding_sha256: str) -> str:
    """What a hold's sealed texts are bound to: a text that is shown for another call cannot be opened."""
    return f"hold|{hold_id}|{binding_sha256}"


def _facts(asking: Asking) -> dict[str, Any]:
    """What is shown in lists: no content, no names."""
    call, decision = asking.call, asking.decision
    query = "&".join(f"{name}={value}" for name, value in call.query)
    return {
        "exchange_id": call.exchange_id,
        "connection": call.connection.name,
        "protocol": call.inspection.protocol,
        "operation": call.inspection.operation,
        "method": call.method,
        "path": call.path + (f"?{query}" if query else ""),
        "betas": list(call.betas),
        "model": call.inspection.model,
        "is_stream": call.inspection.is_stream,
        "findings": dict(call.inspection.findings),
        "body_bytes": call.body_bytes,
        "policy": {"revision": decision.policy.revision, "digest": decision.policy.digest},
        "decision_id": decision.decision_id,
    }


def _shown(asking: Asking) -> dict[str, Any]:
    """What an approver reads: who asks, from where, and what the model would get."""
    identity, source = asking.call.identity, asking.call.source
    text, redaction = asking.forwarded.body.decode(errors="replace"), asking.forwarded
    came, goes = marks_of(redaction.decoded.decode(errors="replace"), text, redaction.removals)
    return {
        "issuer": identity.issuer,
        "subject": identity.subject,
        "groups": list(identity.groups),
        "client": identity.client,
        "tenant": identity.tenant,
        "method": identity.method,
        "address": source.address,
        "user_agent": source.user_agent,
        "text": text,
        "marks": goes,
        **({"clear_marks": came} if asking.terms.clear_to else {}),
    }
