"""The cluster's authority, its certificates, and a token for each part of it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from typing import TYPE_CHECKING, Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path


class Keys:
    """The authority and everything that it issues.

    Args:
        run: the node's folder.
        address: its address.
        services: the first address of its services, which is the API server's.
    """

    _DAYS: Final = 30

    def __init__(self, run: Path, address: str, services: str) -> None:
        self._run = run
        self._pki = run / "pki"
        self._addresses = ["127.0.0.1", address, services]
        self._server = f"https://{address}:6443"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node1 authority")])

    def make(self) -> None:
        """Write everything."""
        now = dt.datetime.now(dt.UTC)
        self._write(
            "ca", self._key, self._built(self._name, self._key, now, [x509.BasicConstraints(ca=True, path_length=None)])
        )
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        alternatives = x509.SubjectAlternativeName(
            [*map(x509.DNSName, names), *(x509.IPAddress(ipaddress.ip_address(one)) for one in self._addresses)]
        )
        self._issue("api", "kube-apiserver", None, now, [alternatives])
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        self._issue("kubelet-client", "apiserver-kubelet-client", "system:masters", now, [client])
        accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self._pki / "accounts.key").write_bytes(_private(accounts))
        (self._pki / "accounts.pub").write_bytes(
            accounts.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        self._tokens({
            "admin": ("admin", "system:masters"),
            "controllers": ("system:kube-controller-manager", ""),
            "scheduler": ("system:kube-scheduler", ""),
            "kubelet": ("system:node:node1", "system:nodes"),
            "proxy": ("system:kube-proxy", ""),
        })  # fmt: skip

    def _tokens(self, parts: dict[str, tuple[str, str]]) -> None:
        lines = []
        for name, (user, group) in parts.items():
            token = secrets.token_hex(16)
            lines.append(f'{token},{user},{user},"{group}"\n')
            cluster = {"server": self._server, "certificate-authority": f"{self._pki}/ca.crt"}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "node", "cluster": cluster}],
                "users": [{"name": name, "user": {"token": token}}],
                "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
                "current-context": "node",
            }
            self._private_file(self._run / f"{name}.conf").write_text(yaml.safe_dump(config))
        self._private_file(self._pki / "tokens.csv").write_text("".join(lines))

    def _issue(self, file: str, name: str, group: str | None, now: dt.datetime, more: list[Any]) -> None:
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(file, key, self._built(x509.Name(parts), key, now, more))

    def _built(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime, more: list[Any]
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=self._DAYS))
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        (self._pki / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._private_file(self._pki / f"{file}.key").write_bytes(_private(key))

    @staticmethod
    def _private_file(path: Path) -> Path:
        path.touch(0o600)
        return path


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
