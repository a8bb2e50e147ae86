"""A mail server on loopback, by a third party: keeps what it is given, or refuses it, or is slow."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from email.message import EmailMessage
    from pathlib import Path
    from typing import Self


class MailServer:
    """Inside ``async with``. ``folder``: where a certificate is made; then TLS is demanded, and a password.

    ``letters``: what came; ``bytes_``: the same, as it came; ``said``: what is answered instead of taking it.
    """

    def __init__(self, folder: Path | None = None, *, from_first: bool = False) -> None:
        self.letters: list[EmailMessage] = []
        self.bytes_: list[bytes] = []
        self.to: list[list[str]] = []
        self.said: str | None = None
        self.slow_seconds = 0.0
        self.users: list[str] = []
        self.ca_file = folder / "mail-ca.pem" if folder else None
        self._context = _certificate(self.ca_file) if self.ca_file else None
        self._is_from_first = from_first

    async def __aenter__(self) -> Self:
        loop, starts = asyncio.get_running_loop(), self._context if not self._is_from_first else None

        def serve() -> SMTP:
            has_users = self._context is not None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it does not see that TLS is there from the first byte
                return SMTP(
                    self, loop=loop, tls_context=starts, require_starttls=starts is not None, auth_require_tls=False,
                    authenticator=self._knows, auth_required=has_users, hostname="mail.example.com",
                )  # fmt: skip

        first = self._context if self._is_from_first else None
        self._server = await loop.create_server(serve, "127.0.0.1", 0, ssl=first)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _knows(self, server: Any, session: Any, envelope: Any, mechanism: str, told: Any) -> AuthResult:
        self.users.append(told.login.decode())
        return AuthResult(success=(told.login, told.password) == (b"desk", b"mail-password"), handled=False)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        await asyncio.sleep(self.slow_seconds)
        if self.said is not None:
            return self.said
        self.bytes_.append(envelope.content)
        self.to.append(envelope.rcpt_tos)
        self.letters.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


def _certificate(path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    both = path.with_suffix(".both")
    both.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return context
