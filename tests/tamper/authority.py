"""A time-stamping authority: ``openssl ts`` with its own root."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CONFIG = """
[ req ]
distinguished_name = name
[ name ]
[ ca ]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[ signer ]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[ tsa ]
default_tsa = here
[ here ]
dir = {folder}
serial = {folder}/serial
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def start_authority(folder: Path) -> tuple[str, Callable[[bytes], bytes]]:
    """The root certificate (PEM), and what stamps a message."""
    config = folder / "openssl.cnf"
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-config", str(config))
    run(
        "req",
        "-x509",
        *key,
        "-extensions",
        "ca",
        "-subj",
        "/CN=root",
        "-days",
        "3000",
        "-keyout",
        "root.key",
        "-out",
        "root.pem",
    )
    run("req", *key, "-subj", "/CN=stamps", "-keyout", "signer.key", "-out", "signer.csr")
    run(
        "x509", "-req", "-in", "signer.csr", "-CA", "root.pem", "-CAkey", "root.key", "-set_serial", "7",
        "-days", "3000", "-extfile", str(config), "-extensions", "signer", "-out", "signer.pem",
    )  # fmt: skip

    def stamp(message: bytes) -> bytes:
        (folder / "message").write_bytes(message)
        run("ts", "-query", "-data", "message", "-sha256", "-cert", "-out", "query.tsq")
        run("ts", "-reply", "-config", str(config), "-queryfile", "query.tsq", "-out", "reply.tsr")
        return (folder / "reply.tsr").read_bytes()

    return (folder / "root.pem").read_text(), stamp
