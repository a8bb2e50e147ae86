"""Ctrl-C while a store hangs: the command ends, at once and without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from tests.fakes.s3_answers import Server, versions

LOG = "v1/events/dt=2026-11-24/hour=12/replica=r/epoch=20261124T120000000000-0123abcd"
KEYS = tuple(f"{LOG}/{number:016d}-{number:016d}-{number:016x}.jsonl.zst" for number in range(3))


@pytest.fixture
def store():
    """Lists some objects, and answers nobody who wants one. ``asked``: somebody does."""
    made, made.asked, over = Server(), threading.Event(), threading.Event()

    def hang(_):
        made.asked.set()
        over.wait(120)

    made.answers = {"GET": hang, "LIST": versions(*((key, "v", "2026-11-24T12:00:01Z") for key in KEYS))}
    yield made
    over.set()
    made.stop()


def _hears_ctrl_c():
    """Whoever starts the tests in the background has had it ignored, and Python leaves that as it is."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(store, *arguments):
    told = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ext_proc", *arguments],
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hears_ctrl_c,  # noqa: PLW1509 - set before exec
    )
    try:
        assert store.asked.wait(60), process.communicate(timeout=10)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=40)[1]  # a store that hangs is waited for longer, three times over
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("command", ["records list", "query SELECT+1"])
def test_who_reads_the_bucket_waits_for_no_thread(store, tmp_path, command):
    typed = [word.replace("+", " ") for word in command.split()]
    cache = ("--cache", str(tmp_path / "cache")) if "query" in typed else ()
    assert interrupted(store, *typed, "--from", "s3://evidence", *cache) == (130, "")


_TWO_READERS = """
import sys, threading
from datetime import UTC, datetime
from ext_proc.verify.pool import Task, read_all
from ext_proc.verify.source import Version


class Hangs:
    def open(self, version):
        print("asked", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    version = Version("k", "v", True, False, 4, datetime.now(UTC), "v")
    try:
        list(read_all(Hangs(), [Task(version, None, None, False)] * 20, 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_the_processes_of_a_verification_end_without_a_word(tmp_path):
    script = tmp_path / "two_readers.py"
    script.write_text(_TWO_READERS)
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hears_ctrl_c,  # noqa: PLW1509 - set before exec
    )
    try:
        assert [process.stdout.readline(), process.stdout.readline()] == ["asked\n", "asked\n"]
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=40)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert (process.returncode, said) == (130, "")
