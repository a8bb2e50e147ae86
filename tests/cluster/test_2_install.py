"""Must show 2 of the chart: installed with two replicas on a real Kubernetes, Ready, tested, and its unsafe variants refused."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cluster.release import Release

PARTS = ("opa", "gate", "envoy", "drain")


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the values with one of them set."""
    whole = copy.deepcopy(values)
    *folders, last = path.split(".")
    place = whole
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("failClosed", False, "failClosed"),
        ("persistence.enabled", False, "unsafe.ephemeralEvidence"),
        ("listener.tls.existingSecret", "", "unsafe.plaintextListener"),
        ("config.audit.registry_url", "", "config.audit.registry_url"),
        ("config.connections", [], "connections"),
    ],
)
def test_the_unsafe_is_refused_by_name(prepared: Release, path: str, value: Any, named: str) -> None:
    done = prepared.helm("install", changed(prepared.values(), path, value), "--dry-run=server")
    assert done.returncode != 0
    assert named in done.stderr


def test_pods_are_ready(release: Release) -> None:
    pods = release.pods()
    assert sorted(pods) == ["affidavit-0", "affidavit-1"]
    for pod in pods.values():
        conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True"
        spec = pod["spec"]
        sidecars = [one["name"] for one in spec["initContainers"] if one.get("restartPolicy") == "Always"]
        assert (*sidecars, *(one["name"] for one in spec["containers"])) == PARTS
        assert "affidavit.io/unsafe" not in pod["metadata"]["annotations"]
        for container in (*spec["initContainers"], *spec["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"]
        for status in (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]):
            assert status["restartCount"] == 0, status
            assert status["user"]["linux"]["uid"] >= 10001


def test_helm_test_verifies_a_locked_record(release: Release) -> None:
    told = release.test()
    assert told.count("✓") == 4, told
    assert "locked (COMPLIANCE)" in told


def test_calls_are_governed_at_every_pod(release: Release) -> None:
    for pod in release.pods():
        answer = release.call("write to ada.lovelace@example.net now", url=release.url_of(pod))()
        assert answer["status"] == 200, answer
        assert "[EMAIL]" in answer["body"]
        assert "ada.lovelace" not in answer["body"]
