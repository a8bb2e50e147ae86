"""Threads that read the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def readers(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads. Whoever is interrupted (Ctrl-C) waits for none of them: the store may not answer for minutes."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
