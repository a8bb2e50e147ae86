"""The edge: Envoy's configuration out of ours. Read ``envoy/bootstrap.yaml`` first."""

from ext_proc.edge.bootstrap import EdgeSettings, TlsSettings, idle_seconds, render_bootstrap
from ext_proc.edge.connections import UNMATCHED_ROUTE, EdgeConnection, render_clusters, render_routes
from ext_proc.edge.files import EdgePaths, write_connections, write_edge

__all__ = [
    "UNMATCHED_ROUTE",
    "EdgeConnection",
    "EdgePaths",
    "EdgeSettings",
    "TlsSettings",
    "idle_seconds",
    "render_bootstrap",
    "render_clusters",
    "render_routes",
    "write_connections",
    "write_edge",
]
