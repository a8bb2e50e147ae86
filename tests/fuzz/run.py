"""Fuzz the readers: ``python -m tests.fuzz.run --seconds 600``. Needs atheris; `test_regressions` does not.

Each harness runs in a process of its own, from the seeds in ``corpus/``, with limits on the memory and on the time of
one input. What it finds new stays in the folder of ``--keep``. An input that breaks a law ends the run: it is written to
``--keep``, and belongs into ``corpus/`` with the fix.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
HARNESSES = ("json", "sse", "compressed")
INPUT_MAX_BYTES = {"json": 4096, "sse": 4096, "compressed": 2048}
SECONDS_OF_AN_INPUT = 10
"""A hang. The slowest seed takes some milliseconds; instrumented and on a busy machine that is still far away."""
MEMORY_MAX_MB = 1024
_WORDS = ("data: ", "event: ", "id: ", "[DONE]", "\\u0041", "\\ud83d", "true", "null", "1e308", "12345678", "response.")
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")


def main() -> int:
    """Run the harnesses one after the other."""
    asked = argparse.ArgumentParser(description="Fuzz the JSON, SSE and decompression readers.")
    asked.add_argument("harness", nargs="*", choices=[*HARNESSES, []], help="which (all)")
    asked.add_argument("--seconds", type=int, default=600, help="of each harness (600)")
    asked.add_argument("--keep", type=Path, help="folder for what is found (a new one in the temporary folder)")
    options = asked.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("There is no atheris in this Python. Use the environment that `make fuzz` makes.", file=sys.stderr)
        return 2
    keep = options.keep or Path(tempfile.mkdtemp(prefix="affidavit-fuzz-"))
    broken = [name for name in options.harness or HARNESSES if not _run(name, options.seconds, keep / name)]
    for name in broken:
        print(f"{name}: a law is broken. Its input is in {keep / name}: replay it with tests/fuzz/test_regressions.py")
    return 1 if broken else 0


def _run(name: str, seconds: int, keep: Path) -> bool:
    found = keep / "found"
    found.mkdir(parents=True, exist_ok=True)
    tokens = _dictionary(keep / "tokens")
    command = [
        sys.executable, "-c", f"from tests.fuzz import run; run.fuzz({name!r})",
        str(found), str(HERE / "corpus" / name),
        f"-max_total_time={seconds}", f"-max_len={INPUT_MAX_BYTES[name]}", f"-timeout={SECONDS_OF_AN_INPUT}",
        f"-rss_limit_mb={MEMORY_MAX_MB}", f"-artifact_prefix={keep}/", f"-dict={tokens}",
    ]  # fmt: skip
    log = keep / "log"
    with log.open("wb") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, cwd=HERE.parents[1])
    said = log.read_text(errors="replace")
    done = _DONE.search(said)
    runs = f"{int(done[1]):,} inputs in {done[2]} s" if done else "stopped"
    print(f"{name}: {runs}, {len(list(found.iterdir()))} kept", flush=True)
    if ended.returncode or done is None:
        print("\n".join(said.splitlines()[-40:]), file=sys.stderr)
        return False
    return True


def _dictionary(path: Path) -> Path:
    """Words that no fuzzer comes upon by itself."""
    from ext_proc.protocols.streaming.walking import _KNOWN  # not above: what is imported there is not instrumented

    words = (*_WORDS, *(f'"{key}":' for key in sorted(_KNOWN)))
    path.write_text("".join(f"{_quoted(word)}\n" for word in words))
    return path


def _quoted(word: str) -> str:
    """As libFuzzer's dictionaries have it."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fuzz(name: str) -> None:
    """In a process of its own: one harness, until its time is over. Does not come back."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["ext_proc"]):
        harness = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    atheris.Setup(["fuzz", *sys.argv[1:]], harness.one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
