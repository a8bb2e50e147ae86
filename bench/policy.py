"""What the gate adds to OPA, and what size adds to a decision; what a shadow costs. With the default policy.

 1. A decision through the gate's client (question, HTTP, answer read, payload made) beside the same bytes over the same
    Unix socket with nothing around them: at most 1.2 times as long, median to median.
 2. The default policy with 1,000 rules and 10,000 users of data beside the default: p99 under twice as long.
 3. The CPU time that a shadow policy costs the worker's process a call, and the candidate's OPA.

Everything is asked in turns, one by one, and told as the median of the rounds' ratios: what else the machine does meets
all alike. ``python -m bench.policy`` prints it and writes ``bench/out/policy.json``; ``--check`` ends with status 1 if
a bound is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, process_time, sleep
from typing import TYPE_CHECKING, Any, Final

import uvloop
from rich.console import Console

from ext_proc.app.exchange.shadow import ShadowedPolicy
from ext_proc.policy import bundle
from ext_proc.policy.opa import OpaPolicy
from ext_proc.policy.question import question
from ext_proc.policy.trial.opa_program import find_opa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ext_proc.model import Call

OUT: Final = Path(__file__).parent / "out" / "policy.json"
SOURCES: Final = Path(__file__).parent.parent / "opa"
CLIENT_MAX: Final = 1.2
LARGE_MAX: Final = 2.0
RULES: Final = 1_000
USERS: Final = 10_000
_PATH: Final = "/v1/data/inference/decision?provenance=true&strict-builtin-errors=true"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
# The tests' own call: it has no types, and is not to be checked with what has.
_fakes: Final = import_module("tests.fakes.policy")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument("--questions", type=int, default=1_000, help="of each kind in a round (default: 1,000)")
    parser.add_argument("--rounds", type=int, default=5, help="medians are told (default: 5)")
    parser.add_argument("--check", action="store_true", help="end with status 1 if a bound is not kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aff-bench-", dir="/tmp") as name, ExitStack() as stack:
        opa, folder = find_opa(None), Path(name)
        plain = stack.enter_context(_serving(opa, folder / "plain", SOURCES))
        large = stack.enter_context(_serving(opa, folder / "large", _large(folder / "sources")))
        shadow = stack.enter_context(_serving(opa, folder / "shadow", SOURCES))
        found = uvloop.run(_measured(plain, large, shadow, options.questions, options.rounds))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    _show(found)
    return int(options.check and not (found["client_ratio"] <= CLIENT_MAX and found["large_p99_ratio"] < LARGE_MAX))


class _Running:
    """An OPA with a bundle."""

    def __init__(self, process: subprocess.Popen[bytes], at: Path, file: Path) -> None:
        self.process, self.at, self.file = process, at, file

    def policy(self) -> OpaPolicy:
        """The gate's client for it."""
        return OpaPolicy(self.at, "inference", "decision", self.file, 10.0)

    def cpu_seconds(self) -> float:
        """That it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def _serving(opa: Path, folder: Path, sources: Path) -> Iterator[_Running]:
    folder.mkdir()
    file, at = folder / "bundle.tar.gz", folder / "s"
    bundle.build(opa, sources, file)
    command = [
        *(str(opa), "run", "--server", "--addr", f"unix://{at}", "--unix-socket-perm", "600", "--skip-version-check"),
        *("--authorization", "basic", "--log-level", "error", "--bundle", str(file)),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = monotonic() + 60
        while not at.exists():
            if process.poll() is not None or monotonic() > until:
                raise SystemExit((folder / "log").read_text())
            sleep(0.05)
        yield _Running(process, at, file)
    finally:
        process.terminate()
        process.wait(10)


def _large(folder: Path) -> Path:
    """The default policy, a concern with a rule for each of 1,000 models, and one that knows 10,000 users."""
    shutil.copytree(SOURCES, folder)
    told = json.loads((folder / "data.json").read_text())
    told["inference"]["people"] = {
        f"user-{number:05}": {"department": f"d{number % 40}", "level": number % 5, "projects": [f"p{number % 300}"]}
        for number in range(USERS)
    } | {"ada": {"department": "d1", "level": 4, "projects": ["p1"]}}
    (folder / "data.json").write_text(json.dumps(told))
    rules = "".join(
        f'reasons contains "model_{number}_not_for_level" if {{\n'
        f'\tinput.request.model == "model-{number}"\n'
        f"\tnot _level >= {number % 5}\n}}\n\n"
        for number in range(RULES)
    )
    concern = folder / "inference" / "concerns" / "people"
    concern.mkdir()
    (concern / "people.rego").write_text(
        "package inference.concerns.people\n\n"
        "default allow := false\n\n"
        "allow if data.inference.people[input.identity.subject]\n\n"
        'reasons contains "not_known" if not allow\n\n'
        "_level := data.inference.people[input.identity.subject].level\n\n" + rules
    )
    return folder


async def _measured(plain: _Running, large: _Running, beside: _Running, questions: int, rounds: int) -> dict[str, Any]:
    call: Call = _fakes.a_call()
    small, big, candidate = plain.policy(), large.policy(), beside.policy()
    body = json.dumps({"input": question(call)}, separators=(",", ":")).encode()
    raw = await _Raw.connected(plain.at, body)
    for policy in (small, big, candidate):
        await policy.start()
        if not (await policy.decide(call)).allow:
            raise SystemExit("the question must be one that is allowed")
    kinds: Mapping[str, Callable[[], Any]] = {
        "raw": raw.ask,
        "client": lambda: small.decide(call),
        "large": lambda: big.decide(call),
    }
    await _round(kinds, max(50, questions // 10))  # warm
    times = [await _round(kinds, questions) for _ in range(rounds)]
    shadow = [await _shadowed(small, candidate, beside, call, questions) for _ in range(rounds)]
    for policy in (small, big, candidate):
        await policy.close()
    raw.close()
    found: dict[str, Any] = {
        f"{kind}_p{percent}_ms": 1000 * median(_at(one[kind], percent) for one in times)
        for kind in kinds
        for percent in (50, 99)
    }
    found["client_ratio"] = median(_at(one["client"], 50) / _at(one["raw"], 50) for one in times)
    found["large_p50_ratio"] = median(_at(one["large"], 50) / _at(one["client"], 50) for one in times)
    found["large_p99_ratio"] = median(_at(one["large"], 99) / _at(one["client"], 99) for one in times)
    for name in ("worker_ms", "decide_ms", "opa_ms"):
        found[f"shadow_{name}"] = median(one[name] for one in shadow)
    return {"questions": questions, "rounds": rounds, **found}


async def _round(kinds: Mapping[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    names = list(kinds)
    for number in range(count):
        for place in range(len(names)):  # nobody is always the first after the same
            kind = names[(number + place) % len(names)]
            began = perf_counter()
            await kinds[kind]()
            taken[kind].append(perf_counter() - began)
    return {kind: sorted(told) for kind, told in taken.items()}


def _at(told: list[float], percent: int) -> float:
    return told[min(len(told) - 1, len(told) * percent // 100)]


# Bare HTTP -----------------------------------------------------------------------------------------------------------


class _Raw(asyncio.Protocol):
    """The same bytes to the same OPA on the same loop: written, and awaited until the answer is whole. Nothing else."""

    def __init__(self, body: bytes) -> None:
        head = f"POST {_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        self._request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._answered: asyncio.Future[None] | None = None
        self._got = b""

    @classmethod
    async def connected(cls, at: Path, body: bytes) -> _Raw:
        """Over a connection that is kept."""
        _, made = await asyncio.get_running_loop().create_unix_connection(lambda: cls(body), str(at))
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        is_whole = len(body) == int(length) if length else body.endswith(b"0\r\n\r\n")
        if end and is_whole and self._answered is not None:
            if not self._got.startswith(b"HTTP/1.1 200"):
                raise SystemExit(self._got.decode(errors="replace"))
            self._got = b""
            self._answered.set_result(None)

    async def ask(self) -> None:
        """Once."""
        self._answered = self._loop.create_future()
        self._transport.write(self._request)
        await self._answered

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


# The shadow ----------------------------------------------------------------------------------------------------------


async def _shadowed(
    active: OpaPolicy, candidate: OpaPolicy, running: _Running, call: Call, count: int
) -> dict[str, float]:
    """What it adds to a call: CPU of this process, time until the decision, CPU of the candidate's OPA.

    As fast as they can come, one after the other: the queue never grows, and the candidate is asked meanwhile.
    """
    told: list[str] = []

    async def note(kind: str, _: Mapping[str, Any]) -> None:
        told.append(kind)

    shadowed = ShadowedPolicy(active, candidate, note)
    living = asyncio.ensure_future(shadowed.live())
    without = await _lots(active, call, count)
    before = running.cpu_seconds()
    beside = await _lots(shadowed, call, count)
    await asyncio.sleep(0.1)  # the last ones of the queue
    opa = running.cpu_seconds() - before
    living.cancel()
    await asyncio.wait([living])
    if told:
        raise SystemExit("the candidate must say the same")
    return {
        "worker_ms": 1000 * (beside[0] - without[0]) / count,
        "decide_ms": 1000 * (beside[1] - without[1]),
        "opa_ms": 1000 * opa / count,
    }


async def _lots(policy: OpaPolicy | ShadowedPolicy, call: Call, count: int) -> tuple[float, float]:
    """CPU seconds in all, and the median until a decision."""
    cpu = process_time()
    taken = []
    for number in range(count):
        one = replace(call, body_bytes=number)
        began = perf_counter()
        await policy.decide(one)
        taken.append(perf_counter() - began)
        await asyncio.sleep(0.002)
    return process_time() - cpu, median(taken)


def _show(found: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    for kind, words in (("raw", "bare HTTP"), ("client", "the gate's client"), ("large", "1,000 rules, 10,000 users")):
        console.print(f"{words:26} p50 {found[f'{kind}_p50_ms']:.2f} ms, p99 {found[f'{kind}_p99_ms']:.2f} ms")
    console.print(f"the client to bare HTTP, p50: {found['client_ratio']:.2f} (at most {CLIENT_MAX})")
    console.print(f"the large policy to the default, p99: {found['large_p99_ratio']:.2f} (under {LARGE_MAX})")
    console.print(
        f"a shadow, a call: {found['shadow_worker_ms']:.3f} ms of the worker's CPU, {found['shadow_opa_ms']:.2f} ms of "
        f"that of its OPA; the decision comes {found['shadow_decide_ms']:.3f} ms later"
    )


if __name__ == "__main__":
    raise SystemExit(main())
