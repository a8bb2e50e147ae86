"""Standard output as it may be: in another encoding than UTF-8, closed, full, or with a reader that has left."""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import sys
import threading
from contextlib import suppress
from typing import Final

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ESCAPES: Final = "affidavit"


def make_safe() -> None:
    """Characters that the output's encoding does not have are written as JSON escapes them: nothing is lost, and JSON
    stays JSON.
    """
    codecs.register_error(_ESCAPES, _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in {"strict", "surrogateescape"}:
        sys.stdout.reconfigure(errors=_ESCAPES)


def give_up() -> None:
    """What is not written yet goes nowhere: Python would complain of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def leave(status: int) -> None:
    """End, without waiting for threads that wait for a store themselves; nothing else is open any more."""
    if threading.active_count() > 1:
        gc.collect()  # what the exception held, as the semaphores of processes that are gone
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    raw = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{raw[at : at + 2].hex()}" for at in range(0, len(raw), 2)), error.end
