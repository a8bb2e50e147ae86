"""What the gateway stands on, in the cluster: a store that locks, an issuer, a model's service, and PostgreSQL.

Each is a pod with an address that is known before, so that tests reach it from the node, where no name is resolved.
"""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ext_proc.demo import seaweed
from tests.cluster.made import BACKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.node.machine import Node

NAMESPACE: Final = "backing"
RETENTION_DAYS: Final = 1
PORTS: Final = {"s3": 8333, "issuer": 9000, "model": 8000, "postgres": 5432}
_ADDRESSES: Final = {"s3": "10.96.0.101", "issuer": "10.96.0.102", "model": "10.96.0.103", "postgres": "10.96.0.104"}


def at_node(name: str) -> str:
    """Host and port of a service, as the node reaches it."""
    return f"{_ADDRESSES[name]}:{PORTS[name]}"


def in_pods(name: str) -> str:
    """Host and port of a service, by name."""
    return f"{name}.{NAMESPACE}.svc.cluster.local:{PORTS[name]}"


@dataclass
class Backing:
    """Secrets of the services, and their manifests."""

    keys: list[str] = field(default_factory=lambda: [secrets.token_hex(n) for n in (10, 20, 10, 20)])
    model_key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    database_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def aws_credentials(self) -> str:
        """The gateway's, as an AWS credentials file."""
        return f"[default]\naws_access_key_id={self.keys[0]}\naws_secret_access_key={self.keys[1]}\n"

    def start(self, node: Node) -> None:
        """Start everything, and make the bucket."""
        node.apply([namespace(NAMESPACE)])
        node.apply(list(self.manifests()))
        node.ask(
            "kubectl", "--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=300s",
            seconds=330,
        )  # fmt: skip
        told = json.dumps([f"http://{at_node('s3')}", *self.keys, RETENTION_DAYS])
        node.ask(sys.executable, "-m", "tests.cluster.bucket", stdin=told)

    def manifests(self) -> list[dict[str, Any]]:
        """Services, pods and their secrets."""
        identities = json.dumps({"identities": seaweed._identities(*self.keys)})
        weed = [
            "/usr/bin/weed", "server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64", "-volume.max=200", "-volume.preStopSeconds=0", "-filer",
            "-filer.disableHttp=true", "-s3", f"-s3.port={PORTS['s3']}", "-s3.config=/secrets/s3.json",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        python = ["/usr/bin/python3"]
        commands = {
            "s3": weed,
            "issuer": [*python, "/opt/backing/issuer.py", f"http://{in_pods('issuer')}"],
            "model": [*python, "/opt/backing/model.py", str(PORTS["model"]), self.model_key],
            "postgres": [*python, "/opt/backing/postgres.py", "/data/postgres", "/secrets/password"],
        }
        made: list[dict[str, Any]] = [
            secret(NAMESPACE, "backing", {"s3.json": identities, "password": self.database_password})
        ]
        for name, command in commands.items():
            made += [_service(name), _pod(name, command)]
        return made


def namespace(name: str) -> dict[str, Any]:
    """A namespace whose pods must be restricted."""
    labels = {f"pod-security.kubernetes.io/{one}": "restricted" for one in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def secret(where: str, name: str, entries: dict[str, str], kind: str = "Opaque") -> dict[str, Any]:
    """A Secret of texts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": where},
        "type": kind,
        "stringData": entries,
    }


def restricted(command: list[str], image: str, **more: Any) -> dict[str, Any]:
    """A container as Pod Security `restricted` wants it, with a root that cannot be written."""
    return {
        "image": image,
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **more,
    }


def _service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"clusterIP": _ADDRESSES[name], "selector": {"app": name}, "ports": [{"port": PORTS[name]}]},
    }


def _pod(name: str, command: list[str]) -> dict[str, Any]:
    mounts = [("data", "/data"), ("tmp", "/tmp"), ("secrets", "/secrets")]
    container = restricted(
        command,
        BACKING,
        name=name,
        readinessProbe={"tcpSocket": {"port": PORTS[name]}, "periodSeconds": 1, "failureThreshold": 120},
        volumeMounts=[{"name": volume, "mountPath": path} for volume, path in mounts],
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
            "containers": [container],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "secrets", "secret": {"secretName": "backing", "defaultMode": 0o440}},
            ],
        },
    }


def credentials_file(folder: Path, backing: Backing) -> Path:
    """The gateway's own credentials, for reading what it wrote."""
    path = folder / "s3-credentials"
    path.touch(0o600)
    path.write_text(backing.aws_credentials)
    return path
