"""Puts the rendered configuration where Envoy finds it, each file whole: written beside, then renamed.

Envoy watches the directory and reads a file again when something is renamed onto it, so it never sees half of one.
A crash between two renames leaves a new cluster without a route (harmless) and never a route without its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.edge.bootstrap import render_bootstrap
from ext_proc.edge.connections import render_clusters, render_routes
from ext_proc.files import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.edge.bootstrap import EdgeSettings
    from ext_proc.edge.connections import EdgeConnection

BOOTSTRAP_FILE: Final = "bootstrap.yaml"
ROUTES_FILE: Final = "routes.json"
CLUSTERS_FILE: Final = "clusters.json"


@dataclass(frozen=True, slots=True)
class EdgePaths:
    """Where everything was written."""

    bootstrap: Path
    routes: Path
    clusters: Path


def write_edge(settings: EdgeSettings, connections: Sequence[EdgeConnection]) -> EdgePaths:
    """Write all three files. Everything is rendered first, so an error leaves the directory as it was.

    Raises:
        ConfigError: the settings or connections contradict themselves.
        OSError: the directory cannot be written.
    """
    bootstrap = render_bootstrap(settings)
    paths = write_connections(settings.directory, connections)
    replace(paths.bootstrap, bootstrap, is_durable=False)
    return paths


def write_connections(directory: Path, connections: Sequence[EdgeConnection]) -> EdgePaths:
    """Write routes and clusters only: a running Envoy takes them up within a moment, exchanges in flight go on.

    Raises:
        ConfigError: the connections contradict each other.
        OSError: the directory cannot be written.
    """
    routes, clusters = render_routes(connections), render_clusters(connections)
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.absolute()
    paths = EdgePaths(directory / BOOTSTRAP_FILE, directory / ROUTES_FILE, directory / CLUSTERS_FILE)
    replace(paths.clusters, clusters, is_durable=False)  # before the routes that lead to them
    replace(paths.routes, routes, is_durable=False)
    return paths
