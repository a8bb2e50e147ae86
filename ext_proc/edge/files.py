"""Envoy's folder: every file written beside and moved into place, so that Envoy never reads half of one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ext_proc.edge.bootstrap import TEMPLATES, render_bootstrap
from ext_proc.edge.connections import render_clusters, render_routes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.edge.bootstrap import EdgeSettings
    from ext_proc.edge.connections import EdgeConnection


def write_edge(settings: EdgeSettings, connections: Sequence[EdgeConnection]) -> Path:
    """Everything that Envoy needs to start; returns the bootstrap's path."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    _put(settings.directory / "response_gate.lua", (TEMPLATES / "response_gate.lua").read_text())
    write_connections(settings.directory, connections)
    bootstrap = settings.directory / "bootstrap.yaml"
    _put(bootstrap, render_bootstrap(settings))
    return bootstrap


def write_connections(directory: Path, connections: Sequence[EdgeConnection]) -> None:
    """Routes and clusters; a running Envoy takes them over by itself. Clusters first: routes name them."""
    _put(directory / "clusters.json", render_clusters(connections))
    _put(directory / "routes.json", render_routes(connections))


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)  # noqa: PTH105 - atomic by name
