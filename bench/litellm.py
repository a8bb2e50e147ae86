"""When a streamed answer's words come through LiteLLM's content filter, and through the gateway: in one run.

The service, the words and the pace (one every 20 ms) of `bench.first_token`; LiteLLM's proxy (1.104.0) with its own
filter of patterns in front of it, and real Envoy with everything on. Every round reads the stream three times, directly
and through each, in turns of changing order. Only events that bring text count: LiteLLM sends the ones that it holds
back without any. At the end of the text is an address in three pieces, which both must mask: a filter that is off is
not measured. While a value is being said, nothing of it can come: that pause is told apart.

What LiteLLM does *not* do here: check a token of an issuer, ask a policy, keep a record. ``python3 scripts/setup.py
litellm`` installs it; ``python -m bench.litellm`` prints a table and writes ``bench/out/litellm.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import yaml
from rich.console import Console
from rich.table import Table

from bench.first_token import came, events, prose, serve
from ext_proc.demo.programs import Program, ProgramError, answers, free_ports, start
from ext_proc.demo.stack import Stack, StackOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM: Final = Path(__file__).parent.parent / ".tools" / "litellm" / "bin" / "litellm"
OUT: Final = Path(__file__).parent / "out" / "litellm.json"
KEY: Final = "sk-bench-0123456789"
PLANTED: Final = "ada.lovelace@example.com"
_READY_SECONDS: Final = 420.0
"""It loads for a quarter of a minute where nothing else runs."""
_ADDRESS: Final = ("Write to ada.", "lovelace@exa", "mple.com ", "today, please. ")
_PATTERNS: Final = ("email", "us_ssn", "us_phone", "credit_card", "iban", "aws_access_key", "github_token")
_FINISH: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One stream as its reader got it: of each event that brought text, after how many seconds, and the text."""

    events: tuple[tuple[float, str], ...]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.events)

    @property
    def first(self) -> float:
        """Milliseconds from the request to the first text."""
        return 1000 * self.events[0][0]

    def gap(self, *, is_prose: bool) -> float:
        """Milliseconds of the longest wait for text: of the prose, or of what comes after it."""
        waits, said = [0.0], len(self.events[0][1])
        for (earlier, _), (later, text) in zip(self.events, self.events[1:], strict=False):
            if is_prose == (self.text.find(_ADDRESS[0][:5]) > said):
                waits.append(later - earlier)
            said += len(text)
        return 1000 * max(waits)


async def heard(port: int, token: str) -> Heard:
    """Read one stream to its end."""
    found: list[tuple[float, str]] = []
    rest = b""
    async for at, data in came(port, token):
        rest += data
        *lines, rest = rest.split(b"\n")
        text = "".join(_text(line[6:]) for line in lines if line.startswith(b"data: {"))
        if text:
            found.append((at, text))
    if len(found) < 2:
        raise SystemExit(f"no stream came from port {port}: {rest[:500]!r}")
    return Heard(tuple(found))


def _text(data: bytes) -> str:
    """What one event says."""
    told = json.loads(data)
    if "choices" not in told:
        raise SystemExit(f"no event of a chat: {data[:500]!r}")
    return "".join(choice["delta"].get("content") or "" for choice in told["choices"])


def start_litellm(folder: Path, upstream: int, more: Mapping[str, Any] | None = None) -> tuple[Program, int]:
    """LiteLLM's proxy with its filter on requests and answers; nothing of it may look for a network.

    ``more`` goes into its configuration.
    """
    [port] = free_ports(1)
    filtering = {
        "guardrail": "litellm_content_filter",
        "mode": ["pre_call", "post_call"],
        "default_on": True,
        "patterns": [{"pattern_type": "prebuilt", "pattern_name": name, "action": "MASK"} for name in _PATTERNS],
    }
    service = {"model": "openai/demo", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    told = {
        "model_list": [{"model_name": "demo", "litellm_params": service}],
        "guardrails": [{"guardrail_name": "filter", "litellm_params": filtering}],
        "general_settings": {"master_key": KEY},
        **(more or {}),
    }
    config = folder / "litellm.yaml"
    config.write_text(yaml.safe_dump(told))
    command = (PROGRAM, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False")
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DISABLE_ADMIN_UI": "True", "LITELLM_LOG": "ERROR"}
    program = start("litellm", command, folder / "logs", environment)
    program.wait_until(answers(port, "/health/liveliness"), _READY_SECONDS)
    return program, port


async def measure(ports: dict[str, tuple[int, str]], upstream: int, rounds: int, count: int) -> dict[str, list[Heard]]:
    """Each way in each round, the first of them to warm up. The order turns with every round."""
    server = await serve(upstream, [*events([*prose(count), *_ADDRESS]), _FINISH])
    found: dict[str, list[Heard]] = {name: [] for name in ports}
    names = list(ports)
    for _ in range(rounds + 1):
        for name in names:
            found[name].append(await heard(*ports[name]))
        names = [*names[1:], names[0]]
    server.close()
    return {name: several[1:] for name, several in found.items()}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.litellm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=60)
    options = parser.parse_args()
    if not PROGRAM.exists():
        print(f"{PROGRAM} is not there: run python3 scripts/setup.py litellm", file=sys.stderr)
        return 2
    try:
        found = _found(options.rounds, options.events)
    except ProgramError as error:
        print(error, file=sys.stderr)
        return 1
    return _told(found)


def _found(rounds: int, count: int) -> dict[str, list[Heard]]:
    [upstream] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as folder:
        program, litellm = start_litellm(Path(folder), upstream)
        stack = Stack(Path(folder), StackOptions(upstream=f"http://127.0.0.1:{upstream}", workers=1))
        try:
            stack.start()
            token = stack.token("ada", ["analysts"])
            ports = {
                "directly": (upstream, token),
                "gate": (stack.ports["http"], token),
                "litellm": (litellm, KEY),
            }
            return asyncio.run(measure(ports, upstream, rounds, count))
        finally:
            stack.stop()
            program.stop()


def _told(found: dict[str, list[Heard]]) -> int:
    for name in ("gate", "litellm"):
        if any(PLANTED in one.text or "lovelace" in one.text for one in found[name]):
            print(f"{name} did not mask: {found[name][0].text[-120:]!r}", file=sys.stderr)
            return 1
    direct = median(one.first for one in found["directly"])
    rows = {
        name: {
            "first_ms": median(one.first for one in several),
            "first_later_ms": median(one.first for one in several) - direct,
            "longest_pause_in_prose_ms": median(one.gap(is_prose=True) for one in several),
            "longest_pause_at_value_ms": median(one.gap(is_prose=False) for one in several),
            "texts": len(several[0].events),
        }
        for name, several in found.items()
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"rows": rows, "load_average": os.getloadavg()}, indent=1) + "\n")
    table = Table(
        "a token every 20 ms, in ms", "first text after", "later than directly", "longest pause", "at a value"
    )
    for name, row in rows.items():
        numbers = ("first_ms", "first_later_ms", "longest_pause_in_prose_ms", "longest_pause_at_value_ms")
        table.add_row(name, *(f"{row[one]:.0f}" for one in numbers))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
