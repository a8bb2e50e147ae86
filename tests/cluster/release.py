"""The chart, installed: its values and secrets, its pods, calls to it, and what it left in the store."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.demo import servers
from ext_proc.demo.seaweed import BUCKET
from ext_proc.demo.stack import Stack
from tests.cluster import backing
from tests.cluster.backing import Backing, at_node, in_pods, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.node.machine import Node

NAMESPACE: Final = "gateway"
NAME: Final = "affidavit"
CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "affidavit"
CONFIG: Final = "/etc/affidavit/config/config.yaml"
WAL_BYTES: Final = 96 * 1024 * 1024
VOLUME_BYTES: Final = 192 * 1024 * 1024
"""Of each pod's volume: more than the log may have, and little enough to be filled."""
VOLUMES: Final = 4
PATIENCE_SECONDS: Final = 300.0
_LITTLE: Final = {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}}
NOT_YET: Final = {"record_not_shipped", "line_not_shipped", "still_connected"}
"""Classes of what is still on its way: reconciliation says so, and is asked again."""

Answer = dict[str, Any]


@dataclass
class Load:
    """What callers got."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def answered(self) -> list[Answer]:
        """Governed answers, whole."""
        return [one for one in self.answers if one["status"] == 200 and one["whole"]]

    def told(self) -> str:
        """By what became of them."""
        counts: dict[str, int] = {}
        for one in self.answers:
            word = str(one["status"]) + ("" if one["whole"] else " cut") + (f" {one['why'][:60]}" if one["why"] else "")
            counts[word] = counts.get(word, 0) + 1
        return ", ".join(f"{count} x {word}" for word, count in sorted(counts.items()))


class Release:
    """One installation of the chart.

    Args:
        node: where.
        backing: what it stands on.
        folder: for keys and the policy's bundle, outside the cluster.
        logs: for what is kept of the run.
    """

    def __init__(self, node: Node, stands_on: Backing, folder: Path, logs: Path) -> None:
        self.node = node
        self.backing = stands_on
        self.folder = folder
        self.logs = logs
        self.credentials = backing.credentials_file(folder, stands_on)

    # Before it is installed -----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Namespace, volumes, secrets, policy."""
        self.node.apply([backing.namespace(NAMESPACE), *self._volumes()])
        keys = {
            name: b64encode(os.urandom(32)).decode()
            for name in ("key-encryption-key", "pepper", "hash-key", "log-key", "receipt-key")
        }
        tls = self.folder / "tls"
        tls.mkdir()
        Stack._make_certificate(tls)
        bundle = self.folder / "bundle.tar.gz"
        servers.build_bundle(bundle)
        pair = {"tls.crt": (tls / "server.pem").read_text(), "tls.key": (tls / "server.key").read_text()}
        policy = {"bundle.tar.gz": b64encode(bundle.read_bytes()).decode()}
        key_secret = {**secret(NAMESPACE, "affidavit-keys", {}), "data": keys}
        self.node.apply([
            key_secret,
            secret(NAMESPACE, "s3", {"credentials": self.backing.aws_credentials}),
            secret(NAMESPACE, "model", {"key": self.backing.model_key}),
            secret(NAMESPACE, "registry", {"password": self.backing.database_password}),
            secret(NAMESPACE, "caller", {"client_id": "helm-test", "client_secret": "not looked at"}),
            secret(NAMESPACE, "gateway-tls", pair, "kubernetes.io/tls"),
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "affidavit-policy", "namespace": NAMESPACE},
                "binaryData": policy,
            },
        ])  # fmt: skip

    def _volumes(self) -> list[dict[str, Any]]:
        """Local volumes, each a file system of its own: filling one fills nothing else."""
        made: list[dict[str, Any]] = [{
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "local"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }]  # fmt: skip
        here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}
        for number in range(VOLUMES):
            place = self.node.run / "volumes" / str(number)
            place.mkdir(parents=True)
            self.node.ask("mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "volume", place)
            made.append({
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "capacity": {"storage": "4Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "local",
                    "persistentVolumeReclaimPolicy": "Retain",
                    "local": {"path": str(place)},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
                },
            })  # fmt: skip
        return made

    def values(self) -> dict[str, Any]:
        """Two replicas on everything that `Backing` has, small, and with the console."""
        return {
            "replicas": 2,
            "image": {"registry": "localhost/", "pullPolicy": "Never"},
            "config": {
                "workers": 1,
                "drain_seconds": 10,
                "listen": {"hold_seconds": 60},
                "identity": {
                    "issuers": [
                        {
                            "issuer": f"http://{in_pods('issuer')}",
                            "audiences": ["affidavit"],
                            "unsafe_allow_http": True,
                        }
                    ]
                },
                "audit": {
                    "origin": "cluster.example/affidavit",
                    "heartbeat_seconds": 5,
                    "daily_hour": None,
                    "wal": {"max_bytes": WAL_BYTES, "seal_seconds": 2.0},
                    "registry_url": f"postgresql://affidavit@{in_pods('postgres')}/postgres",
                    "registry_password_file": "/etc/affidavit/secrets/registry/password",
                    "s3": {
                        "bucket": BUCKET,
                        "endpoint": f"http://{in_pods('s3')}",
                        "credentials_file": "/etc/affidavit/secrets/s3/credentials",
                        "retention_days": backing.RETENTION_DAYS,
                    },
                },
                "telemetry": {  # nobody is there: it is the library in the image that is seen to load
                    "otlp": {"endpoint": "http://127.0.0.1:4318", "sample_ratio": 0.0}
                },
                "console": {
                    "public_url": "https://desk.example.com",
                    "roles": {"approver": ["approvers"], "operator": ["operators"]},
                },
                "connections": [
                    {
                        "name": "model",
                        "path_prefix": "/v1/",
                        "upstream": {"url": f"http://{in_pods('model')}"},
                        "credential": {"file": "/etc/affidavit/secrets/model/key"},
                        "hold_seconds": 20.0,
                    }
                ],
            },
            "keys": {"existingSecret": "affidavit-keys"},
            "policy": {"bundle": {"existingConfigMap": "affidavit-policy"}},
            "listener": {"tls": {"existingSecret": "gateway-tls"}},
            "persistence": {"storageClass": "local", "size": "2Gi"},
            "drain": {"longestStreamSeconds": 20, "settleSeconds": 5, **_LITTLE},
            **dict.fromkeys(("gate", "opa", "render"), _LITTLE),
            "envoy": {"drainSeconds": 5, **_LITTLE},
            "console": {"enabled": True, "shipperResources": _LITTLE["resources"], **_LITTLE},
            "test": {
                "enabled": True,
                "body": {"model": "demo", "messages": [{"role": "user", "content": "Does it work?"}]},
                "clientCredentials": {
                    "tokenEndpoint": f"http://{in_pods('issuer')}/token",
                    "existingSecret": "caller",
                    "form": {"subject": "helm-test", "groups": "analysts"},
                },
                **_LITTLE,
            },
        }

    # Helm -----------------------------------------------------------------------------------------------------------

    def helm(
        self, verb: str, values: dict[str, Any], *more: str | Path, chart: Path = CHART
    ) -> subprocess.CompletedProcess[str]:
        """``helm VERB`` of this release, with these values."""
        command = ["helm", verb, NAME, chart, "--namespace", NAMESPACE, "--values", "-", *more]
        return self.node.try_to(*command, stdin=yaml.safe_dump(values), seconds=900)

    def done(self, verb: str, values: dict[str, Any], chart: Path = CHART) -> None:
        """The same, waited for: all pods are Ready when it returns."""
        made = self.helm(verb, values, "--wait", "--timeout=10m", chart=chart)
        if made.returncode != 0:
            self.keep_logs(f"failed-{verb}")
        assert made.returncode == 0, made.stdout + made.stderr

    def test(self) -> str:
        """``helm test``: what its pod said."""
        made = self.node.try_to("helm", "test", NAME, "--namespace", NAMESPACE, "--logs", "--timeout=5m", seconds=400)
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    # Kubernetes -----------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str | Path, seconds: float = 600) -> str:
        """``kubectl`` in the gateway's namespace."""
        return self.node.ask("kubectl", "--namespace", NAMESPACE, *arguments, seconds=seconds)

    def pods(self) -> dict[str, dict[str, Any]]:
        """The gateway's pods by name; not the console's."""
        found = json.loads(self.kubectl("get", "pods", "--output=json"))["items"]
        return {one["metadata"]["name"]: one for one in found if one["metadata"]["name"].rpartition("-")[0] == NAME}

    def wait_until_ready(self) -> None:
        """Everybody is Ready, with what the StatefulSet last said."""
        self.kubectl("rollout", "status", f"statefulset/{NAME}", "--timeout=600s", seconds=620)

    def processes(self, pod: str, container: str) -> list[int]:
        """Ids of a container's processes as the node knows them, its first one first."""
        statuses = self.pods()[pod]["status"]
        every = [*statuses.get("initContainerStatuses", []), *statuses["containerStatuses"]]
        [whole] = [one["containerID"] for one in every if one["name"] == container]
        told = self.node.ask("ctr", "--namespace", "k8s.io", "tasks", "ps", whole.removeprefix("containerd://"))
        return sorted(int(line.split()[0]) for line in told.splitlines()[1:])

    def restarts(self, pod: str, container: str) -> int:
        """How often a container was started again."""
        statuses = self.pods()[pod]["status"]
        every = [*statuses.get("initContainerStatuses", []), *statuses["containerStatuses"]]
        return int(next(one["restartCount"] for one in every if one["name"] == container))

    def keep_logs(self, name: str) -> None:
        """Everything that the pods say, into a folder of its own."""
        folder = self.logs / name
        folder.mkdir(parents=True, exist_ok=True)
        for what in (
            ("get", "pods", "-o", "wide"),
            ("describe", "pods"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ):
            (folder / f"{what[0]}-{what[1]}.txt").write_text(self.node.try_to("kubectl", "-n", NAMESPACE, *what).stdout)
        listed = self.node.try_to("kubectl", "-n", NAMESPACE, "get", "pods", "-o", "name").stdout.split()
        for pod in listed:
            said = self.node.try_to(
                "kubectl", "-n", NAMESPACE, "logs", pod, "--all-containers", "--prefix", "--tail=-1"
            )
            (folder / f"{pod.rpartition('/')[2]}.log").write_text(said.stdout)

    # Calls ----------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The Service's address, as the node reaches it."""
        return f"https://{self.kubectl('get', 'service', NAME, '--output=jsonpath={.spec.clusterIP}')}"

    def url_of(self, pod: str) -> str:
        """One pod's own."""
        return f"https://{self.pods()[pod]['status']['podIP']}:8443"

    @property
    def console(self) -> str:
        """The console's address."""
        address = self.kubectl("get", "service", f"{NAME}-console", "--output=jsonpath={.spec.clusterIP}")
        return f"http://{address}"

    def token(self, subject: str, *groups: str) -> str:
        """Of the issuer."""
        form = f"grant_type=client_credentials&subject={subject}&groups={'+'.join(groups)}"
        code = f"import urllib.request as r; print(r.urlopen('http://{at_node('issuer')}/token', b'{form}').read().decode())"
        told: dict[str, str] = json.loads(self.node.ask(sys.executable, "-c", code))
        return told["access_token"]

    def _caller(self, told: dict[str, Any]) -> subprocess.Popen[str]:
        command = self.node.command(sys.executable, "-m", "tests.cluster.caller")
        caller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert caller.stdin is not None
        caller.stdin.write(json.dumps(told) + "\n")
        caller.stdin.flush()
        return caller

    def call(self, text: str, model: str = "demo", url: str | None = None) -> Callable[[], Answer]:
        """Begin one call of an analyst's; what is given back waits for its answer."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        caller = self._caller(
            {"url": url or self.url, "token": self.token("ada", "analysts"), "callers": 0, "body": body}
        )

        def wait() -> Answer:
            said, _ = caller.communicate(timeout=PATIENCE_SECONDS)
            answer: Answer = json.loads(said)
            return answer

        return wait

    @contextmanager
    def load(self, callers: int = 4) -> Iterator[Load]:
        """Callers that call while the block runs. Their answers are there when it has ended."""
        load = Load()
        token = self.token("ada", "analysts")
        caller = self._caller({"url": self.url, "token": token, "callers": callers})
        try:
            yield load
        finally:
            said, _ = caller.communicate(timeout=PATIENCE_SECONDS)  # closes its input, which stops it
            load.answers += [json.loads(line) for line in said.splitlines()]

    # Evidence -------------------------------------------------------------------------------------------------------

    def records(self) -> dict[str, list[str]]:
        """Kinds of records by exchange: what is in the bucket."""
        command = [sys.executable, "-m", "tests.cluster.evidence", f"http://{at_node('s3')}", self.credentials]
        found: dict[str, list[str]] = json.loads(self.node.ask(*command))
        return found

    def reconcile(self, since: str) -> dict[str, Any]:
        """``affidavit reconcile`` in a gate's container, once nothing is on its way any more."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            command = ("exec", f"{NAME}-0", "-c", "gate", "--", "/usr/bin/affidavit", "reconcile", "--config", CONFIG)
            done = self.node.try_to("kubectl", "-n", NAMESPACE, *command, "--since", since, "--json")
            assert done.stdout.startswith("{"), done.stdout + done.stderr
            told: dict[str, Any] = json.loads(done.stdout)
            if not NOT_YET & {one["class"] for one in told["classes"]} or time.monotonic() > deadline:
                return told
            self.call("time goes on")()
            time.sleep(3)

    def missing(self, load: Load) -> list[Answer]:
        """Governed answers without their records, after all the time that shipping may take."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            records = self.records()
            wanted = {"inference.intent", "inference.outcome"}
            without = [one for one in load.answered if not wanted <= set(records.get(one["exchange"], ()))]
            if not without or time.monotonic() > deadline:
                return without
            time.sleep(3)


def now() -> str:
    """A moment, as ``--since`` takes it."""
    return dt.datetime.now(dt.UTC).isoformat()
