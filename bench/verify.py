"""The verifier on a large log: leaves a second without payloads, payload bytes a second, resident memory.

``python -m bench.verify --leaves 1000000`` makes an export of so many leaves (kept in a temporary folder for the next
run), verifies it in a fresh process and writes ``bench/out/verify.json``. Leaves are of about 1 KB, an exchange without
the optional fields; real ones with two payloads are of 2 to 3 KB. A few packs of 1 MiB ciphertexts measure the payload
digests beside ``openssl speed sha256``.

On a machine that does other work, too, only CPU time tells: figures in ``_per_cpu_second_x2`` are what two idle cores
would give, by the CPU time of all processes, their start included.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ext_proc.verify import Progress, verify

OUT: Final = Path(__file__).parent / "out" / "verify.json"
GATEWAY: Final = "bench.example/affidavit"
EPOCHS: Final = 10
PER_OBJECT: Final = 4000
START: Final = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)
STEP: Final = timedelta(milliseconds=20)
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PUBLIC: Final = _KEY.public_key().public_bytes_raw()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--payload-mb", type=int, default=1024)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--measure", type=Path, help="(its own child) verify this folder and print figures")
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.jobs)))
        return 0
    found: dict[str, Any] = {"leaves": options.leaves, "jobs": options.jobs, "cpus": os.cpu_count()}
    found["records"] = run(made(f"leaves-{options.leaves}", options.leaves, 0), options.jobs)
    found["payloads"] = run(made(f"payloads-{options.payload_mb}", 200, options.payload_mb), options.jobs)
    payload_mb = options.payload_mb * 1.048576
    found["payloads"]["mb_per_second"] = round(payload_mb / found["payloads"]["seconds"])
    found["payloads"]["mb_per_cpu_second_x2"] = round(2 * payload_mb / found["payloads"]["cpu_seconds"])
    found["openssl_sha256_mb_per_second"] = openssl_speed()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0 if found["records"]["ok"] and found["payloads"]["ok"] else 1


def run(folder: Path, jobs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.verify", "--measure", str(folder), "--jobs", str(jobs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# Measuring -----------------------------------------------------------------------------------------------------------


def measure(folder: Path, jobs: int) -> dict[str, Any]:
    total = json.loads((folder / "total.json").read_text())["leaves"]
    memory: list[tuple[int, float]] = []
    seen = 0

    def progress(told: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen % 50 == 0 or told.step == "done":
            memory.append((told.leaves, resident_mb()))

    began, cpu = time.perf_counter(), os.times()
    report = verify(str(folder / "export"), folder / "policy.yaml", jobs=jobs, progress=progress)
    seconds, after = time.perf_counter() - began, os.times()
    spent = after.user + after.children_user + after.system + after.children_system
    spent -= cpu.user + cpu.children_user + cpu.system + cpu.children_system
    tenth = [size for leaves, size in memory if leaves <= total // 10 + PER_OBJECT * 50]
    return {
        "ok": report.ok,
        "findings": [one.code for one in report.findings[:5]],
        "leaves": report.leaves,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(spent, 2),
        "leaves_per_second": round(report.leaves / seconds),
        "leaves_per_cpu_second_x2": round(2 * report.leaves / spent),
        "peak_rss_mb_at_a_tenth": round(max(tenth, default=0), 1),
        "peak_rss_mb": round(max((size for _, size in memory), default=0), 1),
    }


def resident_mb() -> float:
    """Of this process and its children; what they share is counted each time."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    total = 0
    for pid in (str(me), *children):
        try:
            text = Path(f"/proc/{pid}/statm").read_text()
        except OSError:
            continue
        total += int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total / 1e6


def openssl_speed() -> float:
    done = subprocess.run(
        ["openssl", "speed", "-seconds", "2", "-bytes", "1048576", "sha256"], check=True, capture_output=True, text=True
    )
    return float(re.findall(r"^sha256\s+([\d.]+)k", done.stdout, re.MULTILINE)[0]) / 1000


# Making --------------------------------------------------------------------------------------------------------------


def made(name: str, leaves: int, payload_mb: int) -> Path:
    """The folder of an export, made unless it is there."""
    folder = Path(tempfile.gettempdir()) / "affidavit-bench-verify" / name
    if (folder / "total.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "export").mkdir(parents=True)
    epochs = EPOCHS if leaves >= 100_000 else 1
    each = leaves // epochs
    work = [(str(folder / "export"), number, each, payload_mb if number == 0 else 0) for number in range(epochs)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(make_epoch, work)
    lines = sorted(line for part in parts for line in part)
    (folder / "export" / "inventory.jsonl").write_bytes(b"".join(lines))
    end = START + STEP * (each + 1) + timedelta(minutes=1)
    told = {
        "bucket": "bench", "prefix": "", "versioning": "Enabled", "exported_at": instant(end),
        "object_lock": {"enabled": True, "mode": "COMPLIANCE", "days": 400},
    }  # fmt: skip
    (folder / "export" / "bucket.json").write_bytes(canonical(told))
    sums = (f"{sha((folder / 'export' / one).read_bytes())}  {one}\n" for one in ("bucket.json", "inventory.jsonl"))
    (folder / "export" / "inventory.sha256").write_text("".join(sums))
    policy = {
        "schema": "affidavit/policy/v1", "gateway": GATEWAY, "log_keys": [base64.b64encode(_PUBLIC).decode()],
        "retention_days": 400, "heartbeat_seconds": 60, "clock_tolerance_seconds": 300,
    }  # fmt: skip
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "total.json").write_text(json.dumps({"leaves": each * epochs}))
    return folder


def make_epoch(folder: str, number: int, leaves: int, payload_mb: int) -> list[bytes]:
    """One epoch of so many leaves; its lines of the inventory."""
    maker = _Maker(Path(folder), number)
    maker.roster()
    per_object = PER_OBJECT if not payload_mb else max(1, leaves // 20)
    for first in range(0, leaves, per_object):
        maker.segment(first, min(per_object, leaves - first), leaves, payload_mb * per_object // leaves)
    maker.digest()
    return maker.inventory


class _Maker:
    def __init__(self, folder: Path, number: int) -> None:
        self.inventory: list[bytes] = []
        self._folder = folder
        self._replica = f"gw-{number}-0"
        self._epoch = f"20261124T000000000000-{number:08x}"
        self._origin = f"{GATEWAY}/{self._replica}/{self._epoch}"
        self._stack: list[tuple[int, bytes]] = []
        self._objects: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}
        self._size = 0
        self._intent, self._outcome = (template(self._origin, kind).encode() for kind in ("intent", "outcome"))

    def roster(self) -> None:
        told = {
            "schema": "affidavit/roster/v1", "origin": self._origin, "at": instant(START), "role": "0",
            "log_key": base64.b64encode(_PUBLIC).decode(), "receipt_key": None, "config_sha256": "0" * 64,
        }  # fmt: skip
        key = f"v1/roster/dt=2026-11-24/{self._replica}.{self._epoch}.note"
        self._put(key, note(self._origin, canonical(told)), START)

    def segment(self, first: int, count: int, leaves: int, payload_mb: int) -> None:
        at = START + STEP * first
        ciphertexts = [os.urandom(1 << 20) for _ in range(payload_mb)]
        is_plain = payload_mb > 0
        lines = [
            self._leaf(n, leaves, ciphertexts if n == first + 1 else [], is_plain=is_plain)
            for n in range(first, first + count)
        ]
        for line in lines:
            self._add(hashlib.sha256(b"\0" + line).digest())
        self._size += count
        end = START + STEP * (self._size - 1) + timedelta(seconds=1)
        place = f"dt={instant(at)[:10]}/hour={instant(at)[11:13]}/replica={self._replica}/epoch={self._epoch}"
        span = f"{first:016d}-{first + count - 1:016d}"
        if ciphertexts:
            parts = (hashlib.sha256(one).digest() + struct.pack(">Q", len(one)) + one for one in ciphertexts)
            self._object(f"v1/payload/{place}/{span}", b"AFP1" + b"".join(parts), "pack", end)
        body = zstandard.ZstdCompressor(level=3).compress(b"".join(line + b"\n" for line in lines))
        self._object(f"v1/events/{place}/{span}", body, "jsonl.zst", end)
        text = f"{self._origin}\n{self._size}\n{base64.b64encode(self._root()).decode()}\n".encode()
        body = note(self._origin, text)
        self._put(f"v1/log/{self._replica}/{self._epoch}/checkpoint/{self._size:016d}-{sha(body)[:16]}.note", body, end)

    def digest(self) -> None:
        last = START + STEP * (self._size - 1)
        told = {
            "schema": "affidavit/digest/v1", "origin": self._origin, "number": 0, "from": instant(START),
            "to": instant(last), "first_sequence": 0, "size": self._size, "root_hash": self._root().hex(),
            "objects": self._objects, "counts": self._counts, "previous_sha256": None, "is_last": True,
            "at": instant(last),
        }  # fmt: skip
        body = note(self._origin, canonical(told))
        place = f"dt=2026-11-24/hour=00/replica={self._replica}/epoch={self._epoch}"
        self._put(f"v1/digest/{place}/000000-{sha(body)[:16]}.note", body, last + timedelta(seconds=2))

    def _leaf(self, n: int, leaves: int, ciphertexts: list[bytes], *, is_plain: bool) -> bytes:
        at = instant(START + STEP * n).encode()
        kind = "log.open" if n == 0 else "log.close" if n == leaves - 1 else None
        if kind is None and not is_plain:
            kind = "inference.intent" if n % 2 else "inference.outcome"
            self._counts[kind] = self._counts.get(kind, 0) + 1
            varied = hashlib.sha256(b"%d" % (n // 2 + n % 2)).hexdigest().encode()
            if n % 2:
                return self._intent % (at, varied[:32], varied[:16], n)
            return self._outcome % (at, varied[:32], n - 1, varied[:16], n)
        kind = kind or "heartbeat"
        told: dict[str, Any] = {
            "schema": "affidavit/v1", "kind": kind, "origin": self._origin, "sequence": n, "at": at.decode(),
            "config_sha256": "0" * 64, "role": "0", "previous": None, "receipt_key": None, "leaves": n + 1,
        }  # fmt: skip
        if ciphertexts:
            kind = told["kind"] = "inference.outcome"
            told |= {"exchange_id": "x", "outcome": {"status": "completed"}, "intent_sequence": None}
            told["payloads"] = [{"ciphertext_sha256": sha(one)} for one in ciphertexts]
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return canonical(told)[:-1]

    def _add(self, node: bytes) -> None:
        level = 0
        while self._stack and self._stack[-1][0] == level:
            node = hashlib.sha256(b"\1" + self._stack.pop()[1] + node).digest()
            level += 1
        self._stack.append((level, node))

    def _root(self) -> bytes:
        root = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            root = hashlib.sha256(b"\1" + left + root).digest()
        return root

    def _object(self, stem: str, body: bytes, suffix: str, at: datetime) -> None:
        key = f"{stem}-{sha(body)[:16]}.{suffix}"
        self._put(key, body, at)
        self._objects.append({"key": key, "sha256": sha(body), "bytes": len(body)})

    def _put(self, key: str, body: bytes, at: datetime) -> None:
        path = self._folder / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        told = {
            "key": key, "version": "1", "is_latest": True, "is_delete_marker": False, "bytes": len(body),
            "sha256": sha(body), "lock_mode": "COMPLIANCE", "retain_until": instant(at + timedelta(days=400)),
            "legal_hold": False, "last_modified": instant(at), "file": f"objects/{key}",
        }  # fmt: skip
        self.inventory.append(canonical(told))


def template(origin: str, kind: str) -> str:
    """A leaf of about 1 KB with places for what varies."""
    told: dict[str, Any] = {
        "schema": "affidavit/v1", "kind": f"inference.{kind}", "origin": origin, "sequence": "@d", "at": "@s",
        "exchange_id": "@s", "payloads": [], "connection": "demo",
        "actor": {
            "subject_ref": f"hmac-sha256:{'a' * 64}", "issuer": "https://issuer.example", "method": "oidc",
            "client": None, "groups_ref": f"hmac-sha256:{'b' * 64}", "token_ref": None,
        },
        "source": {"address_ref": f"hmac-sha256:{'d' * 64}", "user_agent_ref": None},
        "policy": {
            "approval_required": False, "decision_id": "0b5e", "allow": True, "reasons": [], "revision": "r1",
            "ref": "@s",
        },
        "time": dict.fromkeys(("received", "decided", "recorded"), "2026-11-24T00:00:00.123456Z"),
        "request": {"method": "POST", "path": "/v1/chat/completions", "body_bytes": 512, "operation": "chat"},
    }  # fmt: skip
    if kind == "outcome":
        told["intent_sequence"] = "@d"
        told["outcome"] = {"status": "completed", "http_status": 200, "code": None, "released_bytes": 512}
        told["model"] = {"requested": "demo", "served": "demo-1", "input_tokens": 12, "output_tokens": 80}
    text = canonical(told)[:-1].decode()
    return text.replace('"@d"', "%d").replace("@s", "%s")


def note(name: str, text: bytes) -> bytes:
    kind, message = b"\1", text
    if len(text) > 4096:  # section "Signed notes" of docs/record-format.md
        kind, message = b"\xffaffidavit/note-sha256/v1", f"affidavit note-sha256 v1\n{sha(text)}\n".encode()
    identity = hashlib.sha256(name.encode() + b"\n" + kind + _PUBLIC).digest()[:4]
    blob = base64.b64encode(identity + _KEY.sign(message))
    return text + b"\n" + f"— {name} ".encode() + blob + b"\n"


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


if __name__ == "__main__":
    raise SystemExit(main())
