"""The upstream credential: read from the connection's file, kept until the file changes, shown to nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from ext_proc.errors import CredentialUnavailable
from ext_proc.model import Credential, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ext_proc.model import Connection

CREDENTIAL_MAX_BYTES: Final = 16 * 1024
"""A credential longer than any header that Envoy passes on is a wrong file."""


LOOK_SECONDS: Final = 1.0
"""A changed credential counts after this time at the latest."""


@dataclass(frozen=True, slots=True)
class _Kept:
    version: tuple[int, int, int]
    looked_at: float
    headers: Mapping[str, Secret]


class FileCredentials:
    """`ports.Credentials`. A file is looked at once a second at the most, and read when it changed.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kept: dict[Credential, _Kept] = {}

    def reveal(self, connection: Connection) -> Mapping[str, Secret]:
        """See `ports.Credentials.reveal`."""
        credential = connection.credential
        if credential is None:
            return {}
        now = self._clock()
        kept = self._kept.get(credential)
        if kept is not None and now - kept.looked_at < LOOK_SECONDS:
            return kept.headers
        try:
            stat = Path(credential.file).stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            is_same = kept is not None and kept.version == version
            headers = kept.headers if kept is not None and is_same else {credential.header: _read(credential)}
        except OSError:
            raise CredentialUnavailable("unreadable") from None
        self._kept[credential] = _Kept(version, now, headers)
        return headers


def _read(credential: Credential) -> Secret:
    raw = Path(credential.file).read_bytes()
    text = raw.strip()
    if not text or len(raw) > CREDENTIAL_MAX_BYTES or not text.isascii() or not text.decode("ascii").isprintable():
        raise CredentialUnavailable("malformed")
    return Secret(credential.prefix + text.decode("ascii"))
