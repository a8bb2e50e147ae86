"""Must show 3: while callers call, pods go, come, are changed, killed and filled up; what was answered is on record.

After each: every whole answer has its intent and its outcome in the bucket, and reconciliation leaves no request of
Envoy's unexplained.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cluster.release import CHART, NAME, VOLUMES, Release, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.release import Load

BEFORE_SECONDS = AFTER_SECONDS = 5.0
"""Of undisturbed calls."""


@contextmanager
def watched(release: Release, name: str) -> Iterator[Load]:
    """Callers around what happens; then the question whether all is on record."""
    since = now()
    with release.load() as load:
        time.sleep(BEFORE_SECONDS)
        yield load
        time.sleep(AFTER_SECONDS)
    release.wait_until_ready()
    try:
        missing = release.missing(load)
        told = release.reconcile(since)
    finally:
        release.keep_logs(name)
    classes = {one["class"]: one["count"] for one in told["classes"]}
    (release.logs / name / "result.json").write_text(
        json.dumps({"calls": load.told(), "classes": classes, "whole": told}, indent=1)
    )
    print(f"\n{name}: {len(load.answers)} calls: {load.told()}; reconciled: {classes}")
    assert len(load.answered) > 10, load.told()
    assert missing == []
    assert told["ok"], told["gaps"]
    assert told["orphans"] == 0


def unbroken(load: Load) -> None:
    """Nobody was cut off, and nobody met a closed door: this is how a pod should leave."""
    assert len(load.answered) == len(load.answers), load.told()


def test_a_deleted_pod(release: Release) -> None:
    with watched(release, "delete-pod") as load:
        release.kubectl("delete", "pod", f"{NAME}-1", "--wait=true")
        release.wait_until_ready()
    unbroken(load)


def test_a_restart_of_all(release: Release) -> None:
    with watched(release, "rollout-restart") as load:
        release.kubectl("rollout", "restart", f"statefulset/{NAME}")
        release.wait_until_ready()
    unbroken(load)


def test_an_upgrade(release: Release, tmp_path: Path) -> None:
    """From a chart that calls itself an older one, with other values."""
    older = tmp_path / "older"
    release.node.ask("cp", "-r", CHART, older)
    told = yaml.safe_load((older / "Chart.yaml").read_text())
    (older / "Chart.yaml").write_text(yaml.safe_dump({**told, "version": "0.0.1"}))
    values = {**release.values(), "podAnnotations": {"example.com/round": "before"}}
    release.done("upgrade", values, chart=older)
    with watched(release, "helm-upgrade") as load:
        release.done("upgrade", release.values())
    unbroken(load)
    assert all("example.com/round" not in one["metadata"]["annotations"] for one in release.pods().values())


@pytest.mark.parametrize("container", ["opa", "gate", "envoy", "drain"])
def test_a_container_that_is_killed(release: Release, container: str) -> None:
    pod = f"{NAME}-0"
    before = release.restarts(pod, container)
    with watched(release, f"kill-{container}"):
        release.node.ask("kill", "-9", str(release.processes(pod, container)[0]))
        deadline = time.monotonic() + 120
        while release.restarts(pod, container) == before:
            assert time.monotonic() < deadline, f"{container} did not come back"
            time.sleep(0.5)
        release.wait_until_ready()


def test_a_worker_and_a_shipper_that_are_killed(release: Release) -> None:
    """Not the container's first process: what it has started."""
    pod = f"{NAME}-0"
    with watched(release, "kill-children"):
        for pid in release.processes(pod, "gate")[1:]:
            release.node.ask("kill", "-9", str(pid))
        time.sleep(5)
        release.wait_until_ready()
    assert release.restarts(pod, "gate") <= 1, "the supervisor went on"


def test_a_volume_that_is_full(release: Release) -> None:
    """Where no evidence can be written, nobody is answered; when there is room again, they are."""
    with watched(release, "full-volume") as load:
        full = [release.node.run / "volumes" / str(number) / "somebody-elses" for number in range(VOLUMES)]
        for path in full:
            release.node.try_to("dd", "if=/dev/zero", f"of={path}", "bs=1M")  # ends where the space does
        deadline = time.monotonic() + 180
        seen: list[int] = []
        while 503 not in seen:  # 0 is no answer at all: of a pod that is only just back from the test before
            assert time.monotonic() < deadline, f"never refused: {seen}"
            seen.append(release.call("is there room?")()["status"])
            time.sleep(1)
        time.sleep(2)  # so that the callers beside us are refused, too
        release.node.ask("rm", *full)
        while release.call("is there room now?")()["status"] != 200:
            assert time.monotonic() < deadline + 180, "refused for ever"
            time.sleep(1)
        release.wait_until_ready()
    assert any(one["status"] == 503 for one in load.answers), load.told()


# Approvals ------------------------------------------------------------------------------------------------------------


def desk(release: Release, *command: str, who: str = "bob") -> Any:
    """``affidavit approvals`` by a person, against the console."""
    arguments = ("approvals", *command, "--url", release.console, "--token", release.token(who, "approvers"), "--json")
    return json.loads(release.node.ask(sys.executable, "-m", "ext_proc", *arguments))


def pending(release: Release) -> set[str]:
    """What waits for Bob."""
    return {one["hold_id"] for one in desk(release, "list")["lines"]}


def hold_of(release: Release, known: set[str]) -> str:
    """The call that waits now and did not before."""
    deadline = time.monotonic() + 60
    while True:
        if ids := pending(release) - known:
            return ids.pop()
        assert time.monotonic() < deadline, "nothing waits"
        time.sleep(0.5)


def test_an_approval_releases_what_waits_at_either_pod(release: Release) -> None:
    """It is given at the console, in a pod of its own; the call waits in another one."""
    since = now()
    for pod in release.pods():
        known = pending(release)
        waiting = release.call(f"please, at {pod}", "demo-restricted", release.url_of(pod))
        hold = hold_of(release, known)
        desk(release, "approve", hold, "--justification", "case 2026-17")
        answer = waiting()
        assert answer["status"] == 200, answer
    told = release.reconcile(since)
    assert told["ok"], told["gaps"]


def test_an_approval_is_good_at_the_other_pod(release: Release) -> None:
    """Its caller left one pod without an answer, and comes back to the other one when somebody has agreed."""
    one, other = (release.url_of(pod) for pod in sorted(release.pods()))
    known = pending(release)
    waiting = release.call("the same words", "demo-restricted", one)
    hold = hold_of(release, known)
    answer = waiting()
    assert answer["status"] == 202, answer
    desk(release, "approve", hold, "--justification", "case 2026-17")
    again = release.call("the same words", "demo-restricted", other)()
    assert again["status"] == 200, again
