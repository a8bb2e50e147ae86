"""A real OPA that is killed, runs away or runs out of memory: nobody passes, and the same adapter is well again after."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import PolicyUnavailable
from ext_proc.policy.opa import OpaPolicy
from tests.fakes.asked import POLICY, build
from tests.fakes.policy import RealOpa, a_call, opa_program

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = 3 << 30
"""Address space: Go alone reserves more than one of it."""
HUNGRY = (
    POLICY
    + """
reasons contains "never" if {
	input.request.body_bytes > 1000
	megabyte := sprintf("%01000000d", [0])
	count(concat("", [megabyte | some _ in numbers.range(1, input.request.body_bytes)])) == 0
}

reasons contains "never" if {
	input.request.text_bytes > 1000
	sum(numbers.range(1, 1000000000)) == 0
}
"""
)
GREEDY = replace(a_call(), body_bytes=20_000)
"""Asked about it, the policy makes a text of 20 GB."""
SLOW = replace(a_call(), inspection=replace(a_call().inspection, text_bytes=5_000))
"""Asked about it, the policy counts to a billion."""


class Restarted:
    """OPA with that policy and so much memory, started again at the same socket as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "opa.sock"
        self.file, self.version = build(folder / "policy", HUNGRY)
        self.start()

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        command = [
            *("prlimit", f"--as={MEMORY}", str(opa_program()), "run", "--server", "--addr", f"unix://{self.socket}"),
            *("--skip-version-check", "--log-level", "error", "--bundle", str(self.file)),
        ]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.opa = RealOpa(process, Path("/nowhere-at-all"), self.socket, self.file)
        deadline = time.monotonic() + 30
        while self.opa.request("GET", "/health")[0] != 200:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    def died(self, seconds: float = 60) -> str:
        """It ended; what it said."""
        self.opa.process.wait(seconds)
        return (self.folder / "log").read_text()


@contextmanager
def restarted() -> Iterator[Restarted]:
    folder = Path(tempfile.mkdtemp(prefix="aff-fault-", dir="/tmp"))
    made = Restarted(folder)
    try:
        yield made
    finally:
        made.opa.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.asyncio
async def test_out_of_memory_and_back() -> None:
    with restarted() as opa:
        policy = OpaPolicy(opa.socket, "inference", "decision", opa.file, 60.0)
        await policy.start()
        try:
            assert (await policy.decide(a_call())).allow
            with pytest.raises(PolicyUnavailable):
                await policy.decide(GREEDY)
            assert "out of memory" in await asyncio.to_thread(opa.died)
            assert not await policy.is_ready()
            with pytest.raises(PolicyUnavailable):
                await policy.decide(a_call())
            assert await policy.active() == opa.version, "what it last said, for whoever asks what decided"
            await asyncio.to_thread(opa.start)
            assert (await policy.decide(a_call())).allow
        finally:
            await policy.close()


@pytest.mark.asyncio
async def test_killed_in_the_middle_of_a_question_and_back() -> None:
    with restarted() as opa:
        policy = OpaPolicy(opa.socket, "inference", "decision", opa.file, 60.0)
        await policy.start()
        try:
            assert (await policy.decide(a_call())).allow
            asked = asyncio.ensure_future(policy.decide(SLOW))
            await asyncio.sleep(0.05)
            opa.opa.process.kill()
            with pytest.raises(PolicyUnavailable):
                await asked
            await asyncio.to_thread(opa.died)
            await asyncio.to_thread(opa.start)
            assert (await policy.decide(a_call())).allow
        finally:
            await policy.close()


@pytest.mark.asyncio
async def test_a_rule_that_runs_away_is_late_and_no_yes() -> None:
    with restarted() as opa:
        policy = OpaPolicy(opa.socket, "inference", "decision", opa.file, 0.5)
        await policy.start()
        try:
            with pytest.raises(PolicyUnavailable, match="deadline"):
                await policy.decide(SLOW)
            opa.opa.process.kill()
            await asyncio.to_thread(opa.died)
            await asyncio.to_thread(opa.start)
            assert await _is_well(policy)
        finally:
            await policy.close()


async def _is_well(policy: OpaPolicy) -> bool:
    """Within its short time: a busy machine may be late itself for a while."""
    for _ in range(100):
        with suppress(PolicyUnavailable):
            return (await policy.decide(a_call())).allow
        await asyncio.sleep(0.1)
    return False
