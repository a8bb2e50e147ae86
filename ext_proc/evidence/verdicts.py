"""What is to be thought of one request: reconciled, explained, an orphan, or an incident. Pure.

Nothing is explained by goodwill. Each explanation rests on a fact from elsewhere: a log that ended without its process,
a counter of Envoy's that went back, the place up to which something was shipped. What no fact explains is an orphan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ext_proc.evidence.envoy_lines import Line
    from ext_proc.evidence.ledger import Exchange, Pair

YOUNG: Final = timedelta(hours=1)
"""How long something may be on its way to the store, or a caller may be waited for."""
STILL_READING: Final = timedelta(minutes=10)
"""How long a caller may take to read an answer that was released."""
SLACK: Final = timedelta(seconds=2)
"""Clocks of two processes, and Envoy's buffer."""
HEARD_LATE: Final = timedelta(seconds=20) + SLACK
"""How much later than its caller left a busy gate may have a request on record: Envoy keeps the call for it for ten
seconds (``remote_close_timeout_milliseconds``), and a record has ten (`server.stream.RECORD_DEADLINE_SECONDS`)."""
_SWITCHING_PROTOCOLS: Final = 101
_VIA_UPSTREAM: Final = "via_upstream"
_TELLING: Final = ("interrupted", "abandoned", "local_reply", "error", "unrecorded")
"""Outcomes that say themselves that the exchange did not run its whole course."""

Span = tuple[datetime, datetime]


class Kind(StrEnum):
    """What follows from it."""

    RECONCILED = "reconciled"
    EXPLAINED = "explained"
    ORPHAN = "orphan"
    INCIDENT = "incident"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``name`` is the class. ``is_to_note``: the request gets a record of its own, made from Envoy's line."""

    kind: Kind
    name: str
    explanation: str = ""
    is_to_note: bool = False


@dataclass(slots=True)
class Surroundings:
    """The facts that explanations rest on.

    Args:
        now: the present.
        lines_until: per replica, when the newest line in the store was written.
        leaves_until: per replica, up to when every log of its workers is in the store; not there: to the end.
        log_until: per log that has not ended, its newest leaf in the store.
        restarts: per replica, between which two heartbeats Envoy's counter went back.
        deaths: per replica, between which two instants a worker died.
        died: the logs that ended without their process.
    """

    now: datetime
    lines_until: dict[str, datetime] = field(default_factory=dict)
    leaves_until: dict[str, datetime] = field(default_factory=dict)
    log_until: dict[str, datetime] = field(default_factory=dict)
    restarts: dict[str, list[Span]] = field(default_factory=dict)
    deaths: dict[str, list[Span]] = field(default_factory=dict)
    died: set[str] = field(default_factory=set)

    def is_young(self, at: datetime) -> bool:
        """Is it so recent that it may be on its way?"""
        return self.now - at < YOUNG


def judge(pair: Pair, around: Surroundings) -> Verdict:
    """One request id."""
    if len(pair.ends) > 1 or len(pair.starts) > 1:
        return Verdict(Kind.INCIDENT, "line_twice", "Envoy's log holds the line of this request more than once.")
    if pair.ends:
        return judge_end(pair.ends[0], pair.exchange, around)
    if pair.starts:
        return _judge_start(pair.starts[0], pair.exchange, around)
    if pair.exchange is None:
        raise ValueError(pair.request_id)
    return _judge_without_line(pair.exchange, around)


# A request that ended -------------------------------------------------------------------------------------------------


def judge_end(  # noqa: PLR0911 - one for each fact
    line: Line, exchange: Exchange | None, around: Surroundings
) -> Verdict:
    """A line of Envoy's about a request that is over."""
    if line.attempts and line.event_id is None:
        return Verdict(Kind.INCIDENT, "bypass", "The request reached the upstream without the gate's word.")
    if line.event_id not in (None, line.request_id):
        return Verdict(Kind.INCIDENT, "bypass", "The gate's word that let it pass was given for another request.")
    if line.was_closed_cleanly:
        what = "The gate ended its stream without an answer, which Envoy takes for consent; the gate behind refused."
        return Verdict(Kind.INCIDENT, "phase_failed", what)
    if exchange is None:
        return _judge_unrecorded(line, around)
    if line.attempts and not exchange.has_intent:
        if _is_behind(line, exchange, around):  # of a call that waited for people, the hold may be there, and no more
            return Verdict(Kind.EXPLAINED, "record_not_shipped", "Its intent is not in the store yet.")
        return Verdict(Kind.INCIDENT, "bypass", "The request reached the upstream, and the log holds no intent for it.")
    return _judge_phases(line, exchange, around)


def _judge_unrecorded(line: Line, around: Surroundings) -> Verdict:  # noqa: PLR0911 - one for each fact
    """No log holds anything about it."""
    passed_nothing = not line.attempts and line.event_id is None
    if passed_nothing and not line.was_asked and line.is_refused_before_the_gate:
        return Verdict(
            Kind.EXPLAINED, "refused_by_envoy", "Envoy refused it before the gate was asked.", is_to_note=True
        )
    until = around.leaves_until.get(line.replica)
    wanted = line.ended_at + (HEARD_LATE if line.has_left_unheard else SLACK)
    if until is not None and until < wanted and around.is_young(line.ended_at):
        return Verdict(Kind.EXPLAINED, "record_not_shipped", "The logs of its replica are not in the store that far.")
    if not line.attempts and line.outcome == "unrecorded":
        return Verdict(Kind.EXPLAINED, "unrecorded", "The gate could not record it, so it refused it; nothing passed.")
    if passed_nothing and line.is_refused_before_the_gate:
        return Verdict(Kind.EXPLAINED, "refused_by_envoy", "Envoy refused it by itself.", is_to_note=True)
    if passed_nothing and line.gate_failed:
        what = "The gate did not answer (its process was dead or just died), so Envoy refused it; nothing passed."
        return Verdict(Kind.EXPLAINED, "gate_unavailable", what, is_to_note=True)
    if passed_nothing and _overlaps(around.deaths.get(line.replica), line.began_at, line.ended_at):
        what = "A worker of its replica died meanwhile, before anything of it was to be recorded; nothing passed."
        return Verdict(Kind.EXPLAINED, "worker_died", what, is_to_note=True)
    if passed_nothing and line.has_left_unheard:
        # gRPC drops a call that is taken back before the server has accepted it: a busy worker never hears of it.
        what = "Its caller left before the gate had answered anything, and no log tells of it; nothing passed."
        return Verdict(Kind.EXPLAINED, "left_unheard", what, is_to_note=True)
    return Verdict(Kind.ORPHAN, "record_missing", "Envoy's log tells of the request, and no log of ours does.")


def _is_behind(line: Line, exchange: Exchange, around: Surroundings) -> bool:
    """Is what the log of the exchange says of the end of the request still on its way?"""
    until = around.log_until.get(exchange.origin)
    return until is not None and until < line.ended_at + SLACK and around.is_young(line.ended_at)


def _judge_phases(line: Line, exchange: Exchange, around: Surroundings) -> Verdict:  # noqa: PLR0911 - as above
    """There is a record: did the gate have its say in each phase?"""
    if exchange.status is None:
        if _is_behind(line, exchange, around):
            return Verdict(Kind.EXPLAINED, "record_not_shipped", "Its outcome is not in the store yet.")
        return Verdict(Kind.ORPHAN, "outcome_missing", "It is over, its log tells of it, and not of an outcome.")
    fault = _fault(line)
    if not fault and exchange.status == "abandoned" and not exchange.released_bytes and _went_out(line):
        what = "Envoy let an answer of the upstream go on the gate's release, and its outcome says that none was."
        return Verdict(Kind.INCIDENT, "outcome_contradicted", what)
    if not fault:
        return Verdict(Kind.RECONCILED, "reconciled")
    if exchange.status in _TELLING or exchange.is_undelivered:
        told = "undelivered" if exchange.is_undelivered else exchange.status
        return Verdict(Kind.EXPLAINED, "phase_failed", f"{fault}; its own outcome says so: {told}.")
    if _left_at_release(line, exchange):
        what = "Its caller left in the moment of the release: nothing of the answer's body went out."
        return Verdict(Kind.EXPLAINED, "phase_failed", what)
    if exchange.origin in around.died and line.gate_failed:
        what = f"{fault}; its worker died after the record was durable and before Envoy had its answer."
        return Verdict(Kind.EXPLAINED, "worker_died", what)
    until = around.log_until.get(exchange.origin)
    if line.gate_failed and until is not None and until < line.ended_at + SLACK and around.is_young(line.ended_at):
        return Verdict(
            Kind.EXPLAINED, "record_not_shipped", f"{fault}; what its log says next is not in the store yet."
        )
    return Verdict(Kind.INCIDENT, "phase_failed", f"{fault}, and its outcome is {exchange.status}.")


def _went_out(line: Line) -> bool:
    """Did bytes of the upstream's answer leave on the gate's word? An outcome is durable before them (L1)."""
    return line.details == _VIA_UPSTREAM and line.response == "released" and bool(line.sent_bytes)


def _left_at_release(line: Line, exchange: Exchange) -> bool:
    """Did Envoy end the exchange while the gate, which had heard nothing of it yet, released the answer?

    A caller's reset over HTTP/2 leaves no other trace. The answer's body did not go out then, and the gate had been
    asked about its head.
    """
    is_asked = "response_header" in line.phases and not line.bad_calls
    return is_asked and line.response is None and not line.sent_bytes and exchange.released_bytes > 0


def _fault(line: Line) -> str:
    """What the gate should have been asked and was not, or not with success; empty if all is well."""
    if line.bad_calls:
        name, status = min(line.bad_calls.items())
        return f"The gate's answer failed ({name.removesuffix('_status')}, gRPC status {status})"
    if line.details.startswith("ext_proc_error"):
        return "The gate's stream broke"
    if line.decision != "allow" or line.details != _VIA_UPSTREAM or line.status == _SWITCHING_PROTOCOLS:
        return ""
    wanted = {"request_header", "response_header"}
    wanted |= {"request_body"} if line.received_bytes else set()
    wanted |= {"response_body"} if line.sent_bytes else set()
    missing = sorted(wanted - set(line.phases))
    if missing:
        return f"The gate was not asked about the {missing[0].replace('_', ' ')}"
    if line.response != "released":
        return "The answer went on without the gate's release"
    return ""


# A request of which Envoy did not write the end -----------------------------------------------------------------------


def _judge_start(line: Line, exchange: Exchange | None, around: Surroundings) -> Verdict:
    if any(later >= line.began_at for _, later in around.restarts.get(line.replica, ())):
        return Verdict(Kind.EXPLAINED, "envoy_restarted", "Envoy was started anew before it could write the end.")
    if exchange is not None and exchange.status is not None:
        written_until = around.lines_until.get(line.replica)
        if written_until is None or (written_until < exchange.ended_at + SLACK and around.is_young(exchange.ended_at)):
            return Verdict(Kind.EXPLAINED, "line_not_shipped", "The end of Envoy's log is not in the store yet.")
        if exchange.status not in _TELLING and around.now - exchange.ended_at < STILL_READING:
            return Verdict(Kind.EXPLAINED, "still_connected", "Its caller may still be reading the answer.")
        return Verdict(Kind.ORPHAN, "end_missing", "Its record ends, and Envoy never wrote that it did.")
    if around.is_young(line.began_at) or (exchange is not None and exchange.origin in around.log_until):
        return Verdict(Kind.EXPLAINED, "still_connected", "It has begun and may still be going on.")
    return Verdict(Kind.ORPHAN, "end_missing", "Envoy wrote that it began, and nothing says how it ended.")


def _judge_without_line(exchange: Exchange, around: Surroundings) -> Verdict:
    until = around.lines_until.get(exchange.replica)
    if (until is None or until < exchange.ended_at + SLACK) and around.is_young(exchange.ended_at):
        return Verdict(Kind.EXPLAINED, "line_not_shipped", "Envoy's log is not in the store that far.")
    if _overlaps(around.restarts.get(exchange.replica), exchange.began_at, exchange.ended_at):
        return Verdict(Kind.EXPLAINED, "envoy_restarted", "Envoy was started anew; its last lines were never written.")
    return Verdict(Kind.ORPHAN, "line_missing", "Our log tells of the request, and Envoy's does not.")


def _overlaps(spans: list[Span] | None, begin: datetime, end: datetime) -> bool:
    return any(first - SLACK <= end and begin <= last + SLACK for first, last in spans or ())
