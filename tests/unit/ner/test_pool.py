"""`ext_proc.ner.pool`: a recogniser in a process of its own, and every way in which it can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import ConfigError, RecogniserUnavailable
from ext_proc.ner import Pool, Recipe
from tests.fakes.recogniser import MAKE, MAKE_NAUGHTY

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMED = "here is Ada Lovelace"
PATIENCE = 30.0


@pytest.fixture
def pools() -> Iterator[list[Pool]]:
    made: list[Pool] = []
    yield made
    for pool in made:
        pool.close()


def started(pools: list[Pool], **more: Any) -> Pool:
    pool = Pool(Recipe(MAKE_NAUGHTY), **({"deadline_seconds": 20.0} | more))
    pools.append(pool)
    pool.start()
    return pool


def failure(pool: Pool, text: str) -> str:
    with pytest.raises(RecogniserUnavailable) as told:
        pool.recognise([text])
    return told.value.detail


def until_up(pool: Pool, gone: list[int]) -> None:
    """A process that is not one of ``gone`` answers."""
    deadline = time.monotonic() + PATIENCE
    while set(pool.pids()) <= set(gone):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(pool.recognise([NAMED])[0]) == 1


def test_it_answers_from_another_process(pools: list[Pool]) -> None:
    pool = started(pools)
    assert [(one.start, one.end, one.entity, one.rule) for one in pool.recognise([NAMED])[0]] == [
        (8, 20, "PERSON", "ner:custom")
    ]
    assert pool.version == "fake@1"
    assert os.getpid() not in pool.pids()


def test_only_what_is_wanted_is_told(pools: list[Pool]) -> None:
    pool = Pool(Recipe(MAKE, ("LOCATION",)), deadline_seconds=20)
    unsure = Pool(Recipe(MAKE, ("LOCATION",), score_min=0.95), deadline_seconds=20)
    for one in (pool, unsure):
        pools.append(one)
        one.start()
    assert [span.entity for span in pool.recognise(["Ada Lovelace in Paris"])[0]] == ["LOCATION"]
    assert unsure.recognise(["Ada Lovelace in Paris"]) == [[]]


def test_one_that_dies_is_told_and_started_again(pools: list[Pool]) -> None:
    pool = started(pools)
    gone = pool.pids()
    assert failure(pool, "now DIE") == "dead"
    assert pool.pids() == [] or pool.pids() != gone
    until_up(pool, gone)


def test_one_that_is_killed_while_nobody_asks_is_started_again(pools: list[Pool]) -> None:
    pool = started(pools)
    gone = pool.pids()
    os.kill(gone[0], signal.SIGKILL)
    until_up(pool, gone)


def test_while_none_is_up_nobody_waits(pools: list[Pool]) -> None:
    pool = started(pools, deadline_seconds=PATIENCE)
    failure(pool, "now DIE")
    begun = time.monotonic()
    if not pool.pids():  # else it came up faster than this test
        assert failure(pool, NAMED) == "dead"
        assert time.monotonic() - begun < PATIENCE / 2


def test_one_that_hangs_is_late_and_ended(pools: list[Pool]) -> None:
    pool = started(pools, deadline_seconds=0.3)
    gone = pool.pids()
    assert failure(pool, "now SLEEP") == "late"
    until_gone(gone[0])


def test_one_that_is_only_slow_is_late_and_stays(pools: list[Pool]) -> None:
    pool = started(pools, deadline_seconds=2.0)  # after twice as long it would be ended
    known = pool.pids()
    assert failure(pool, "take a NAP") == "late"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert len(pool.recognise([NAMED])[0]) == 1  # of this question, not of the one before
            break
        except RecogniserUnavailable:
            assert time.monotonic() < deadline
    assert pool.pids() == known


def test_more_than_can_wait_are_refused_at_once(pools: list[Pool]) -> None:
    pool = started(pools, deadline_seconds=3.0, waiting_max=1)
    told: list[str] = []

    def ask() -> None:
        try:
            pool.recognise(["now SLEEP"])
        except RecogniserUnavailable as error:
            told.append(error.detail)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(told) == 6
    assert told.count("busy") >= 4
    assert set(told) <= {"busy", "late", "dead"}


def test_what_it_raises_is_told_without_its_words(pools: list[Pool]) -> None:
    pool = started(pools)
    known = pool.pids()
    with pytest.raises(RecogniserUnavailable, match=r"^error$") as told:
        pool.recognise(["RAISE over Bob Smith"])
    assert "Bob" not in repr(told.value.__context__)
    assert pool.pids() == known
    assert len(pool.recognise([NAMED])[0]) == 1


GARBAGE = ["FAR", "NEGATIVE", "EMPTY", "FRACTION", "FLAG", "CERTAIN", "NAN", "OVERLAP", "DISORDER", "FORGET"]


@pytest.fixture(scope="module")
def naughty() -> Iterator[Pool]:
    pool = Pool(Recipe(MAKE_NAUGHTY), deadline_seconds=20.0, workers=2)
    pool.start()
    yield pool
    pool.close()


@pytest.mark.parametrize("how", GARBAGE)
def test_garbage_is_a_failure_never_an_empty_answer(naughty: Pool, how: str) -> None:
    known = naughty.pids()
    assert failure(naughty, f"{how} and more words") == "garbage"
    assert naughty.pids() == known  # a caller who finds such words must not have it started again and again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"refuse": 1}, "redaction.ner.options.refuse: not today"),
        ({"die": 1}, "redaction.ner.adapter: its process ends before it has loaded"),
        ({"raise": 1}, "redaction.ner.adapter: it fails to load (RuntimeError: no weights here)"),
        ({"version": "two words"}, "redaction.ner.adapter: its version must be"),
    ],
)
def test_one_that_cannot_be_made_keeps_the_gate_from_starting(
    pools: list[Pool], options: dict[str, Any], said: str
) -> None:
    pool = Pool(Recipe(MAKE_NAUGHTY, options=options))
    pools.append(pool)
    with pytest.raises(ConfigError) as told:
        pool.start()
    assert told.value.detail.startswith(said)
    assert pool.pids() == []


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("no_such_package.module:make"), "adapter: there is no module no_such_package"),
        (Recipe("tests.fakes.recogniser:nothing"), "adapter: there is no nothing in tests.fakes.recogniser"),
        (Recipe(MAKE, ("PERSON", "FISH")), "entities: FISH is not among what it finds (LOCATION, PERSON)"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(pools: list[Pool], recipe: Recipe, said: str) -> None:
    pool = Pool(recipe)
    pools.append(pool)
    with pytest.raises(ConfigError, match=r"^redaction\.ner\.") as told:
        pool.start()
    assert said in told.value.detail


def test_after_the_end_nothing_is_found_and_nothing_is_left(pools: list[Pool]) -> None:
    pool = started(pools, workers=2)
    pids = pool.pids()
    pool.close()
    assert failure(pool, NAMED) == "dead"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_its_processes_end_with_the_gate() -> None:
    """However that ends: they read from a line that is gone."""
    script = f"""
import sys, time
from ext_proc.ner import Pool, Recipe
pool = Pool(Recipe({MAKE!r})); pool.start()
print(*pool.pids(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as gate:
        assert gate.stdout is not None
        [pid] = map(int, gate.stdout.readline().split())
        os.kill(pid, 0)
        gate.kill()
    until_gone(pid)


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Is there such a process, that is not only waited for?"""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as told:  # noqa: PTH123 - a line of /proc
            return told.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_gates_own_process_never_loads_a_recogniser() -> None:
    script = """
import sys
import ext_proc.app.serving.worker, ext_proc.ner
bad = [name for name in sys.modules if name.partition(".")[0] in ("spacy", "presidio_analyzer", "tldextract")]
bad += [name for name in sys.modules if name.startswith("ext_proc.ner.") and "adapter" in name]
raise SystemExit(str(bad) if bad else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
