"""What computes for long, beside the event loop: in threads of its own, and a piece of a streamed answer step by step.

Threads of its own: what waits for a disk or a database (a subject's key, a credential) has the loop's, and must not
stand in line behind bodies that take minutes. Few of them: they share one interpreter, so more of them compute no
faster, and the loop waits for its turn among them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ext_proc.model import Piece
    from ext_proc.ports import AnswerStream

STEP_BYTES: Final = 16 * 1024
"""Of a piece that are masked in one go: then others have their turn, and a caller who left is masked for no longer."""


INLINE_BYTES: Final = 2 * 1024
"""Pieces up to this are masked in the event loop: what comes bit by bit costs more for each byte than a whole body."""
INLINE_DIGITS: Final = 512
"""Unless so many digits are in them: in a row, each costs 0.1 ms."""
_DIGITS: Final = b"0123456789"


def takes_long(body: bytes) -> bool:
    """Is a piece of a streamed answer not to be masked in the event loop?"""
    size = len(body)
    return size > INLINE_BYTES or (size > INLINE_DIGITS and size - len(body.translate(None, _DIGITS)) > INLINE_DIGITS)


async def masked(executor: Executor, answer: AnswerStream, body: bytes, *, is_last: bool) -> Piece:
    """What `AnswerStream.feed` makes of a piece, whatever its size; cancelled, it ends with the step in progress."""
    answer.told()  # here, and kept: who leaves meanwhile is asked about while a thread changes it
    loop = asyncio.get_running_loop()
    *steps, end = _steps(body)
    said = b""
    for step in steps:
        piece = await loop.run_in_executor(executor, partial(answer.feed, step, is_last=False))
        said += piece.body
        if piece.blocked or piece.unreadable is not None:
            return replace(piece, body=said)
    piece = await loop.run_in_executor(executor, partial(answer.feed, end, is_last=is_last))
    return replace(piece, body=said + piece.body)


def _steps(body: bytes) -> list[bytes]:
    """In steps of about one size: a small one would be read as if nobody asked meanwhile."""
    count = max(-(-len(body) // STEP_BYTES), 1)
    size = -(-len(body) // count)
    return [body[number * size : (number + 1) * size] for number in range(count)]
