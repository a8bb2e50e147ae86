"""How everything of ours reaches AWS, or what speaks like it: with which credentials, and how long it waits."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    ReadOnlyCredentials,
    SharedCredentialProvider,
)
from botocore.exceptions import BotoCoreError

from ext_proc.pace import Paced, PacedResponse

if TYPE_CHECKING:
    import io
    import socket
    from pathlib import Path


class NoCredentials(Exception):
    """A file that is no AWS credentials file, or has no ``[default]`` section with both keys."""


def session(credentials_file: Path | None) -> boto3.session.Session:
    """Credentials from the file; without one, from wherever the AWS libraries look (environment, profile, role).

    Whoever rotates them writes the file anew (an agent, a side-car): it is read again for each request.

    Raises:
        NoCredentials: the file is none.
    """
    if credentials_file is None:
        return boto3.session.Session()
    made = botocore.session.get_session()
    made.register_component("credential_provider", CredentialResolver([_File(_Rotated(credentials_file))]))
    return boto3.session.Session(botocore_session=made)


def paced(client: Any) -> Any:
    """The client, to which an answer that only drips is none: see `ext_proc.pace`. (A body that is sent is in pieces of
    16 KiB already, each with the time-out for connecting.)
    """
    # botocore has no other way in. Where it had no such table any more, this fails.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_Pool, https=_TlsPool)  # noqa: SLF001
    return client


class _Rotated(Credentials):
    def __init__(self, path: Path) -> None:
        self._path = path
        found = self._read()
        super().__init__(found.access_key, found.secret_key, found.token)
        self._known = found.get_frozen_credentials()

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """What each request is signed with. A file that is just being written changes nothing."""
        with suppress(NoCredentials):
            self._known = self._read().get_frozen_credentials()
        return self._known

    def _read(self) -> Credentials:
        try:
            found = SharedCredentialProvider(str(self._path)).load()
        except (BotoCoreError, OSError, UnicodeDecodeError):
            found = None
        if found is None or not (found.access_key and found.secret_key):
            raise NoCredentials(f"{self._path}: not an AWS credentials file with a [default] section")
        return found


class _File(CredentialProvider):
    METHOD = "credentials-file"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials


class _Continuing:
    """A connection while it is asked whether a body may come: the answer must not drip either, and not break off."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, *_: object) -> io.RawIOBase:
        return _Whole(self._sock.makefile("rb", 0), self._sock.gettimeout() or float("inf"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Whole(Paced):
    def readinto(self, buffer: Any, /) -> int | None:
        count = super().readinto(buffer)
        if count == 0:  # botocore would read on, without end
            raise ConnectionResetError("broken off")
        return count


class _Paced:
    """Beside botocore's connections."""

    response_class: Any = PacedResponse
    sock: Any

    def _handle_expect_response(self, message_body: Any) -> None:
        self.sock = _Continuing(self.sock)
        try:
            super()._handle_expect_response(message_body)  # type: ignore[misc]
        finally:
            if self.sock is not None:
                self.sock = self.sock._sock  # noqa: SLF001


class _Connection(_Paced, AWSHTTPConnection):  # type: ignore[misc] # botocore's own bases do not fit each other
    pass


class _TlsConnection(_Paced, AWSHTTPSConnection):  # type: ignore[misc] # as above
    pass


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TlsConnection
