"""Envoy's files: the bootstrap from its template, routes and clusters from the registry of connections."""

from ext_proc.edge.bootstrap import EdgeSettings, TlsSettings, render_bootstrap
from ext_proc.edge.connections import EdgeConnection, render_clusters, render_routes
from ext_proc.edge.files import write_connections, write_edge

__all__ = [
    "EdgeConnection",
    "EdgeSettings",
    "TlsSettings",
    "render_bootstrap",
    "render_clusters",
    "render_routes",
    "write_connections",
    "write_edge",
]
