"""A PostgreSQL with one user and a password: ``postgres.py DATA PASSWORD_FILE``. It becomes the server's process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path("/opt/postgres/bin")

data, password = Path(sys.argv[1]), sys.argv[2]
if not (data / "PG_VERSION").exists():
    options = ("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync")
    subprocess.run([PROGRAMS / "initdb", "-D", data, "-U", "affidavit", *options], check=True)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
settings = ("listen_addresses=*", "unix_socket_directories=", "shared_buffers=16MB", "fsync=off")
os.execv(
    PROGRAMS / "postgres", [PROGRAMS / "postgres", "-D", data, *(part for one in settings for part in ("-c", one))]
)
