"""The upstream credential: read from the connection's file, kept until the file changes, shown to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_proc.errors import CredentialUnavailable
from ext_proc.model import Credential, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.model import Connection

CREDENTIAL_MAX_BYTES: Final = 16 * 1024
"""A credential longer than any header that Envoy passes on is a wrong file."""


class FileCredentials:
    """`ports.Credentials`. A file is looked at for every call (one ``stat``) and read when it changed."""

    def __init__(self) -> None:
        self._kept: dict[Credential, tuple[tuple[int, int, int], Mapping[str, Secret]]] = {}

    def reveal(self, connection: Connection) -> Mapping[str, Secret]:
        """See `ports.Credentials.reveal`."""
        credential = connection.credential
        if credential is None:
            return {}
        try:
            stat = Path(credential.file).stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            kept = self._kept.get(credential)
            if kept is None or kept[0] != version:
                kept = (version, {credential.header: _read(credential)})
                self._kept[credential] = kept
        except OSError:
            raise CredentialUnavailable("unreadable") from None
        return kept[1]


def _read(credential: Credential) -> Secret:
    raw = Path(credential.file).read_bytes()
    text = raw.strip()
    if not text or len(raw) > CREDENTIAL_MAX_BYTES or not text.isascii() or not text.decode("ascii").isprintable():
        raise CredentialUnavailable("malformed")
    return Secret(credential.prefix + text.decode("ascii"))
