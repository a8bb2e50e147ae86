"""What the gateway does, told step by step, each step checked against what is in the locked bucket.

What the model saw is read from the evidence (decrypted with the demo's own keys), not from a side channel.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import zstandard
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from ext_proc.app import registry
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit import reader
from ext_proc.audit.origin import Origin
from ext_proc.config import load
from ext_proc.demo.people import People
from ext_proc.demo.telling import StoryError
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from ext_proc.config import S3Section
    from ext_proc.demo.stack import Stack

# Planted: none of it may be found in clear anywhere afterwards.
CALLER_EMAIL: Final = "grace.hopper@example.org"
CALLER_CARD: Final = "4111 1111 1111 1111"
MODEL_EMAIL: Final = "ada.lovelace@example.net"
MODEL_PHONE: Final = "+1 415 555 0134"
SECRET: Final = "ghp_" + "Zq8" * 12

# The demo's model is tiny and says what it likes. A grammar (llama.cpp, GBNF) makes it say an address, token by token.
# It is written in pieces, or the gate would mask it on the way in.
GRAMMAR: Final = 'root ::= "You can reach Ada at ada.lovelace" "@" "example.net or +1 415" " 555 0134."'
# Where to look at least: a search of nothing finds nothing.
PLACES: Final = (
    "gate.log",
    "envoy.log",
    "opa.log",
    "access.jsonl",
    "metrics",
    "config.yaml",
    "v1/events/",
    "v1/payload/",
)
SHIPPED_SECONDS: Final = 30.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller got."""

    status: int
    body: str
    exchange_id: str


def tell_story(stack: Stack) -> int:
    """Every step in order; 0 only if each was as told."""
    return Story(stack).tell()


class Story:
    """The steps, and what they have in common.

    Args:
        stack: runs.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._console = Console(width=None if os.isatty(1) else 110, highlight=False)
        config, _ = load(stack.config)
        self._config = config
        self._store = store_of(config)
        self._keys = registry.keyring(config)
        self.analyst = stack.token("grace", ["analysts"])
        self._locked_key = ""

    def tell(self) -> int:
        """Every step in order; 0 only if each was as told."""
        people = People(self)
        steps: list[tuple[str, Callable[[], None]]] = [
            ("An analyst calls the model. Personal data is masked both ways.", self._allowed),
            ("A guest calls. The policy says no.", self._denied),
            ("Somebody shows a token that nobody signed.", self._bad_token),
            ("An analyst pastes a credential. It goes nowhere.", self._secret),
            ("A risky call waits. Somebody else agrees, and it goes through.", people.approved),
            ("Another one is denied.", people.denied),
            ("Nobody answers a third one in time.", people.expired),
            ("A worker is killed in the middle of a call. Its record is recovered.", self._killed),
            ("Somebody with the gateway's own credentials tries to get rid of the evidence.", self._tampered),
            ("Is anything that was planted to be found in clear?", self._searched),
        ]
        failed = 0
        for number, (title, step) in enumerate(steps, 1):
            self._console.print(f"\n[bold]{number}. {title}[/bold]")
            try:
                step()
            except (StoryError, OSError, http.client.HTTPException, KeyError, BotoCoreError, ClientError) as error:
                failed += 1
                self._console.print(f"   [red]✗ not as told: {error}[/red]")
        verdict = "[green]✓ every step was as told[/green]" if not failed else f"[red]✗ {failed} steps failed[/red]"
        self._console.print(f"\n{verdict}")
        return 1 if failed else 0

    # The steps -----------------------------------------------------------------------------------------------------

    def _allowed(self) -> None:
        prompt = f"My name is Grace, {CALLER_EMAIL}, card {CALLER_CARD}. Who can help me?"
        answer = self.ask(prompt, self.analyst, max_tokens=80, grammar=GRAMMAR)
        self.say("asked", prompt)
        intent, outcome = self.records(answer.exchange_id, (LeafKind.INFERENCE_INTENT, LeafKind.INFERENCE_OUTCOME))
        saw = self._payload(intent, PayloadRole.REQUEST_FORWARDED)
        self.say("the model saw", json.loads(saw)["messages"][0]["content"])
        said = json.loads(self._payload(outcome, PayloadRole.RESPONSE_UPSTREAM))["choices"][0]["message"]["content"]
        self.say("the model said", said)
        got = json.loads(answer.body)["choices"][0]["message"]["content"]
        self.say("the caller got", got)
        self.proof(outcome)
        self.expect(answer.status == 200, f"status {answer.status}")
        self.expect(CALLER_EMAIL not in saw and CALLER_CARD not in saw, "the model saw the caller's data")
        self.expect(MODEL_EMAIL in said, "the model did not say what it was made to")
        self.expect(MODEL_EMAIL not in got and "[EMAIL]" in got, "the caller got the address")
        self._locked_key = outcome[0]

    def _denied(self) -> None:
        answer = self.ask("What is our revenue?", self.stack.token("mallory", ["guests"]))
        self.told(answer, "denied", 403)

    def _bad_token(self) -> None:
        header, claims, _ = self.analyst.split(".")
        answer = self.ask("Hello", f"{header}.{claims}.{'A' * 342}")
        self.told(answer, "refused", 401)

    def _secret(self) -> None:
        answer = self.ask(f"Why does {SECRET} not work?", self.analyst)
        self.say("asked", "Why does ghp_… not work?")
        self.told(answer, "denied", 403)

    def _killed(self) -> None:
        before = self._intents()
        ended: list[str] = []

        def call() -> None:
            try:
                # Without an end of its own: a model that is done before its record is in the bucket proves nothing.
                answer = self.ask("Tell me a very long story.", self.analyst, max_tokens=1500, ignore_eos=True)
                ended.append(f"{answer.status} {answer.body}")
            except (OSError, http.client.HTTPException) as error:
                ended.append(type(error).__name__)

        caller = threading.Thread(target=call)
        caller.start()
        worker = self._busy_worker(before)
        os.kill(self.stack.pids()[worker], signal.SIGKILL)
        caller.join(60)
        self.say("killed", f"{worker}, with SIGKILL, while the model was answering")
        self.say("the caller got", ended[0] if ended else "nothing")
        outcome = self.wait_for(self._interrupted, "no interrupted outcome in the bucket")
        self.proof(outcome)
        self.expect(
            bool(ended) and not ended[0].startswith("200"), "the call went through although its worker was killed"
        )

    def _tampered(self) -> None:
        client, bucket, key = self.stack.s3.client(), self.stack.s3.bucket, self._locked_key
        version = self._version(key)
        where = {"Bucket": bucket, "Key": key, "VersionId": version["VersionId"]}
        shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": self._lock(key)[0] - timedelta(days=1)}
        attempts: list[tuple[str, Callable[[], Any]]] = [
            ("delete the version", lambda: client.delete_object(**where)),
            ("hide it behind a delete marker", lambda: client.delete_object(Bucket=bucket, Key=key)),
            ("shorten its retention", lambda: client.put_object_retention(**where, Retention=shorter)),
            ("write over it", lambda: client.put_object(Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")),
        ]
        before = client.get_object(**where)["Body"].read()
        for what, attempt in attempts:
            try:
                attempt()
            except ClientError as error:
                self.say(what, f"refused: {error.response['Error']['Code']}")
            else:
                raise StoryError(f"the store let us {what}")
        client.put_object(Bucket=bucket, Key=key, Body=b"nothing happened")
        self.say("write another version on top", "taken, as S3 does; the locked one stays the oldest")
        self.expect(client.get_object(**where)["Body"].read() == before, "the locked version changed")
        self.expect(self._store.read_back(key) is not None, "the locked version is gone")

    def _searched(self) -> None:
        planted = [CALLER_EMAIL, CALLER_CARD, MODEL_EMAIL, MODEL_PHONE, SECRET, self.stack.credential, self.analyst]
        everything = self._everything()
        found = [f"{name}: {one[:6]}…" for name, content in everything for one in planted if one.encode() in content]
        missing = [place for place in PLACES if not any(place in name for name, _ in everything)]
        self.say("looked into", f"{len(everything)} logs, records, metrics, objects for {len(planted)} planted values")
        self.expect(not missing, f"nothing to look into: {', '.join(missing)}")
        self.expect(not found, f"in clear: {', '.join(found)}")
        self.say("found", "nothing")

    # Asking and reading --------------------------------------------------------------------------------------------

    def ask(self, prompt: str, token: str, max_tokens: int = 40, model: str = "demo", **more: object) -> Answer:
        """A call as a caller makes it; ``more`` is what llama.cpp's server takes beside OpenAI's parameters."""
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": prompt}],
            **more,
        }
        context = ssl.create_default_context(cafile=self.stack.certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", self.stack.ports["tls"], timeout=60, context=context)
        try:
            headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), answer.getheader("x-affidavit-exchange") or "")
        finally:
            connection.close()

    def records(self, exchange_id: str, kinds: tuple[str, ...]) -> list[tuple[str, dict[str, Any]]]:
        """The leaves of an exchange, once they are in the bucket."""

        def look() -> list[tuple[str, dict[str, Any]]] | None:
            found = {leaf["kind"]: (key, leaf) for key, leaf in reader.exchange(self._store, exchange_id)}
            return [found[kind] for kind in kinds] if all(kind in found for kind in kinds) else None

        return self.wait_for(look, f"no record of {exchange_id} in the bucket")

    def leaf(self, origin: str, sequence: int) -> dict[str, Any] | None:
        """One leaf by its place, if it is in the bucket."""
        found = (leaf for _, leaf in reader.leaves(self._store))
        return next((one for one in found if (one["origin"], one["sequence"]) == (origin, sequence)), None)

    def wait_for(self, look: Callable[[], _T | None], otherwise: str) -> _T:
        """What ``look`` finds, once it finds something."""
        deadline = time.monotonic() + SHIPPED_SECONDS
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(0.3)
        raise StoryError(otherwise)

    def _payload(self, record: tuple[str, dict[str, Any]], role: str) -> str:
        return reader.payloads(self._store, self._keys, *record)[role].decode()

    def _version(self, key: str) -> dict[str, Any]:
        client = self.stack.s3.client()
        found = client.list_object_versions(Bucket=self.stack.s3.bucket, Prefix=key)["Versions"]
        oldest: dict[str, Any] = found[-1]
        return oldest

    def told(self, answer: Answer, status: str, http_status: int) -> None:
        """A refusal: what the caller got, and its record."""
        self.say("the caller got", f"{answer.status} {answer.body}")
        self.expect(answer.status == http_status, f"status {answer.status}")
        [outcome] = self.records(answer.exchange_id, (LeafKind.INFERENCE_OUTCOME,))
        self.proof(outcome)
        said = outcome[1]["outcome"]
        self.expect((said["status"], said["http_status"]) == (status, http_status), f"the record says {said}")

    def _intents(self) -> set[str]:
        return {
            leaf["exchange_id"] for _, leaf in reader.leaves(self._store) if leaf["kind"] == LeafKind.INFERENCE_INTENT
        }

    def _busy_worker(self, before: set[str]) -> str:
        """The worker that wrote the newest intent; found in the bucket, like everything that is told here."""

        def look() -> str | None:
            for _, leaf in reader.leaves(self._store):
                if leaf["kind"] == LeafKind.INFERENCE_INTENT and leaf["exchange_id"] not in before:
                    return f"worker-{Origin.read(leaf['origin']).role}"
            return None

        return self.wait_for(look, "the call's intent is not in the bucket")

    def _interrupted(self) -> tuple[str, dict[str, Any]] | None:
        found = reader.leaves(self._store)
        return next(((k, x) for k, x in found if x.get("outcome", {}).get("status") == "interrupted"), None)

    def _everything(self) -> list[tuple[str, bytes]]:
        """Every log, rendered file, metric and object of the run, decompressed. (Key files are where secrets live.)"""
        stack = self.stack
        folders = (stack.logs, stack.folder / "run", stack.folder / "state")
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        found = [(str(path.relative_to(stack.folder)), _read(path)) for path in [*paths, stack.config]]
        found.append(("metrics", stack.metrics().encode()))
        for key in self._store.keys(""):
            body = self._store.fetch(key)
            if key.endswith(".zst"):
                body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
            found.append((key, body))
        return found

    # Saying --------------------------------------------------------------------------------------------------------

    def say(self, what: str, value: str) -> None:
        """One line."""
        self._console.print(f"   [dim]{what:<16}[/dim] ", end="")
        self._console.print(value, markup=False, soft_wrap=True)

    def proof(self, record: tuple[str, dict[str, Any]]) -> None:
        """Where an outcome is, and until when it is locked."""
        key, leaf = record
        until, version = self._lock(key)
        where = s3_url(self._config.audit.s3, key)
        self.say("proof", f"{leaf['kind']} {leaf['outcome']['status']}, record {leaf['sequence']} in {where}")
        self.say("", f"locked (COMPLIANCE) until {until:%Y-%m-%d}, version {version}")

    def _lock(self, key: str) -> tuple[datetime, str | None]:
        """Until when an object is locked, and its version."""
        stored = self._store.read_back(key)
        if stored is None or stored.lock_mode != "COMPLIANCE" or stored.retain_until is None:
            raise StoryError(f"{key} is not locked")
        return stored.retain_until, stored.version

    def expect(self, is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
        """It is so, or the step is not as told."""
        if not is_so:
            raise StoryError(otherwise)


def s3_url(section: S3Section, key: str) -> str:
    """The address of an object as AWS's own tools take it."""
    return f"s3://{section.bucket}/{section.prefix}{key}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a segment that was shipped meanwhile
        return b""
