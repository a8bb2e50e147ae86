"""`ext_proc.app.process`: states told and read, and no process without its parent."""

from __future__ import annotations

import os
import platform
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ext_proc.app import process
from ext_proc.app.console import run as console
from ext_proc.app.process import DESCRIPTORS, PARENT_VARIABLE, allow_descriptors, read_states, tell
from ext_proc.app.serving import supervisor
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def test_what_is_told_is_read(run_dir: Path) -> None:
    tell(run_dir, "one", {"is_ready": True})
    tell(run_dir, "two", {"is_ready": True})
    tell(run_dir, "two", {"is_ready": False})
    assert read_states(run_dir) == {
        "one": {"is_ready": True, "pid": os.getpid()},
        "two": {"is_ready": False, "pid": os.getpid()},
    }
    assert sorted(path.name for path in (run_dir / "state").iterdir()) == ["one.json", "two.json"]


def test_what_is_no_state_is_passed_over(run_dir: Path) -> None:
    tell(run_dir, "one", {})
    (run_dir / "state" / "half.json").write_text('{"pid": 1')
    (run_dir / "state" / "folder.json").mkdir()
    assert list(read_states(run_dir)) == ["one"]


def test_no_folder_no_states(tmp_path: Path) -> None:
    assert read_states(tmp_path / "nothing") == {}


def test_disk_that_takes_nothing_does_not_end_the_process(tmp_path: Path) -> None:
    tell(tmp_path / "nothing", "one", {"is_ready": True})
    assert read_states(tmp_path / "nothing") == {}


_HOARDER = """
import resource
from ext_proc.app.process import give_back_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
much, last = [bytes(100_000) for _ in range(1_000)], bytes(100_000)  # below what is mapped, and given back, by itself
del much
kept = resident()
give_back_memory()
print(before, kept, resident(), len(last))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc keeps memory, and gives it back")
def test_memory_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HOARDER], capture_output=True, text=True, check=True)
    before, kept, after, _ = map(int, done.stdout.split())
    assert kept - before > 50_000_000
    assert after - before < 20_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked")
def test_child_ends_with_its_parent(tmp_path: Path) -> None:
    """SIGKILL leaves the parent no time to say good-bye."""
    child = "import time\nfrom ext_proc.app.process import end_with_parent\nend_with_parent()\nprint('ready', flush=True)\ntime.sleep(60)"
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\ntime.sleep(60)"
    )
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    pid = int(started.stdout.readline())
    assert _is_running(pid)
    started.send_signal(signal.SIGKILL)
    started.wait()
    started.stdout.close()
    deadline = time.monotonic() + 10
    while _is_running(pid):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.02)


def test_parent_that_is_gone_already_is_noticed() -> None:
    """It died while the child was still being started: the kernel has nothing to tell any more."""
    command = [sys.executable, "-c", "from ext_proc.app.process import end_with_parent\nend_with_parent()\nprint('on')"]
    for parent, expected in (("1", 1), (str(os.getpid()), 0)):
        env = {**os.environ, PARENT_VARIABLE: parent}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stderr
        assert ("on" in done.stdout) is (expected == 0)


_ADOPTING = """
import os, subprocess, time
from ext_proc.app.process import Orphans, adopt_orphans
adopt_orphans()
orphans = Orphans()
orphans.look()
said = subprocess.run(["sh", "-c", "sleep 0 & echo $!"], capture_output=True, text=True)
mine = subprocess.Popen(["sh", "-c", "exit 3"])
for pid in (int(said.stdout), mine.pid):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
orphans.look()
assert mine.wait() == 3, "somebody waited for it, and it was buried at the first look"
orphans.look()
orphans.look()
print(os.path.exists(f"/proc/{said.stdout.strip()}"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux is asked")
def test_dead_orphan_is_buried_and_nobody_elses_child() -> None:
    done = subprocess.run([sys.executable, "-c", _ADOPTING], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def _is_running(pid: int) -> bool:
    """Not gone, and not only waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """Of descriptors; as they were, afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_of_descriptors_is_raised_to_what_we_may_have(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    allow_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(limits[1], DESCRIPTORS), limits[1])


@pytest.mark.parametrize("run", [supervisor.run, console.run])
def test_servers_raise_it(run: Callable[[Path], int], limits: tuple[int, int], tmp_path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    with pytest.raises(ConfigError):
        run(tmp_path / "nowhere.yaml")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256


def test_a_soft_limit_that_is_higher_stays(limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DESCRIPTORS", 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    allow_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256


def test_without_file_descriptors_nobody_says_anything(run_dir: Path) -> None:
    tell(run_dir, "one", {"at": 1})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        found = read_states(run_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found == {}
    assert list(read_states(run_dir)) == ["one"]
