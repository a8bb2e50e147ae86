"""Each class, and what must not be explained away. A recorded gateway on one side, Envoy's lines on the other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ext_proc.audit.note import is_signed, json_of, open_note
from ext_proc.errors import IntegrityError
from ext_proc.evidence import reconcile as reconciling
from ext_proc.evidence.envoy_lines import read_line
from ext_proc.evidence.reconcile import Span, reconcile
from ext_proc.evidence.statement import refused_leaf, result_leaf, statement
from tests.fakes.envoy_log import AccessLog, line, refused, start
from tests.fakes.recorded import GATEWAY, NOON, Recorded

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LATER = NOON + 5 * MINUTE
"""When everything below was put into the store."""
NEXT_DAY = NOON + 24 * HOUR
GATE_DOWN = "ext_proc_error_gRPC_error_14{no_healthy_upstream{/run/worker-0.sock}}"


class Gateway:
    """One replica with one worker, its shipper, and its Envoy."""

    def __init__(self, folder):
        self.of = Recorded.at(folder)
        self.store = self.of.store
        self.log = self.of.log()
        self.shipper = self.of.log("gw-0-shipper", salt="bbbbbbbb")
        self.envoy = AccessLog(self.store)
        self.noted = []

    def seal(self, *lines, end="log.close", last_at=LATER):
        """Everything goes to the store. ``end``: how the worker's log ends; None: it does not."""
        if end is not None:
            self.log.add(end, last_at, {"leaves": 1, "interrupted": 0, "last_good_sequence": 0, "dropped_bytes": 0})
        for log in (self.log, self.shipper):
            if log.waiting:
                log.seal()
        if lines:
            self.envoy.ship(*lines, at=LATER)

    def beat(self, at, counted):
        self.shipper.add("heartbeat", at, {"envoy_requests": counted})

    def reconcile(self, now=NEXT_DAY, since=NOON - HOUR, until=NOON + HOUR, noted=()):
        return reconcile(self.store, Span(since, until), now, self.noted.append, noted, lambda _what, _count: None)


@pytest.fixture
def gateway(tmp_path):
    return Gateway(tmp_path)


def names(account):
    return {name: count for (_, name), count in account.classes.items()}


def only(account):
    """The one class of the one request, with its kind."""
    ((kind, name),) = account.classes
    return kind, name


def test_a_call_that_both_sides_know_is_reconciled(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(start("one", NOON), line("one", NOON))
    account = gateway.reconcile()
    assert only(account) == ("reconciled", "reconciled")
    assert (account.envoy, account.audited, account.orphans, account.is_whole) == (1, 1, 0, True)
    assert account.explained == account.gaps == []


def test_a_refusal_that_the_gate_made_is_reconciled(gateway):
    gateway.log.refused("one", NOON)
    told = {"attempts": 0, "decision": "deny", "response": None, "details": "affidavit_denied", "outcome": "refused"}
    gateway.seal(line("one", NOON, **told))
    assert only(gateway.reconcile()) == ("reconciled", "reconciled")


def test_only_requests_of_the_span_count_by_their_beginning(gateway):
    for name, at in (("before", NOON - 2 * HOUR), ("first", NOON - HOUR), ("last", NOON + HOUR - SECOND)):
        gateway.log.exchange(name, at)
    gateway.log.exchange("after", NOON + HOUR)
    gateway.seal(
        *(line(n, at) for n, at in (("before", NOON - 2 * HOUR), ("first", NOON - HOUR), ("after", NOON + HOUR))),
        line("last", NOON + HOUR - SECOND),
    )
    account = gateway.reconcile()
    assert (account.envoy, account.audited, names(account)) == (2, 2, {"reconciled": 2})


def test_the_line_decides_where_the_two_clocks_lie_on_both_sides_of_midnight(gateway):
    gateway.log.exchange("one", NOON + SECOND / 10)
    gateway.seal(line("one", NOON - SECOND / 10))
    assert gateway.reconcile(since=NOON, until=NOON + HOUR).envoy == 0
    assert names(gateway.reconcile(since=NOON - HOUR, until=NOON)) == {"reconciled": 1}


# Around the gate ------------------------------------------------------------------------------------------------------


def test_a_request_that_reached_the_upstream_without_the_gates_word_is_a_bypass(gateway):
    gateway.seal(line("one", NOON, event_id=None, decision=None))
    account = gateway.reconcile()
    assert only(account) == ("incident", "bypass")
    assert (account.envoy, account.audited, account.orphans, account.is_whole) == (1, 0, 1, False)
    assert account.gaps[0]["object"] == "one"


def test_the_gates_word_for_another_request_is_none(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(line("one", NOON, event_id="other"))
    assert only(gateway.reconcile()) == ("incident", "bypass")


def test_a_denied_request_that_reached_the_upstream_is_a_bypass(gateway):
    gateway.log.refused("one", NOON)
    gateway.seal(line("one", NOON))
    assert only(gateway.reconcile()) == ("incident", "bypass")


@pytest.mark.parametrize(
    "told",
    [
        {"ext_proc": {"request_body_last_call_status": 10}, "attempts": 0, "details": "rbac_access_denied_matched"},
        {"ext_proc": {"failed_open": True}},
        {"ext_proc": {"response_header_call_status": 10}, "response": None},
    ],
)
@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_clean_close_is_an_incident_whatever_the_record_says(gateway, told, is_recorded):
    if is_recorded:
        gateway.log.exchange("one", NOON, status="abandoned")
    gateway.seal(line("one", NOON, **told))
    account = gateway.reconcile()
    assert only(account) == ("incident", "phase_failed")
    assert not account.is_whole


@pytest.mark.parametrize(
    "told",
    [
        {"ext_proc": {"response_body_last_call_status": None}},
        {"ext_proc": {"response_header_call_status": None}},
        {"ext_proc": {"request_body_last_call_status": None}},
        {"response": None},
        {"ext_proc": {"response_body_last_call_status": 13}},
        {"details": "ext_proc_error_gRPC_error_13{x}"},
    ],
)
def test_a_phase_without_the_gate_is_an_incident(gateway, told):
    gateway.log.exchange("one", NOON)
    gateway.seal(line("one", NOON, **told))
    assert only(gateway.reconcile()) == ("incident", "phase_failed")


@pytest.mark.parametrize(
    "told",
    [
        {"ext_proc": {"request_body_last_call_status": None}, "received_bytes": 0},
        {"ext_proc": {"response_body_last_call_status": None}, "sent_bytes": 0},
        {"ext_proc": {"request_body_last_call_status": None, "response_body_last_call_status": None}, "status": 101},
    ],
)
def test_what_has_no_body_is_not_asked_about(gateway, told):
    gateway.log.exchange("one", NOON)
    gateway.seal(line("one", NOON, **told))
    assert only(gateway.reconcile()) == ("reconciled", "reconciled")


AT_RELEASE = {"response": None, "sent_bytes": 0}
"""Envoy's line of a caller who reset the request over HTTP/2 in the moment of its release (measured)."""


@pytest.mark.parametrize(
    ("released", "told", "verdict"),
    [
        (79, {}, ("explained", "phase_failed")),
        (79, {"ext_proc": {"response_body_last_call_status": None}}, ("explained", "phase_failed")),
        (0, {}, ("incident", "phase_failed")),  # a head without a body: it may have gone out
        (79, {"sent_bytes": 1}, ("incident", "phase_failed")),
        (79, {"ext_proc": {"response_header_call_status": None}}, ("incident", "phase_failed")),
        (79, {"ext_proc": {"response_header_call_status": 13}}, ("incident", "phase_failed")),
        (79, {"ext_proc": {"response_header_call_status": 10}}, ("incident", "phase_failed")),
    ],
)
def test_a_caller_who_left_in_the_moment_of_the_release(gateway, released, told, verdict):
    gateway.log.exchange("one", NOON, released=released)
    gateway.seal(line("one", NOON, **{**AT_RELEASE, **told}))
    account = gateway.reconcile()
    assert only(account) == verdict
    assert account.is_whole == (verdict[0] == "explained")


@pytest.mark.parametrize("status", ["interrupted", "abandoned", "error", "local_reply", "unrecorded"])
def test_an_outcome_that_says_so_itself_explains_a_failed_phase(gateway, status):
    gateway.log.exchange("one", NOON, status=status)
    gateway.seal(line("one", NOON, details="ext_proc_error_gRPC_error_13{x}", response=None))
    assert only(gateway.reconcile()) == ("explained", "phase_failed")


@pytest.mark.parametrize(
    ("released", "told", "verdict"),
    [
        (0, {}, ("incident", "outcome_contradicted")),
        (0, {"sent_bytes": 0}, ("reconciled", "reconciled")),  # the caller left before a byte of it went out
        (0, {"details": "downstream_remote_disconnect"}, ("reconciled", "reconciled")),
        (79, {}, ("reconciled", "reconciled")),  # a stream that the caller left half-way
    ],
)
def test_an_answer_that_went_out_contradicts_an_outcome_that_says_none_did(gateway, released, told, verdict):
    gateway.log.exchange("one", NOON, status="abandoned", released=released)
    gateway.seal(line("one", NOON, **told))
    account = gateway.reconcile()
    assert only(account) == verdict
    assert account.is_whole == (verdict[0] == "reconciled")


def test_a_worker_that_died_between_the_record_and_the_answer_explains_it(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(line("one", NOON, ext_proc={"response_body_last_call_status": 14}), end="log.recovered")
    assert only(gateway.reconcile()) == ("explained", "worker_died")


@pytest.mark.parametrize("broken", [True, False])
def test_a_recovery_that_does_not_know_what_became_of_an_answer_leaves_it_to_envoys_line(gateway, broken):
    gateway.log.exchange("one", NOON)
    gateway.log.add("log.recovered", NOON + MINUTE, {})
    told = {"exchange_id": "one", "outcome_sequence": 2, "delivery": "unknown", "payloads": [], "time": {}}
    gateway.log.add("inference.undelivered", NOON + MINUTE, told)
    gateway.seal(
        line("one", NOON, **({"ext_proc": {"response_body_last_call_status": 14}} if broken else {})), end=None
    )
    account = gateway.reconcile()
    assert only(account) == (("explained", "phase_failed") if broken else ("reconciled", "reconciled"))
    assert account.is_whole


# A line without a record ----------------------------------------------------------------------------------------------


def test_a_line_without_a_record_is_an_orphan(gateway):
    gateway.seal(line("one", NOON))
    account = gateway.reconcile()
    assert only(account) == ("orphan", "record_missing")
    assert not account.is_whole


def test_a_denial_without_a_record_is_an_orphan_too(gateway):
    gateway.seal(line("one", NOON, attempts=0, decision="deny", details="affidavit_denied"), end="log.recovered")
    assert only(gateway.reconcile()) == ("orphan", "record_missing")


@pytest.mark.parametrize("details", ["http1.codec_error", "http2.violation.of.messaging.rule", "low_version"])
def test_what_envoy_refused_gets_a_record_of_its_own(gateway, details):
    gateway.seal(refused(NOON, details))
    account = gateway.reconcile()
    assert only(account) == ("explained", "refused_by_envoy")
    assert (account.envoy, account.audited, account.noted, account.is_whole) == (1, 1, 1, True)
    (told,) = gateway.noted
    assert refused_leaf(told) == {
        "request_id": None,
        "details": details,
        "status": 400,
        "began_at": "2026-11-25T12:00:00.000000Z",
        "replica": "gw-0",
        "generation": "20261125T120000000000-1",
        "offset": 0,
    }


def test_and_only_once(gateway):
    gateway.seal(refused(NOON), refused(NOON + SECOND))
    assert gateway.reconcile().noted == 2
    command = gateway.of.log("gw-0-command", at=NOON + 50 * HOUR, salt="cccccccc")
    first, second = gateway.noted
    command.add("inference.refused_by_envoy", NOON + 50 * HOUR, refused_leaf(first))
    command.seal()
    gateway.noted.clear()
    account = gateway.reconcile(now=NOON + 60 * HOUR, noted=[second.place])
    assert (account.noted, gateway.noted) == (0, [])
    assert (account.envoy, account.audited) == (2, 2)


def test_the_record_says_nothing_of_addresses_and_paths(gateway):
    told = {"event_id": None, "decision": None, "ext_proc": {"request_header_call_status": 14}}
    gateway.seal(line("one", NOON, attempts=0, details=GATE_DOWN, **told))
    assert only(gateway.reconcile()) == ("explained", "gate_unavailable")
    assert refused_leaf(gateway.noted[0])["details"] == "ext_proc_error_gRPC_error_14"


def test_what_reached_the_upstream_is_never_taken_for_a_refusal(gateway):
    gateway.seal(line("one", NOON, details="http1.codec_error", event_id=None))
    assert only(gateway.reconcile()) == ("incident", "bypass")


def test_an_unknown_reason_is_no_refusal(gateway):
    gateway.seal(refused(NOON, "something_new"))
    assert only(gateway.reconcile()) == ("orphan", "record_missing")


def test_a_caller_who_left_while_a_worker_died_is_explained(gateway):
    told = {"event_id": None, "decision": None, "details": "downstream_remote_disconnect"}
    gateway.seal(line("one", NOON, attempts=0, **told), end="log.recovered")
    assert only(gateway.reconcile()) == ("explained", "worker_died")


@pytest.mark.parametrize("details", ["downstream_remote_disconnect", "http2.remote_reset"])
@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ({"ext_proc": {"bytes_sent": 0, "grpc_status_before_first_call": 0}}, ("explained", "left_unheard")),
        ({"ext_proc": None}, ("explained", "left_unheard")),
        ({"ext_proc": {"request_header_call_status": 0}}, ("orphan", "record_missing")),  # then the gate knew of it
        ({"ext_proc": {"grpc_status_before_first_call": 10}}, ("incident", "phase_failed")),
        ({"attempts": 1}, ("incident", "bypass")),
        ({"event_id": "one"}, ("orphan", "record_missing")),
    ],
)
def test_a_caller_who_left_before_the_gate_had_heard(gateway, details, heard, expected):
    told = {"event_id": None, "decision": None, "details": details, "ext_proc": None, "attempts": 0}
    gateway.seal({**line("one", NOON), **told, **heard})
    assert only(gateway.reconcile()) == expected
    assert [one.request_id for one in gateway.noted] == (["one"] if expected[1] == "left_unheard" else [])


LEFT = {"event_id": None, "decision": None, "details": "downstream_remote_disconnect", "ext_proc": None, "attempts": 0}


def test_a_busy_gate_may_yet_have_it_on_record(gateway):
    """Envoy keeps the call for it for ten seconds, and a record has ten: until the logs are here that far, it waits."""
    gateway.log.exchange("other", NOON + 15 * SECOND)
    gateway.seal(
        start("other", NOON + 15 * SECOND), line("other", NOON + 15 * SECOND), {**line("one", NOON), **LEFT}, end=None
    )
    found = gateway.reconcile(now=NOON + 60 * SECOND).classes
    assert found[("explained", "record_not_shipped")] == 1 and gateway.noted == []


@pytest.mark.parametrize("kind", ["approval.requested", "approval.break_glass"])
def test_whom_the_gate_has_heard_did_not_leave_unheard(gateway, kind):
    """The outcome is missing, and another record tells that the gate knew of the call."""
    gateway.log.add(kind, NOON, {"exchange_id": "one"})
    gateway.seal({**line("one", NOON), **LEFT})
    assert only(gateway.reconcile()) == ("orphan", "outcome_missing")
    assert gateway.noted == []


def test_a_hold_may_be_in_the_store_before_its_intent_is(gateway):
    """Seconds after a call that waited for people: no alarm that the gate was passed by."""
    gateway.log.add("approval.requested", NOON, {"exchange_id": "one"})
    gateway.seal(line("one", NOON), end=None)
    assert only(gateway.reconcile(now=LATER)) == ("explained", "record_not_shipped")
    assert only(gateway.reconcile(now=NOON + 2 * HOUR)) == ("incident", "bypass")


def test_a_hold_without_an_intent_in_a_log_that_ended(gateway):
    gateway.log.add("approval.requested", NOON, {"exchange_id": "one"})
    gateway.seal(line("one", NOON))
    assert only(gateway.reconcile(now=LATER)) == ("incident", "bypass")


def test_what_the_gate_could_not_record_it_refused(gateway):
    gateway.seal(line("one", NOON, attempts=0, outcome="unrecorded", decision="deny"))
    assert only(gateway.reconcile()) == ("explained", "unrecorded")


def test_a_record_may_be_on_its_way_for_an_hour(gateway):
    gateway.seal(line("one", NOON), end=None)
    assert only(gateway.reconcile(now=LATER)) == ("explained", "record_not_shipped")
    assert only(gateway.reconcile(now=NOON + 2 * HOUR)) == ("orphan", "record_missing")


def test_a_log_that_was_born_and_shipped_nothing_may_hold_it(gateway):
    gateway.seal(line("one", NOON))
    gateway.of.log("gw-0-1", salt="dddddddd")
    assert only(gateway.reconcile(now=LATER)) == ("explained", "record_not_shipped")


def test_a_log_that_ended_holds_nothing_more(gateway):
    gateway.seal(line("one", NOON), last_at=NOON - MINUTE)
    assert only(gateway.reconcile(now=LATER)) == ("orphan", "record_missing")


def test_logs_of_another_replica_explain_nothing(gateway):
    gateway.seal(line("one", NOON))
    gateway.of.log("gw-1-1", salt="dddddddd")
    assert only(gateway.reconcile(now=LATER)) == ("orphan", "record_missing")


def test_an_outcome_that_never_came_is_an_orphan(gateway):
    gateway.log.exchange("one", NOON, outcome=False)
    gateway.seal(line("one", NOON))
    assert only(gateway.reconcile()) == ("orphan", "outcome_missing")


@pytest.mark.parametrize("is_later_first", [True, False])
def test_of_two_outcomes_the_later_counts(gateway, is_later_first):
    """One that became durable too late is set right by another."""
    sequence = gateway.log.add("inference.intent", NOON, gateway.log.intent_fields("one")[0])
    told = [(SECOND, "completed"), (2 * SECOND, "unrecorded")]
    for after, status in reversed(told) if is_later_first else told:
        gateway.log.outcome("one", NOON + after, sequence, status=status)
    gateway.seal(line("one", NOON, details="ext_proc_error_gRPC_error_13{x}", response=None))
    assert only(gateway.reconcile()) == ("explained", "phase_failed")


# A record without a line ----------------------------------------------------------------------------------------------


def test_a_record_without_a_line_is_an_orphan(gateway):
    gateway.log.exchange("one", NOON)
    gateway.log.exchange("two", NOON + MINUTE)
    gateway.seal(line("two", NOON + MINUTE))
    account = gateway.reconcile(now=LATER)
    assert names(account) == {"line_missing": 1, "reconciled": 1}
    assert (account.envoy, account.audited, account.orphans) == (1, 2, 1)


def test_a_line_may_be_on_its_way_for_an_hour(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal()
    assert only(gateway.reconcile(now=LATER)) == ("explained", "line_not_shipped")
    assert only(gateway.reconcile(now=NOON + 2 * HOUR)) == ("orphan", "line_missing")


def test_an_envoy_that_was_started_anew_explains_lines_that_were_not_written(gateway):
    gateway.log.exchange("one", NOON)
    gateway.log.exchange("two", NOON + 3 * MINUTE)
    for at, counted in ((NOON - MINUTE, 70), (NOON + MINUTE, 2)):
        gateway.beat(at, counted)
    gateway.seal(line("two", NOON + 3 * MINUTE))
    assert names(gateway.reconcile()) == {"envoy_restarted": 1, "reconciled": 1}


def test_a_restart_at_another_time_explains_nothing(gateway):
    gateway.log.exchange("one", NOON)
    gateway.log.exchange("two", NOON + 30 * MINUTE)
    for at, counted in ((NOON + 10 * MINUTE, 70), (NOON + 11 * MINUTE, None), (NOON + 12 * MINUTE, 2)):
        gateway.beat(at, counted)
    gateway.seal(line("two", NOON + 30 * MINUTE), last_at=NOON + HOUR)
    assert names(gateway.reconcile()) == {"line_missing": 1, "reconciled": 1}


def test_a_request_that_has_only_begun_may_be_going_on(gateway):
    gateway.seal(start("one", NOON))
    assert only(gateway.reconcile(now=LATER)) == ("explained", "still_connected")
    assert only(gateway.reconcile(now=NOON + 2 * HOUR)) == ("orphan", "end_missing")


def test_an_end_that_envoy_did_not_write_is_an_orphan(gateway):
    gateway.log.exchange("one", NOON)
    gateway.log.exchange("two", NOON + MINUTE)
    gateway.seal(start("one", NOON), line("two", NOON + MINUTE))
    assert names(gateway.reconcile(now=LATER)) == {"still_connected": 1, "reconciled": 1}
    assert names(gateway.reconcile(now=NOON + 15 * MINUTE)) == {"end_missing": 1, "reconciled": 1}


def test_an_envoy_that_was_started_anew_explains_an_end_that_is_missing(gateway):
    gateway.log.exchange("one", NOON, status="abandoned")
    for at, counted in ((NOON - MINUTE, 70), (NOON + MINUTE, None)):
        gateway.beat(at, counted)
    gateway.seal(start("one", NOON))
    assert only(gateway.reconcile()) == ("explained", "envoy_restarted")


# Requests without an id -----------------------------------------------------------------------------------------------


def local_reply(gateway, name, at, details):
    told = {"status": "local_reply", "http_status": 400, "code": None, "released_bytes": 0}
    upstream = {"status": None, "code_details": details, "response_flags": "0", "address": ""}
    fields = {"exchange_id": name, "intent_sequence": None, "payloads": [], "outcome": told, "upstream": upstream}
    gateway.log.add("inference.outcome", at, fields)


def no_host(at):
    return refused(
        at, "missing_host_header", duration_ms=8, ext_proc={"bytes_sent": 544, "response_header_call_status": 0}
    )


def test_what_envoy_gave_no_id_is_matched_by_its_reason_and_time(gateway):
    for name, at, details in (
        ("one", NOON, "missing_host_header"),
        ("two", NOON + MINUTE, "missing_host_header"),
        ("three", NOON, "absolute_path_rejected"),
    ):
        local_reply(gateway, name, at + SECOND / 200, details)
    gateway.seal(no_host(NOON), no_host(NOON + MINUTE), {**no_host(NOON), "details": "absolute_path_rejected"})
    account = gateway.reconcile()
    assert names(account) == {"reconciled": 3}
    assert (account.envoy, account.audited, gateway.noted) == (3, 3, [])


def test_one_line_is_matched_once(gateway):
    local_reply(gateway, "one", NOON, "missing_host_header")
    gateway.seal(no_host(NOON), no_host(NOON + SECOND / 10))
    assert names(gateway.reconcile()) == {"reconciled": 1, "refused_by_envoy": 1}


def test_a_reply_of_envoys_that_only_we_know_is_an_orphan(gateway):
    local_reply(gateway, "one", NOON, "missing_host_header")
    gateway.seal(no_host(NOON + MINUTE))
    account = gateway.reconcile()
    assert names(account) == {"line_missing": 1, "refused_by_envoy": 1}


# Envoy's log itself ---------------------------------------------------------------------------------------------------


def test_a_line_that_stands_twice_is_an_incident(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(line("one", NOON), line("one", NOON))
    assert only(gateway.reconcile()) == ("incident", "line_twice")


def test_a_hole_between_two_parts_is_an_incident(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(line("one", NOON))
    gateway.envoy.ship(start("two", NOON), at=LATER, skip=100)
    account = gateway.reconcile(now=LATER)
    assert names(account) == {"reconciled": 1, "access_log_gap": 1, "still_connected": 1}
    assert not account.is_whole


def test_a_missing_beginning_is_a_hole_too(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal()
    gateway.envoy.ship(line("one", NOON), at=LATER, skip=100)
    assert names(gateway.reconcile()) == {"reconciled": 1, "access_log_gap": 1}


def test_bytes_that_were_shipped_twice_count_once(gateway):
    gateway.log.exchange("one", NOON)
    gateway.log.exchange("two", NOON + SECOND)
    gateway.seal(line("one", NOON))
    gateway.envoy.offset = 0
    gateway.envoy.ship(line("one", NOON), line("two", NOON + SECOND), at=LATER + MINUTE)
    assert names(gateway.reconcile()) == {"reconciled": 2}


def test_half_a_line_is_said_and_the_next_one_read(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(b'{"at":"2026-11-2', line("one", NOON))
    assert names(gateway.reconcile()) == {"reconciled": 1, "access_log_unreadable": 1}


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b"1", b"\xff\n", b'{"type":"DownstreamEnd"}', b'{"type":"Other","ext_proc":null}'],
)
def test_what_is_no_line_is_none(raw):
    assert read_line(raw, "gw-0", "g", 0) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", 600), ("status", -1), ("status", "200"), ("attempts", True), ("attempts", 2**53), ("at", "nonsense"),
        ("at", None), ("request_id", 7), ("duration_ms", 10**17), ("type", "DownstreamPeriodic"), ("ext_proc", "x"),
        ("ext_proc", {"request_header_call_status": "10"}), ("event_id", ["x"]), ("duration_ms", 2**53 - 1),
    ],
)  # fmt: skip
def test_a_field_that_is_not_of_its_kind_makes_it_none(gateway, name, value):
    gateway.seal({**line("one", NOON), name: value})
    assert names(gateway.reconcile(now=LATER)) == {"access_log_unreadable": 1}


def test_an_object_that_is_damaged_ends_it(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal()
    key = next(key for key, _, _ in gateway.store.puts if key.startswith("v1/events/"))
    at = next(n for n, one in enumerate(gateway.store.puts) if one[0] == key)
    gateway.store.puts[at] = (key, b"nonsense", gateway.store.puts[at][2])
    with pytest.raises(IntegrityError):
        gateway.reconcile()


# Envoy's counter ------------------------------------------------------------------------------------------------------


def counted(gateway, *, written, beats):
    for number in range(written):
        gateway.log.exchange(f"r{number}", NOON + number * SECOND)
    for at, count in beats:
        gateway.beat(at, count)
    last = NOON + 10 * MINUTE
    gateway.log.exchange("last", last)
    gateway.seal(*(line(f"r{n}", NOON + n * SECOND) for n in range(written)), line("last", last), last_at=last + MINUTE)
    return names(gateway.reconcile())


def test_as_many_lines_as_envoy_counted(gateway):
    found = counted(gateway, written=20, beats=[(NOON - MINUTE, 100), (NOON + MINUTE, 120), (NOON + 2 * MINUTE, 120)])
    assert found == {"reconciled": 21}


@pytest.mark.parametrize("count", [119, 121])
def test_another_number_is_an_incident(gateway, count):
    found = counted(
        gateway, written=20, beats=[(NOON - MINUTE, 100), (NOON + MINUTE, count), (NOON + 2 * MINUTE, count)]
    )
    assert found == {"reconciled": 21, "counter_mismatch": 1}


def test_a_request_close_to_a_heartbeat_may_count_on_either_side(gateway):
    assert counted(gateway, written=1, beats=[(NOON - MINUTE, 100), (NOON + SECOND, 100)]) == {"reconciled": 2}


def test_nothing_is_compared_across_a_restart(gateway):
    found = counted(gateway, written=20, beats=[(NOON - MINUTE, 100), (NOON + 10 * SECOND, 5), (NOON + MINUTE, 14)])
    assert found == {"reconciled": 21}


def test_what_a_log_lost_is_said(gateway):
    gateway.log.add("log.lost", NOON, {"lost_origin": "x", "first_sequence": 1, "last_sequence": 2, "reason": "r"})
    gateway.seal()
    account = gateway.reconcile()
    assert names(account) == {"log_lost": 1}
    assert not account.is_whole


# The statement --------------------------------------------------------------------------------------------------------


def test_the_statement_is_signed_and_the_leaf_names_it(gateway):
    gateway.log.exchange("one", NOON)
    gateway.seal(refused(NOON), line("two", NOON))
    account = gateway.reconcile()
    made = statement(account, GATEWAY, gateway.of.signer, NEXT_DAY)
    assert made.key == f"v1/reconcile/dt=2026-11-25/{made.sha256[:16]}.note"
    note = open_note(made.body.decode())
    assert is_signed(note, GATEWAY, gateway.of.signer.public_key)
    told = json_of(note)
    assert (told["envoy"], told["audited"], told["orphans"]) == (2, 2, 2)
    assert (told["from"], told["to"]) == ("2026-11-25T11:00:00.000000Z", "2026-11-25T13:00:00.000000Z")
    assert [one["class"] for one in told["explained"]] == ["refused_by_envoy"]
    leaf = result_leaf(account, made)
    assert leaf["gaps"] == [{"code": "line_missing", "count": 1}, {"code": "record_missing", "count": 1}]
    assert {name: leaf[name] for name in ("day", "envoy", "audited", "orphans")} == {
        name: told[name] for name in ("day", "envoy", "audited", "orphans")
    }


def test_what_is_too_much_to_list_is_counted(gateway, monkeypatch):
    monkeypatch.setattr(reconciling, "LISTED_MAX", 2)
    gateway.seal(*(refused(NOON + n * SECOND) for n in range(5)))
    account = gateway.reconcile()
    assert len(account.explained) == 2
    assert account.gaps == [
        {
            "code": "unlisted",
            "object": "refused_by_envoy",
            "explanation": "3 more of the class refused_by_envoy are counted and not listed.",
        }
    ]
    assert account.is_whole
