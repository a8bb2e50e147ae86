"""A node with the gateway on it, for the whole run. Needs root and minutes: ``make cluster``; ``make test`` leaves it out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ext_proc.demo.programs import TOOLS
from tests.cluster.backing import Backing
from tests.cluster.made import ROOT, images
from tests.cluster.node.machine import Node, missing
from tests.cluster.release import Release
from tests.needed import absent

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = TOOLS / "node"
LOGS = ROOT / "build" / "cluster-logs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    if problem := missing(PROGRAMS):
        absent(problem)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    made = Node(PROGRAMS, ROOT / "build" / "node", print)
    archives = images(PROGRAMS.resolve())
    try:
        made.start(archives)
        yield made
    finally:
        if (made.run / "log").exists():
            shutil.copytree(made.run / "log", LOGS / "node", dirs_exist_ok=True)
        made.stop()


@pytest.fixture(scope="session")
def prepared(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Everything but the chart."""
    stands_on = Backing()
    stands_on.start(node)
    release = Release(node, stands_on, Path(tmp_path_factory.mktemp("release")), LOGS)
    release.prepare()
    return release


@pytest.fixture(scope="session")
def release(prepared: Release) -> Iterator[Release]:
    """Installed: two replicas, Ready."""
    prepared.done("install", prepared.values())
    yield prepared
    prepared.keep_logs("end")
