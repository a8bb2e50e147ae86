"""The recogniser's processes: asked within a deadline, started again when they die, never waited for without an end.

One thread of ours for each process. A question that comes too late is answered with ``late`` at once; the process has
as much time again to come to its senses, and is ended then.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from ext_proc import telemetry
from ext_proc.errors import ConfigError, RecogniserUnavailable
from ext_proc.ner.helper import START_SECONDS, Helper
from ext_proc.ner.recogniser import BadRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ext_proc.model import Span
    from ext_proc.ner.recogniser import Recipe

BATCH_CHARACTERS: Final = 8192
"""So much is asked of a process at a time: between two batches it is seen that nobody waits any more."""
WAITING_MAX: Final = 16
"""Questions that wait for a process; more are refused at once."""
_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 30.0
_LOOK_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 10.0

_log = telemetry.logger()


@dataclass(slots=True)
class _Question:
    texts: Sequence[str]
    until: float
    answer: Future[list[list[Span]]] = field(default_factory=Future)


class Pool:
    """A recogniser that may be asked from any thread. See the module.

    Args:
        recipe: what its processes are made of.
        workers: how many.
        deadline_seconds: for each question.
        waiting_max: questions that wait.
    """

    def __init__(
        self, recipe: Recipe, *, workers: int = 1, deadline_seconds: float = 2.0, waiting_max: int = WAITING_MAX
    ) -> None:
        self._recipe = recipe
        self._workers = workers
        self._deadline_seconds = deadline_seconds
        self._questions: queue.Queue[_Question] = queue.Queue(waiting_max)
        self._is_closing = threading.Event()
        self._lock = threading.Lock()
        self._helpers: dict[int, Helper] = {}  # those that are up, by the number of their thread
        self._threads: list[threading.Thread] = []
        self.entities = frozenset(recipe.entities)
        self.version = ""

    def start(self) -> None:
        """Start the processes; back when all of them have loaded.

        Raises:
            ConfigError: the recogniser cannot be made.
        """
        try:
            for number in range(self._workers):
                self._up(number, _started(self._recipe))
        except ConfigError:
            self.close()
            raise
        for number in range(self._workers):
            thread = threading.Thread(target=self._tend, args=(number,), name=f"ner-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def recognise(self, texts: Sequence[str]) -> list[list[Span]]:
        """See `Recogniser.recognise`.

        Raises:
            RecogniserUnavailable: see `errors.RECOGNISER_FAILURES`.
        """
        if not texts:
            return []
        if not self._helpers or self._is_closing.is_set():
            raise RecogniserUnavailable("dead")
        question = _Question(texts, monotonic() + self._deadline_seconds)
        try:
            self._questions.put_nowait(question)
        except queue.Full:
            raise RecogniserUnavailable("busy") from None
        try:
            return question.answer.result(self._deadline_seconds)
        except TimeoutError:
            question.answer.cancel()
            raise RecogniserUnavailable("late") from None

    def pids(self) -> list[int]:
        """Of the processes that are up."""
        with self._lock:
            return [helper.pid for helper in self._helpers.values()]

    def close(self) -> None:
        """End the processes. Whoever waits is told."""
        self._is_closing.set()
        for thread in self._threads:
            thread.join(_CLOSE_SECONDS)
        for number in list(self._helpers):
            self._down(number)
        self._refuse_waiting()

    # In the threads ------------------------------------------------------------------------------------------------

    def _tend(self, number: int) -> None:
        """Keep one process up, and give it work."""
        failures = 0
        while not self._is_closing.is_set():
            helper = self._helpers.get(number)
            if helper is None:
                if self._is_closing.wait(min(_PAUSE_SECONDS * 2 ** max(failures - 1, 0), _PAUSE_SECONDS_MAX)):
                    return
                failures = 0 if self._restarted(number) else failures + 1
                continue
            try:
                question = self._questions.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if helper.has_ended:  # killed while nobody asked: the next one who does shall not be told so
                    self._lost(number, "dead")
                continue
            if question.answer.set_running_or_notify_cancel():
                self._answer(number, helper, question)

    def _restarted(self, number: int) -> bool:
        try:
            self._up(number, _started(self._recipe))
        except ConfigError as error:
            _log.error("recogniser does not start", why=error.detail)
            return False
        except OSError as error:
            _log.error("recogniser does not start", why=error.strerror)
            return False
        _log.info("recogniser is up again")
        return True

    def _answer(self, number: int, helper: Helper, question: _Question) -> None:
        found: list[list[Span]] = []
        try:
            for batch in _batches(question.texts):
                if monotonic() >= question.until:
                    raise RecogniserUnavailable("late")
                found += helper.recognise(batch, max(question.until - monotonic(), 0.0) + self._deadline_seconds)
            question.answer.set_result(found)
        except RecogniserUnavailable as error:
            if error.detail == "dead":
                self._lost(number, error.detail)
            question.answer.set_exception(error)
        except TimeoutError:
            self._lost(number, "late")
            question.answer.set_exception(RecogniserUnavailable("late"))
        except Exception as bug:  # noqa: BLE001 - the outermost frame of a thread: whoever waits must be told
            _log.error("recogniser: a bug", bug=type(bug).__name__)
            self._lost(number, "error")
            question.answer.set_exception(RecogniserUnavailable("error"))

    def _lost(self, number: int, why: str) -> None:
        """The process is of no use any more."""
        _log.warning("recogniser's process is ended", why=why)
        self._down(number)
        if not self._helpers:
            self._refuse_waiting()

    def _up(self, number: int, helper: Helper) -> None:
        with self._lock:
            self._helpers[number] = helper
            self.version = helper.version

    def _down(self, number: int) -> None:
        with self._lock:
            helper = self._helpers.pop(number, None)
        if helper is not None:
            helper.end()

    def _refuse_waiting(self) -> None:
        while True:
            try:
                question = self._questions.get_nowait()
            except queue.Empty:
                return
            if question.answer.set_running_or_notify_cancel():
                question.answer.set_exception(RecogniserUnavailable("dead"))


def try_out(recipe: Recipe) -> None:
    """Load the recogniser once, and let go of it.

    Raises:
        ConfigError: it cannot be made.
    """
    _started(recipe).end()


def _started(recipe: Recipe) -> Helper:
    try:
        return Helper.started(recipe)
    except BadRecipe as bad:
        raise ConfigError(f"redaction.ner.{bad}") from None
    except RecogniserUnavailable:
        raise ConfigError("redaction.ner.adapter: its process ends before it has loaded") from None
    except TimeoutError:
        raise ConfigError(f"redaction.ner.adapter: it has not loaded within {START_SECONDS:.0f} seconds") from None


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    yield batch
