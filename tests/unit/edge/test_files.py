"""`ext_proc.edge.files`: every file whole, and an error changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ext_proc.edge import write_connections, write_edge
from ext_proc.errors import ConfigError
from tests.unit.edge.test_bootstrap import SETTINGS
from tests.unit.edge.test_connections import ONE

if TYPE_CHECKING:
    from pathlib import Path


def test_all_three_files(tmp_path: Path) -> None:
    paths = write_edge(replace(SETTINGS, directory=tmp_path / "new"), [ONE])

    assert sorted(tmp_path.glob("new/*")) == sorted([paths.bootstrap, paths.routes, paths.clusters])
    assert str(paths.routes) in paths.bootstrap.read_text()


def test_connections_only(tmp_path: Path) -> None:
    paths = write_connections(tmp_path, [ONE])

    assert not paths.bootstrap.exists()
    assert json.loads(paths.clusters.read_text())["resources"][0]["name"] == "one"


def test_error_leaves_what_was_there(tmp_path: Path) -> None:
    """Everything is rendered before anything is written."""
    before = write_connections(tmp_path, [ONE]).routes.read_text()

    with pytest.raises(ConfigError):
        write_connections(tmp_path, [ONE, replace(ONE, name="two", path_prefix="/two", url="nonsense")])

    assert (tmp_path / "routes.json").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clusters.json", "routes.json"]
