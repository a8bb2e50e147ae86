"""What canarywire's faults run: break one part of a running gateway, mend it, wait until it serves again.

``python faults.py break|mend gate|policy|store FOLDER PORT PROGRAM-ID``, of a stack in ``FOLDER`` whose Envoy listens on
``PORT``. The detector has no process of its own to be stopped: it lives in the gate's workers, so these are killed (and
the supervisor is held, that it starts no others). OPA and the store are frozen, which is worse than dead: they take
connections and say nothing. Std-lib only: a hook that loads the gate takes longer than the fault.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

PARTS: Final = ("gate", "policy", "store")
SERVED_SECONDS: Final = 50.0


def broken(part: str, folder: Path, pid: int) -> None:
    """Freeze the program; of the gate, kill the workers under the frozen supervisor."""
    os.kill(pid, signal.SIGSTOP)
    if part == "gate":
        workers = [json.loads(path.read_text())["pid"] for path in (folder / "run" / "state").glob("worker-*.json")]
        assert workers, "no worker is known"
        for worker in workers:
            os.kill(worker, signal.SIGKILL)


def mended(port: int, pid: int) -> None:
    """Let it run again, until the gate asks a caller for a token: then Envoy and a worker are both there."""
    os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + SERVED_SECONDS
    while (status := asked(port)) != 401:
        assert time.monotonic() < deadline, f"the gateway does not serve again: {status}"
        time.sleep(0.1)


def asked(port: int) -> int:
    """What a caller without a token is told; 0: nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


if __name__ == "__main__":
    verb, of, where, at, program = sys.argv[1:]
    assert of in PARTS, of
    if verb == "break":
        broken(of, Path(where), int(program))
    else:
        mended(int(at), int(program))
