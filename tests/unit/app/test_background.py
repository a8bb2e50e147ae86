from __future__ import annotations

import asyncio

import pytest

from ext_proc.app import background


async def test_a_bug_is_logged_and_it_begins_anew(monkeypatch, capsys):
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0.0)
    lives, reached = [], asyncio.Event()

    async def live():
        lives.append(1)
        if len(lives) < 3:
            async with asyncio.TaskGroup() as group:
                group.create_task(_broken())
        reached.set()
        await asyncio.Event().wait()

    async def _broken():
        raise KeyError("what nobody thought of")

    running = asyncio.create_task(background.keep_running("bell", live))
    async with asyncio.timeout(20):
        await reached.wait()
    assert len(lives) == 3
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_comes_later_each_time(monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    async def live():
        raise KeyError

    monkeypatch.setattr(background.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await background.keep_running("bell", live)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
