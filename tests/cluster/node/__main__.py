"""``python -m tests.cluster.node up [IMAGE.tar ...]`` and ``in COMMAND ...``: the node by hand."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from ext_proc.demo.programs import TOOLS, ProgramError
from tests.cluster.node.machine import Node

RUN = TOOLS.parent / "build" / "node"


def main() -> int:
    """Up until Ctrl-C or SIGTERM; or one command inside."""
    node = Node(TOOLS / "node", RUN, lambda line: print(line, flush=True))
    try:
        match sys.argv[1:]:
            case ["up", *images]:
                return _up(node, [Path(one) for one in images])
            case ["in", *command] if command:
                return subprocess.run(node.command(*command), check=False).returncode
    except ProgramError as error:
        print(f"node: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


def _up(node: Node, images: list[Path]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node.start(images)
        print(f"up; its files: {node.run}. Ctrl-C ends it", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        return 0
    finally:
        node.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
