"""The demo's other programs: OPA, Envoy, the issuer, the model, and the gate itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.demo.programs import TOOLS, Program, answers, free_ports, start, tool
from ext_proc.policy import bundle

if TYPE_CHECKING:
    from ext_proc.model import PolicyVersion

POLICY_SOURCES = TOOLS.parent / "opa"


def build_bundle(target: Path, sources: Path = POLICY_SOURCES) -> PolicyVersion:
    """Build a policy: the project's, unless told otherwise."""
    return bundle.build(tool("opa"), sources, target)


def start_opa(socket: Path, bundle_file: Path, logs: Path) -> Program:
    """OPA on a Unix socket with one bundle; its own authorization allows the decision and health, nothing else."""
    program = start(
        "opa",
        (
            tool("opa"), "run", "--server", "--addr", f"unix://{socket}", "--unix-socket-perm", "660",
            "--authorization", "basic", "--skip-version-check", "--log-level", "error", "--log-format", "json",
            "--bundle", bundle_file,
        ),
        logs,
        environment={"GOGC": "400"},  # as in the chart: a fifth less CPU for each question
    )  # fmt: skip
    program.wait_until(socket.exists)
    return program


def start_issuer(logs: Path) -> tuple[Program, str]:
    """The OIDC issuer and its URL."""
    [port] = free_ports(1)
    program = start("issuer", (sys.executable, "-m", "ext_proc.demo.issuer", "--port", str(port)), logs)
    program.wait_until(answers(port, "/jwks.json"))
    return program, f"http://127.0.0.1:{port}"


def start_model(api_key_file: Path, logs: Path) -> tuple[Program, str]:
    """The real model (SmolLM2-135M by llama.cpp's server) and its URL; it wants the key in the file."""
    [port] = free_ports(1)
    script = Path(__file__).with_name("model_server.py")
    python = TOOLS / "model" / "bin" / "python"
    weights = TOOLS / "weights" / "model.gguf"
    program = start("model", (python, script, weights, str(port), api_key_file), logs)
    program.wait_until(answers(port, "/health"))
    return program, f"http://127.0.0.1:{port}"


def start_gate(config: Path, metrics_port: int, logs: Path) -> Program:
    """``affidavit serve``: supervisor, workers, shipper."""
    program = start("gate", (sys.executable, "-m", "ext_proc", "serve", "--config", config), logs)
    program.wait_until(answers(metrics_port, "/ready"))
    return program


def start_console(config: Path, port: int, logs: Path) -> Program:
    """``affidavit console``."""
    program = start("console", (sys.executable, "-m", "ext_proc", "console", "--config", config), logs)
    program.wait_until(answers(port, "/health"))
    return program
