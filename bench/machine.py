"""What several benches stand on: a service that answers, an Envoy before it, load, and what processes cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.demo.envoy import start_envoy
from ext_proc.demo.programs import Program, free_ports, start, tool
from ext_proc.edge import EdgeConnection, EdgeSettings, write_edge

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "demo",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": ("All work and no play makes a dull day for everybody around here. " * 12)[:780]
                    + " Write to ada@example.com.",
                },
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 200, "total_tokens": 220},
    }
)
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def start_service(folder: Path) -> tuple[Program, str]:
    """A service that answers everything with 1 KB of JSON, and its URL."""
    port, admin = free_ports(2)
    config = folder / "upstream.yaml"
    config.write_text(yaml.safe_dump(answering(port, admin)))
    command = (tool("envoy"), "-c", config, "--disable-hot-restart", "--concurrency", "1")
    return start("upstream", command, folder / "logs"), f"http://127.0.0.1:{port}"


def start_edge(folder: Path, url: str, *, has_gate: bool) -> tuple[Program, int]:
    """Envoy before the service, and its port: with the gates (their server listens at ``worker.sock``), or alone."""
    http, admin = free_ports(2)
    settings = EdgeSettings(
        directory=folder / "envoy",
        http_host="127.0.0.1",
        http_port=http,
        admin_host="127.0.0.1",
        admin_port=admin,
        access_log=folder / "access.jsonl",
        worker_sockets=(folder / "worker.sock",),
        hold_seconds=60,
        buffer_bytes=4 * 1024 * 1024,
    )
    folder.mkdir(exist_ok=True)
    connection = EdgeConnection("demo", ("*",), "/v1/", url, None, 5, 4 << 20, 4 << 20, 600)
    bootstrap = write_edge(settings, [connection]).bootstrap
    if not has_gate:
        told = yaml.safe_load(bootstrap.read_text())
        manager = told["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = manager["http_filters"][-1:]
        bootstrap.write_text(yaml.safe_dump(told))
    return start_envoy(bootstrap, f"http://127.0.0.1:{admin}", folder / "logs", concurrency=1), http


def load(port: int, connections: int, seconds: float, token: str, most: int = 10**9) -> dict[str, float]:
    """What `bench.load` tells, in a process of its own.

    Raises:
        SystemExit: an answer was not 200.
    """
    command = [sys.executable, "-m", "bench.load", port, connections, seconds, most, token]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"port {port}: {done.stderr}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def rss_mb(pid: int) -> float:
    """Resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def answering(port: int, admin: int) -> dict[str, Any]:
    """An Envoy that answers everything with 1 KB of JSON: an upstream that costs next to nothing."""
    kind = "type.googleapis.com/envoy.extensions.filters"
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": ANSWER}},
        "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}}],
    }
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
    }

    def address(at: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": at}}

    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "upstream", "address": address(port), "filter_chains": [{"filters": filters}]}
    return {"admin": {"address": address(admin)}, "static_resources": {"listeners": [listener]}}
