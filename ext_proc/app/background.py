"""Tasks that no call waits for."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from ext_proc import telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAUSE_SECONDS: Final = 1.0
PAUSE_MAX_SECONDS: Final = 60.0
"""A task that lived for so long begins again after the shortest pause."""
_log: Final = telemetry.logger()


async def keep_running(name: str, live: Callable[[], Awaitable[None]]) -> None:
    """Something that no call waits for, until cancelled: a bug in it is logged, and it begins anew, later each time.

    Without this it would end the process, and with it what calls do wait for.
    """
    pause = PAUSE_SECONDS
    while True:
        began = monotonic()
        try:
            await live()
        except Exception:  # noqa: BLE001 - the outermost frame of a task beside the calls: logged, and begun anew
            _log.exception("failed beside the calls, beginning anew", task=name)
        if monotonic() - began > PAUSE_MAX_SECONDS:
            pause = PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(2 * pause, PAUSE_MAX_SECONDS)
