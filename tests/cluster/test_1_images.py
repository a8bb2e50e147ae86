"""The images as pods: in a namespace that enforces Pod Security `restricted`, with a root that cannot be written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc import __version__
from tests.cluster import backing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.node.machine import Node

NAMESPACE = "images"


@pytest.fixture(scope="module")
def space(node: Node) -> Iterator[str]:
    node.apply([backing.namespace(NAMESPACE)])
    yield NAMESPACE
    node.ask("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")


def pod(name: str, image: str, arguments: list[str], **more: Any) -> dict[str, Any]:
    container = backing.restricted([], f"localhost/{image}:{__version__}", name="one", args=arguments)
    del container["command"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], **more},
    }


def said(node: Node, made: dict[str, Any]) -> str:
    """What a pod that runs to its end says."""
    node.apply([made])
    name = made["metadata"]["name"]
    node.ask(
        "kubectl", "-n", NAMESPACE, "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=120s"
    )
    return node.ask("kubectl", "-n", NAMESPACE, "logs", name)


@pytest.mark.parametrize(
    ("image", "arguments", "expected"),
    [
        ("affidavit", ["--version"], f"affidavit {__version__}"),
        ("affidavit-envoy", ["--version"], "1.40"),
        ("affidavit-opa", ["version"], "Version: 1.22.2"),
    ],
)
def test_runs_as_nobody_in_particular(node: Node, space: str, image: str, arguments: list[str], expected: str) -> None:
    """No user is named in the pod: the image's own must do, and `runAsNonRoot` believes a number only."""
    assert expected in said(node, pod(image, image, arguments))
    told = json.loads(node.ask("kubectl", "-n", NAMESPACE, "get", "pod", image, "-o", "json"))
    assert told["status"]["containerStatuses"][0]["user"]["linux"]["uid"] == 10001


@pytest.mark.parametrize("image", ["affidavit", "affidavit-envoy", "affidavit-opa"])
def test_has_no_shell(node: Node, space: str, image: str) -> None:
    made = pod(f"shell-of-{image}", image, [])
    made["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "true"]
    node.apply([made])
    reason = "{.status.containerStatuses[0].state.terminated.reason}"
    node.ask(
        "kubectl", "-n", NAMESPACE, "wait", f"--for=jsonpath={reason}=StartError", f"pod/shell-of-{image}",
        "--timeout=120s",
    )  # fmt: skip


def test_what_is_not_restricted_is_refused(node: Node, space: str) -> None:
    made = pod("loose", "affidavit", ["--version"])
    made["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    done = node.try_to("kubectl", "apply", "-f", "-", stdin=json.dumps(made))
    assert done.returncode != 0
    for reason in (
        "privileged",
        "allowPrivilegeEscalation",
        "unrestricted capabilities",
        "runAsNonRoot",
        "seccompProfile",
    ):
        assert reason in done.stderr


LIBRARIES = """
import os, subprocess
for folder, _, names in os.walk("/usr"):
    for name in names:
        path = os.path.join(folder, name)
        if ".so" in name and not os.path.islink(path) and open(path, "rb").read(4) == b"\\x7fELF":
            said = subprocess.run(["/lib64/ld-linux-x86-64.so.2", "--list", path], capture_output=True, text=True)
            for line in (said.stdout + said.stderr).splitlines():
                if "not found" in line or "cannot open" in line:
                    print(path, line.strip())
print("looked at all")
"""
"""The packages are chosen by hand: is every library there that another one asks for?"""


def test_every_library_is_there(node: Node, space: str) -> None:
    made = pod("libraries", "affidavit", [])
    made["spec"]["containers"][0]["command"] = ["/usr/bin/python3", "-c", LIBRARIES]
    assert said(node, made) == "looked at all\n"
