"""`docs/policy-authors.md` as a newcomer follows it: from a folder of one's own to a refusal by the running demo."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "policy-authors.md").read_text()
READY_SECONDS = 180


def test_rule_of_ones_own_is_enforced(tmp_path: Path) -> None:
    policy, endpoints = tmp_path / "my-policy", tmp_path / "demo.json"
    shutil.copytree(ROOT / "opa", policy)
    files = re.findall(r"`my-policy/([\w/]+interns(?:_test)?\.rego)`:\n\n```rego\n(.*?)```", TEXT, re.DOTALL)
    assert len(files) == 2
    for name, text in files:
        (policy / name).parent.mkdir(exist_ok=True)
        (policy / name).write_text(text)
    [program] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    program = program.replace("/tmp/demo.json", str(endpoints))
    program = program.replace(".venv/bin/affidavit", f"{sys.executable} -m ext_proc")
    command = [sys.executable, "-m", "ext_proc", "demo", "--keep"]
    command += ["--policy", str(policy), "--endpoints", str(endpoints)]
    log = tmp_path / "log"
    with log.open("wb") as said:
        demo = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
    try:
        until = time.monotonic() + READY_SECONDS
        while not endpoints.exists():
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(60)
    assert done.returncode == 0, done.stderr
    answered, refused = done.stdout.strip().rsplit("\n", 1)
    assert answered.startswith("16 tokens: ")
    assert refused == "500 tokens: ['interns_ask_little']"
