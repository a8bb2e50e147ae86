"""`export-siem`: each event once where nothing crashes, none left out whatever does, and going on where it stopped."""

from __future__ import annotations

import gzip
import json
import resource
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from ext_proc.app.evidence import siem as places
from ext_proc.cli import main
from ext_proc.errors import ConfigError
from ext_proc.evidence.siem import Cursor, send
from ext_proc.evidence.versions import EvidenceError
from tests.fakes.raw_server import raw_server
from tests.fakes.recorded import NOON, Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOW = NOON + 10 * HOUR


class Kept:
    """A place that keeps; ``failing``: how many times it does not."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.failing = 0

    def take(self, name: str, events: Sequence[dict[str, Any]]) -> None:
        if self.failing:
            self.failing -= 1
            raise EvidenceError("away")
        self.names.append(name)
        self.events += events

    @property
    def uids(self) -> list[str]:
        return [event["metadata"]["uid"] for event in self.events]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded.at(tmp_path)


def _cursor(tmp_path: Path, since: datetime = NOON - HOUR) -> Cursor:
    return Cursor.load(tmp_path / "cursor", since)


def test_each_event_once_and_on_where_it_stopped(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(), Kept()
    log.exchange("one", NOON)
    log.seal()
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 1
    assert place.uids == [f"{log.origin}#2"]
    assert send(recorded.store, _cursor(tmp_path), place, NOW).objects == 0
    log.exchange("two", NOON + HOUR)
    log.seal()
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 1
    assert place.uids == [f"{log.origin}#2", f"{log.origin}#4"]


def test_log_that_comes_late_is_not_left_out(recorded: Recorded, tmp_path: Path) -> None:
    """A replica without a way to the store ships what is older than what was sent already."""
    early, place = recorded.log("gw-1-0", salt="bbbbbbbb"), Kept()
    late = recorded.log("gw-0-0")
    early.exchange("new", NOON + 5 * HOUR)
    early.seal()
    send(recorded.store, _cursor(tmp_path), place, NOW)
    late.exchange("old", NOON)
    late.seal()
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 1
    assert [event["metadata"]["correlation_uid"] for event in place.events] == ["new", "old"]


def test_clock_that_was_put_back_leaves_nothing_out(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(), Kept()
    log.exchange("one", NOON + 3 * HOUR)
    log.seal()
    log.exchange("two", NOON + HOUR)  # a later object in an earlier hour
    log.seal()
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 2
    assert [event["metadata"]["correlation_uid"] for event in place.events] == ["one", "two"]


def test_place_that_does_not_take_it_is_asked_again(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(), Kept()
    for number in range(3):
        log.exchange(f"e{number}", NOON + timedelta(minutes=number))
        log.seal()
    place.failing = 1
    with pytest.raises(EvidenceError, match="away"):
        send(recorded.store, _cursor(tmp_path), place, NOW)
    assert place.events == []
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 3
    assert len(set(place.uids)) == 3


def test_crash_between_sending_and_remembering_sends_again(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, place = recorded.log(), Kept()
    log.exchange("one", NOON)
    log.seal()
    cursor = _cursor(tmp_path)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Cursor, "_save", crash)
        with pytest.raises(KeyboardInterrupt):
            send(recorded.store, cursor, place, NOW)
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 1
    assert place.uids == [f"{log.origin}#2"] * 2
    assert len(set(place.names)) == 1  # a bucket has it once


def test_object_that_is_damaged_stops_its_log_and_no_other(recorded: Recorded, tmp_path: Path) -> None:
    log, other, place = recorded.log(), recorded.log("gw-1-0", salt="bbbbbbbb"), Kept()
    log.exchange("one", NOON)
    log.seal()
    log.exchange("two", NOON)
    spoilt = log.seal()
    log.exchange("three", NOON)
    log.seal()
    other.exchange("other", NOON)
    other.seal()
    index = next(number for number, (key, _, _) in enumerate(recorded.store.puts) if key == spoilt)
    good = recorded.store.puts[index]
    recorded.store.puts[index] = (spoilt, b"spoilt", good[2])
    made = send(recorded.store, _cursor(tmp_path), place, NOW)
    assert [event["metadata"]["correlation_uid"] for event in place.events] == ["one", "other"]
    assert len(made.problems) == 1 and spoilt in made.problems[0] and "affidavit verify" in made.problems[0]
    recorded.store.puts[index] = good
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 2
    assert sorted(place.uids) == sorted(set(place.uids))


def test_records_that_are_missing_are_waited_for(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(), Kept()
    log.exchange("one", NOON)
    log.seal()
    send(recorded.store, _cursor(tmp_path), place, NOW)
    log.exchange("two", NOON)
    gone = log.seal()
    log.exchange("three", NOON)
    log.seal()
    index = next(number for number, (key, _, _) in enumerate(recorded.store.puts) if key == gone)
    put = recorded.store.puts.pop(index)
    made = send(recorded.store, _cursor(tmp_path), place, NOW)
    assert made.events == 0 and "are missing" in made.problems[0]
    recorded.store.puts.append(put)
    assert send(recorded.store, _cursor(tmp_path), place, NOW).events == 2


def test_what_lay_there_before_is_not_sent(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(at=NOON - 30 * HOUR), Kept()
    log.exchange("old", NOON - 30 * HOUR)
    log.seal()
    log.exchange("new", NOON)
    log.seal()
    send(recorded.store, _cursor(tmp_path), place, NOW)
    assert [event["metadata"]["correlation_uid"] for event in place.events] == ["new"]


def test_logs_that_ended_long_ago_are_forgotten(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(), Kept()
    log.exchange("one", NOON)
    log.add("log.close", NOON, {"leaves": 4})
    log.seal()
    send(recorded.store, _cursor(tmp_path), place, NOW)
    assert len(_cursor(tmp_path).following) == 1
    later = recorded.log("gw-2-0", at=NOON + 9 * DAY, salt="cccccccc")
    later.exchange("two", NOON + 9 * DAY)
    later.seal()
    assert send(recorded.store, _cursor(tmp_path), place, NOON + 9 * DAY + HOUR).events == 1
    assert [name.replica for name in _cursor(tmp_path).following] == ["gw-2-0"]
    assert send(recorded.store, _cursor(tmp_path), place, NOON + 9 * DAY + 2 * HOUR).events == 0


def _told(place: Kept) -> list[str]:
    return [event["metadata"]["correlation_uid"] for event in place.events]


def test_one_who_was_away_for_weeks_leaves_nothing_out(recorded: Recorded, tmp_path: Path) -> None:
    """The log that was followed, and one that was born and ended meanwhile."""
    log, place = recorded.log(), Kept()
    log.exchange("day0", NOON)
    log.seal()
    send(recorded.store, _cursor(tmp_path), place, NOON + HOUR)
    other = recorded.log("gw-1-0", at=NOON + 3 * DAY, salt="bbbbbbbb")
    other.exchange("other", NOON + 3 * DAY)
    other.add("log.close", NOON + 3 * DAY, {"leaves": 4})
    other.seal()
    for day in range(1, 21):
        log.exchange(f"day{day}", NOON + day * DAY)
        log.seal()
    made = send(recorded.store, _cursor(tmp_path), place, NOON + 20 * DAY + HOUR)
    assert made.problems == []
    assert sorted(_told(place)) == sorted(["other", *(f"day{day}" for day in range(21))])
    assert send(recorded.store, _cursor(tmp_path), place, NOON + 20 * DAY + 2 * HOUR).events == 0


@pytest.mark.parametrize("first", [True, False])
def test_log_that_is_stuck_is_stuck_until_it_is_mended(recorded: Recorded, tmp_path: Path, *, first: bool) -> None:
    """Also where it is the first object of its log."""
    log, place = recorded.log(), Kept()
    if not first:
        log.exchange("day0", NOON)
        log.seal()
        send(recorded.store, _cursor(tmp_path), place, NOON + HOUR)
    log.exchange("damaged", NOON + 2 * HOUR)
    index, good = _spoil(recorded, log.seal())
    before = _told(place)
    for day in range(1, 15):
        log.exchange(f"day{day}", NOON + day * DAY)
        log.seal()
        made = send(recorded.store, _cursor(tmp_path), place, NOON + day * DAY + HOUR)
        assert len(made.problems) == 1 and _told(place) == before
    recorded.store.puts[index] = good
    assert send(recorded.store, _cursor(tmp_path), place, NOON + 15 * DAY).events == 15
    assert send(recorded.store, _cursor(tmp_path), place, NOON + 16 * DAY).problems == []


def _spoil(recorded: Recorded, key: str) -> tuple[int, tuple[Any, ...]]:
    index = next(number for number, (name, _, _) in enumerate(recorded.store.puts) if name == key)
    good = recorded.store.puts[index]
    recorded.store.puts[index] = (key, b"spoilt", good[2])
    return index, good


def test_first_object_that_is_gone_is_told_of(recorded: Recorded, tmp_path: Path) -> None:
    log, place = recorded.log(), Kept()
    gone = log.seal()
    log.exchange("one", NOON)
    log.seal()
    recorded.store.puts[:] = [one for one in recorded.store.puts if one[0] != gone]
    for hour in (1, 2, 30 * 24):
        made = send(recorded.store, _cursor(tmp_path), place, NOON + hour * HOUR)
        assert made.events == 0 and "the records from 0 on are missing" in made.problems[0]


def test_log_without_an_end_is_told_of_once_and_taken_up_again(recorded: Recorded, tmp_path: Path) -> None:
    """Its replica was cut off for weeks: what it ships then lies far back."""
    log, other, place = recorded.log(), recorded.log("gw-1-0", salt="bbbbbbbb"), Kept()
    for one in (log, other):
        one.exchange(f"{one.replica} 0", NOON)
        one.seal()
    for day in (0, 10, 29, 31, 33, 50):
        if day:
            other.exchange(f"{other.replica} {day}", NOON + day * DAY)
            other.seal()
        made = send(recorded.store, _cursor(tmp_path), place, NOON + day * DAY + HOUR)
        assert [log.replica in one and "has no end" in one for one in made.problems] == [True] * (day == 31)
    log.exchange("far back", NOON + DAY)
    log.seal()
    log.exchange("now", NOON + 51 * DAY)
    log.seal()
    made = send(recorded.store, _cursor(tmp_path), place, NOON + 51 * DAY + HOUR)
    assert "are missing" in made.problems[0]  # seen by what lies in the window ...
    made = send(recorded.store, _cursor(tmp_path), place, NOON + 51 * DAY + 2 * HOUR)
    assert made.problems == [] and _told(place)[-2:] == ["far back", "now"]  # ... and looked for from then on


@pytest.mark.parametrize("spoilt", ["sequence", "origin", "replica"])
def test_object_of_somebody_elses_does_not_blind_a_log(recorded: Recorded, tmp_path: Path, spoilt: str) -> None:
    """A key that claims a million records: it moved the number on, and what came then counted as sent."""
    log, place = recorded.log(), Kept()
    log.exchange("one", NOON)
    log.seal()
    send(recorded.store, _cursor(tmp_path), place, NOON + HOUR)
    first, count = len(log.leaves), 1000
    told = {
        "sequence": lambda number: (log.origin, 0 if number else first),
        "origin": lambda number: ("", first + number),
        "replica": lambda number: (log.origin.replace(log.replica, "gw-9-0"), first + number),
    }[spoilt]
    lines = []
    for number in range(count):
        origin, sequence = told(number)
        lines.append(json.dumps({"kind": "heartbeat", "origin": origin, "sequence": sequence, "at": ""}) + "\n")
    place_of_it = f"dt=2026-11-25/hour=12/replica={log.replica}/epoch={log.epoch}"
    key = f"v1/events/{place_of_it}/{first:016d}-{first + count - 1:016d}-0000000000000000.jsonl.zst"
    recorded.store.put(key, zstandard.compress("".join(lines).encode()))
    made = send(recorded.store, _cursor(tmp_path), place, NOON + HOUR)
    assert made.events == 0 and [key in one for one in made.problems] == [True]
    log.exchange("two", NOON + HOUR)
    log.seal()
    made = send(recorded.store, _cursor(tmp_path), place, NOON + 2 * HOUR)
    assert _told(place) == ["one", "two"]
    assert [key in one for one in made.problems] == [True]  # it lies there still


def test_cursor_of_before_and_days_that_there_are_not(tmp_path: Path) -> None:
    """A key may name the 31st of February; a file of an earlier version names no state."""
    logs = {"gw-0-0/e": [3, "2026-02-31"], "gw-1-0/e": [5, "2026-11-25", "stuck"]}
    told = {"schema": "affidavit/siem-cursor/v1", "since": "2026-11-01T00:00:00+00:00", "logs": logs}
    (tmp_path / "cursor").write_text(json.dumps(told))
    cursor = _cursor(tmp_path)
    assert [one.next for one in cursor.following.values()] == [3, 5]
    assert cursor.begins(NOON) == cursor.since
    cursor.looked_at = NOON + 30 * DAY
    assert cursor.begins(NOON + 30 * DAY) == datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"schema": "other"}', '{"schema": "affidavit/siem-cursor/v1", "logs": []}']
)
def test_cursor_that_cannot_be_read_sends_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursor").write_text(text)
    with pytest.raises(EvidenceError, match="not a cursor"):
        _cursor(tmp_path)


# Places ------------------------------------------------------------------------------------------------------------


def _event(number: int) -> dict[str, Any]:
    return {"metadata": {"uid": f"log#{number}"}}


def test_a_file(tmp_path: Path) -> None:
    place = places.FileSink(tmp_path / "events.jsonl")
    place.take("a", [_event(1), _event(2)])
    (tmp_path / "events.jsonl").rename(tmp_path / "events.1")  # rotated
    place.take("b", [_event(3)])
    assert [json.loads(line) for line in (tmp_path / "events.1").read_text().splitlines()] == [_event(1), _event(2)]
    assert json.loads((tmp_path / "events.jsonl").read_text()) == _event(3)
    with pytest.raises(EvidenceError, match="No such file"):
        places.FileSink(tmp_path / "none" / "events").take("a", [_event(1)])


def test_a_file_that_ends_within_a_line(tmp_path: Path) -> None:
    """After a crash: what comes next begins a line of its own."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"metadata":{"uid":"log#1"},"act')
    places.FileSink(path).take("a", [_event(1), _event(2)])
    assert [json.loads(line) for line in path.read_text().splitlines()[1:]] == [_event(1), _event(2)]


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path) -> None:
    """The limit of a file's size stands for the disk: both write what still goes, and then fail."""
    path = tmp_path / "events.jsonl"
    place = places.FileSink(path)
    place.take("a", [_event(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(EvidenceError, match="File too large"):
            place.take("b", [_event(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert json.loads(path.read_text()) == _event(1)
    place.take("b", [_event(2)])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [_event(1), _event(2)]


class Siem:
    """An HTTP server that answers as told, one status after the other; the last stays."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked: list[tuple[dict[str, str], list[dict[str, Any]]]] = []
        self.port = 0


@contextmanager
def _siem(*statuses: int, headers: tuple[tuple[str, str], ...] = ()) -> Iterator[Siem]:
    told = Siem(*statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            lines = [json.loads(line) for line in body.splitlines()]
            told.asked.append(({name.lower(): value for name, value in self.headers.items()}, lines))
            self.send_response(told.statuses.pop(0) if len(told.statuses) > 1 else told.statuses[0])
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.port = server.server_address[1]
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


def _http(siem: Siem, pauses: list[float]) -> places.HttpSink:
    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    return places.HttpSink(f"http://127.0.0.1:{siem.port}/in", {"authorization": "Splunk key"}, pause)


def test_http_sends_in_batches_with_a_key_each() -> None:
    with _siem(200) as siem:
        _http(siem, []).take("2026-11-25/log-0", [_event(number) for number in range(places.AT_ONCE + 1)])
    assert [len(lines) for _, lines in siem.asked] == [places.AT_ONCE, 1]
    assert [head["idempotency-key"] for head, _ in siem.asked] == ["2026-11-25/log-0-0", "2026-11-25/log-0-500"]
    assert siem.asked[0][0]["authorization"] == "Splunk key"
    assert siem.asked[0][0]["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_http_tries_again_what_passes(status: int) -> None:
    pauses: list[float] = []
    with _siem(status, status, 200) as siem:
        _http(siem, pauses).take("a", [_event(1)])
    assert len(siem.asked) == 3
    assert pauses == [1.0, 2.0]


def test_http_waits_as_long_as_it_is_asked_to() -> None:
    pauses: list[float] = []
    with _siem(429, 200, headers=(("retry-after", "7"),)) as siem:
        _http(siem, pauses).take("a", [_event(1)])
    assert pauses == [7.0]


@pytest.mark.parametrize("status", [400, 401, 403, 413, 302])
def test_http_does_not_try_again_what_stays(status: int) -> None:
    pauses: list[float] = []
    told = (("location", "/elsewhere"),)
    with _siem(status, headers=told) as siem, pytest.raises(EvidenceError, match=f"status {status}"):
        _http(siem, pauses).take("a", [_event(1)])
    assert len(siem.asked) == 1 and pauses == []


def test_http_gives_up_in_the_end() -> None:
    pauses: list[float] = []
    with _siem(503) as siem, pytest.raises(EvidenceError, match="status 503"):
        _http(siem, pauses).take("a", [_event(1)])
    assert len(siem.asked) == places.ATTEMPTS and len(pauses) == places.ATTEMPTS - 1


def test_http_that_is_away(tmp_path: Path) -> None:
    with _siem(200) as siem:
        pass
    with pytest.raises(EvidenceError, match="ConnectionRefusedError"):
        _http(siem, []).take("a", [_event(1)])


@pytest.mark.parametrize("said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"x"], ids=["interim answers", "a header"])
def test_http_that_drips_is_no_answer(said: bytes) -> None:
    """And the rounds go on, and can be ended. (By socket time-outs alone this test never ends.)"""

    def drip() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nx-a: " if said == b"x" else said
        while True:
            yield said
            time.sleep(0.01)

    with raw_server(drip) as (url, heard):
        place = places.HttpSink(url, {}, lambda _: False, deadline_seconds=0.3)
        with pytest.raises(EvidenceError, match="TimeoutError"):
            place.take("a", [_event(1)])
    assert len(heard) == places.ATTEMPTS


def test_http_asks_no_proxy_of_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(lambda: iter(())) as (trap, trapped), _siem(200) as siem:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, trap)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        _http(siem, []).take("a", [_event(1)])
    assert (len(siem.asked), trapped) == (1, [])


@pytest.mark.parametrize("to", ["http://siem.example.com/in", "ftp://x/y", "s3://", "https://a:b@x/"])
def test_places_that_are_none(to: str) -> None:
    with pytest.raises(ConfigError, match="--to"):
        places.sink_of(to, {}, lambda _: False, None, {"region": "us-east-1"})


class Store:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, body: bytes, sha256: str) -> None:
        self.objects.setdefault(key, body)


def test_a_bucket_has_each_once() -> None:
    store = Store()
    place = places.BucketSink(store)  # type: ignore[arg-type]
    for _ in range(2):
        place.take("2026-11-25/gw-0-0-e-0000000000000001", [_event(1), _event(2)])
    [(key, body)] = store.objects.items()
    assert key == "dt=2026-11-25/gw-0-0-e-0000000000000001.jsonl.gz"
    assert [json.loads(line) for line in gzip.decompress(body).splitlines()] == [_event(1), _event(2)]


# The command -------------------------------------------------------------------------------------------------------


def test_the_command(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from ext_proc.cli import auditing

    log = recorded.log(at=datetime.now(UTC) - HOUR)
    log.exchange("one", datetime.now(UTC) - HOUR)
    log.seal()
    monkeypatch.setattr(auditing, "store", lambda _: recorded.store)
    command = ["export-siem", "s3://any", "--to", str(tmp_path / "out"), "--state", str(tmp_path / "cursor")]
    assert main(command) == 0
    assert "1 events of 1 objects sent" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 events" in capsys.readouterr().out
    [event] = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert event["class_uid"] == 6003
    assert main([*command[:3], str(tmp_path / "none" / "out"), *command[4:-1], str(tmp_path / "other")]) == 2
