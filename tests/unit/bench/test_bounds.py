"""What the benches say of their figures: a bound that is missed is said to be, and what was not measured is not."""

from __future__ import annotations

import asyncio
import contextlib

from bench import compare, soak
from bench.callers import Steady
from bench.load import request_bytes


def turn(cpu=1.0, p50=1.0, rps=100.0):
    return {"cpu_ms": cpu, "cpu_all_ms": cpu, "p50_ms": p50, "p99_ms": p50, "rps": rps}


def found(gate_cpu=2.0, gate_p50=2.0, gate_rps=500.0, two_rps=900.0, rounds=3):
    systems = {
        "envoy": [turn(p50=1.0)] * rounds,
        "noop": [turn(cpu=1.0, p50=1.5)] * rounds,
        "gate": [turn(gate_cpu, gate_p50, gate_rps)] * rounds,
        "gate-2": [turn(rps=two_rps)] * rounds,
        "litellm": [turn(p50=11.0, rps=100.0)] * rounds,
    }
    return dict.fromkeys(compare.LEVELS, systems)


def held(taken, first_ms=2.0, cores=16):
    told = compare.bounds(taken, {"first_ms": first_ms}, cores)
    return {one["what"]: one["is_held"] for one in told}


def test_everything_held():
    assert set(held(found()).values()) == {True}


def test_each_bound_can_be_missed():
    assert [what for what, is_held in held(found(gate_cpu=2.6)).items() if not is_held] == [
        "CPU a request, gate to noop, 1 connection",
        "the same, 16 connections",
    ]
    assert not held(found(gate_rps=499.0))["requests/s, gate to LiteLLM, 16"]
    assert not held(found(gate_p50=3.1))["added p50, gate to LiteLLM, 1"]
    assert not held(found(), first_ms=5.1)["first token later, ms"]
    assert not held(found(two_rps=840.0))["requests/s, two workers to one, 16"]


def test_what_the_machine_cannot_tell_and_what_was_not_measured_is_neither():
    assert held(found(two_rps=500.0), cores=2)["requests/s, two workers to one, 16"] is None
    taken = {level: {n: r for n, r in systems.items() if n != "litellm"} for level, systems in found().items()}
    told = held(taken)
    assert told["requests/s, gate to LiteLLM, 16"] is told["added p50, gate to LiteLLM, 1"] is None
    assert compare.bounds(taken, {}, 16)[4]["is_held"] is None


def test_ratios_are_of_the_same_round():
    """A machine that is twice as slow in one round is so for both: the ratio does not hear of it."""
    taken = {"gate": [turn(2.0), turn(4.0), turn(20.0)], "noop": [turn(1.0), turn(2.0), turn(10.0)]}
    assert compare.ratio(taken, "gate", "noop", "cpu_ms") == 2.0


def test_steadiness():
    taken = {1: {"envoy": [turn(p50=1.0), turn(p50=1.5)]}}
    assert compare.steadiness(taken) == 1.5


def test_growth_is_from_the_second_tenth_to_the_last():
    assert soak.growth([50.0, 100.0, *[105.0] * 7, 110.0]) == 110.0 / 100.0 - 1
    assert soak.growth([100.0]) == 0.0


def told(**changes):
    reconciled = {"orphans": 0, "incidents": 0, "envoy": 10, "audited": 10} | changes.pop("reconciled", {})
    return {
        "reconciled": reconciled,
        "faulty": {"ended": {"200": 9, "503": 1}, "p99_ms": 20.0},
        "quiet": {"ended": {"200": 9}, "p99_ms": 10.0},
        "memory_mb": {name: [100.0] * 20 for name in ("worker-0", "shipper", "supervisor")},
    } | changes


def missed(**changes):
    return [one["what"] for one in soak.bounds(told(**changes)) if not one["is_held"]]


def test_soak_bounds():
    assert missed() == []
    assert missed(reconciled={"orphans": 1}) == ["orphans that nothing explains"]
    assert missed(reconciled={"incidents": 1}) == ["incidents"]
    assert missed(reconciled={"audited": 9}) == ["requests that Envoy saw and no record tells of"]
    assert missed(faulty={"ended": {"never answered": 1}, "p99_ms": 20.0}) == ["callers left without an answer"]
    assert missed(faulty={"ended": {}, "p99_ms": 20.1}) == ["p99 with faults, to the quiet one"]
    grown = {"worker-0": [100.0] * 18 + [106.0] * 2, "shipper": [100.0] * 20, "supervisor": [100.0] * 20}
    assert missed(memory_mb=grown) == ["growth of the memory of worker-0"]


async def test_callers_do_not_wait_for_each_other_and_count_from_when_they_were_due():
    """A server that stops for a while cannot hide it: this one answers nobody before all ten have asked."""
    everybody = asyncio.Barrier(10)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(request_bytes("t")))
            await everybody.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    steady = Steady(server.sockets[0].getsockname()[1], "t")
    await steady.run(50.0, 0.2)
    server.close()

    assert steady.ended == {"200": 10}
    assert max(steady.times) >= 0.18, "the first was due so long before the last"


async def test_callers_tell_what_broke():
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    steady = Steady(server.sockets[0].getsockname()[1], "t")
    await steady.run(50.0, 0.1)
    server.close()

    assert steady.ended == {"broken": 5}
