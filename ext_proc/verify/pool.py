"""Two or more processes that read events objects and packs; results come back in the order of the tasks.

Only so many tasks are under way, so that memory does not grow with the log. Tasks carry names, results carry facts.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from ext_proc.verify.findings import VerifyError
from ext_proc.verify.leaves import Asked, LeafFacts, Reading
from ext_proc.verify.packs import PackFacts, digests_of, read_pack
from ext_proc.verify.shapes import Shapes
from ext_proc.verify.source import Absent, Lock, Source, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_AHEAD: Final = 4
_NAMED_MAX: Final = 20
_DIGESTS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Task:
    """One events object, its pack if there is one, and what to look for."""

    events: Version
    pack: Version | None
    asked: Asked
    is_pack_read: bool


@dataclass(slots=True)
class Done:
    """What a worker found. ``leaf`` is None if the events object is not there."""

    task: Task
    leaf: LeafFacts | None
    sha256: str
    size_bytes: int
    lock: Lock
    pack: PackFacts | None


def read_all(source: Source, tasks: Iterable[Task], jobs: int) -> Iterator[Done]:
    """Work through the tasks.

    Raises:
        VerifyError: something cannot be read, or a worker died.
    """
    if jobs <= 1:
        reader = _Reader(source)
        for task in tasks:
            yield reader.read(task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (source,)) as pool:
        waiting: deque[Future[Done]] = deque()
        left = iter(tasks)
        try:
            with _unbroken():
                waiting.extend(pool.submit(_work, task) for task in islice(left, jobs * _AHEAD))
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(_work, task) for task in islice(left, 1))
                yield done
        except BrokenProcessPool:
            raise VerifyError("a worker process died (out of memory?); try again with fewer jobs") from None
        except KeyboardInterrupt:
            waiting.clear()  # the workers are gone, too
            raise
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _unbroken() -> Iterator[None]:
    """Ctrl-C waits, here and in the processes that begin here, until `_begin` has said that they end without a word."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_reader: _Reader | None = None


def _begin(source: Source) -> None:
    global _reader  # noqa: PLW0603 - a worker process has one reader for its life
    _reader = _Reader(source)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _work(task: Task) -> Done:
    if _reader is None:
        raise VerifyError("a worker process was not set up")
    return _reader.read(task)


class _Reader:
    """Reads one task's objects after the other's; what it learns of their shapes it keeps."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._shapes = Shapes()

    def read(self, task: Task) -> Done:
        """One task."""
        try:
            with self._source.open(task.events) as opened:
                leaf = Reading(task.asked, self._shapes).run(opened)
                opened.drain()
        except Absent:
            return Done(task, None, "", 0, Lock(None, None), None)
        done = Done(task, leaf, opened.sha256, opened.size_bytes, opened.lock, None)
        if task.pack is not None:
            done.pack = self._pack(task, task.pack, leaf)
        return done

    def _pack(self, task: Task, pack: Version, leaf: LeafFacts) -> PackFacts:
        try:
            if not task.is_pack_read:
                return PackFacts(lock=self._source.lock(pack))
            with self._source.open(pack) as opened:
                facts = read_pack(opened)
        except Absent:
            return PackFacts(is_absent=True)
        if facts.payloads_sha256 != leaf.payloads_sha256:
            self._compare(task, pack, facts, leaf)
        return facts

    def _compare(self, task: Task, pack: Version, facts: PackFacts, leaf: LeafFacts) -> None:
        """Pack and leaves differ: read both again and name what is missing."""
        committed: set[str] = set()
        with self._source.open(task.events) as opened:
            Reading(task.asked, self._shapes, committed).run(opened)
        with self._source.open(pack) as opened:
            found = digests_of(opened, _DIGESTS_MAX)
        for one in sorted(committed - found)[:_NAMED_MAX]:
            what = f"The records commit to the ciphertext {one}; the pack has it not."
            facts.faults.append(("payload_missing", what))
        # Records that cannot be read name nothing. The fault is theirs, and told of: nobody added to the pack.
        is_whole = all(code != "object_unreadable" for code, _ in leaf.faults)
        for one in sorted(found - committed)[:_NAMED_MAX] if is_whole else ():
            facts.faults.append(("object_unexpected", f"The pack holds the ciphertext {one}, which no record names."))
        if committed == found:
            what = "The pack holds the right ciphertexts in another order than the log."
            facts.faults.append(("payload_changed", what))
