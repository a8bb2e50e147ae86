"""One process of a recogniser, as the gate holds it: started, asked, ended."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import RecogniserUnavailable
from ext_proc.ner import wire
from ext_proc.ner.recogniser import VERSION, BadRecipe, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import Span
    from ext_proc.ner.recogniser import Recipe

START_SECONDS: Final = 120.0
"""Time to load a model: the small ones take two seconds, on a cold disk eight."""
_END_SECONDS: Final = 5.0
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ENVIRONMENT: Final = {
    # One thread each: several processes are how work is spread. And nothing is fetched from anywhere.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"),
}


class Helper:
    """A process that runs. Made by `started`.

    Args:
        process: it.
        line: our end.
        recipe: what it was started with.
    """

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, recipe: Recipe) -> None:
        self._process = process
        self._line = line
        self._recipe = recipe
        self.version = ""

    @classmethod
    def started(cls, recipe: Recipe) -> Helper:
        """A process that has loaded its recogniser.

        Raises:
            BadRecipe: it cannot.
            RecogniserUnavailable: it died, or takes for ever (``dead``).
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ext_proc.ner.child", str(theirs.fileno())],
                env={
                    **os.environ,
                    **_ENVIRONMENT,
                    "PYTHONPATH": os.pathsep.join(one or "." for one in sys.path),
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        helper = cls(process, ours, recipe)
        try:
            helper._greet()
        except BaseException:
            helper.end()
            raise
        return helper

    def _greet(self) -> None:
        recipe = self._recipe
        told = {
            "adapter": recipe.adapter,
            "entities": recipe.entities,
            "score_min": recipe.score_min,
            "options": dict(recipe.options),
        }
        said = self._asked(told, START_SECONDS)
        if "refused" in said:
            raise BadRecipe(str(said["refused"]))
        version = said.get("version")
        if not isinstance(version, str) or not VERSION.fullmatch(version):
            raise RecogniserUnavailable("dead")
        self.version = version

    def recognise(self, texts: Sequence[str], within_seconds: float) -> list[list[Span]]:
        """What it finds.

        Raises:
            RecogniserUnavailable: ``dead``; or ``garbage`` or ``error``, and it goes on.
            TimeoutError: no answer yet; there can be no other question.
        """
        # A half of a pair is no character: what stands for it takes as much room.
        said = self._asked([_SURROGATE.sub("\ufffd", text) for text in texts], within_seconds)
        if "failed" in said:
            raise RecogniserUnavailable("error")
        return checked(said.get("found"), texts, self._recipe)

    def _asked(self, question: Any, within_seconds: float) -> dict[str, Any]:
        self._line.settimeout(within_seconds)
        try:
            wire.send(self._line, question)
            said = wire.receive(self._line)
        except wire.Broken:
            raise RecogniserUnavailable("dead") from None
        if not isinstance(said, dict):  # not ours: nobody knows what comes next on this line
            raise RecogniserUnavailable("dead")
        return said

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Has it, of itself?"""
        return self._process.poll() is not None

    def end(self) -> None:
        """Let go, and make sure of it: one that is busy does not look up."""
        self._line.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
