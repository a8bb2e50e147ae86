"""A real Kubernetes of one node: started, asked and ended. Needs root, and control groups of version 1.

It lives in mount, process, network, group, host-name and message namespaces of its own. Nothing of it listens on this
machine's addresses: `Node.command` gives the way in. Its first process ends with the one that started it, however that
ends, and takes everything along; `Node.stop` also takes its control groups away.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.demo.programs import TOOLS, Program, ProgramError, start
from tests.cluster.node import settings
from tests.cluster.node.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HERE: Final = Path(__file__).parent
READY_SECONDS: Final = 600.0
"""Four seconds where nothing else runs."""
_POLL_SECONDS: Final = 0.2
CONTROLLERS: Final = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


class Node:
    """The node.

    Args:
        programs: what ``build.sh`` made.
        run: folder for everything that it writes. What an earlier one left there is removed.
        say: told what has happened.
    """

    def __init__(self, programs: Path, run: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.programs = programs.resolve()
        self.run = run.resolve()
        self._say = say
        self._process: Program | None = None
        self._inner_pid = 0

    # Starting and ending --------------------------------------------------------------------------------------------

    def start(self, images: Iterable[Path]) -> None:
        """Start it, and load images.

        Raises:
            ProgramError: it does not become ready; nothing of it is left.
        """
        if problem := missing(self.programs):
            raise ProgramError(problem)
        self.stop()
        shutil.rmtree(self.run, ignore_errors=True)
        self._write()
        try:
            self._start(images)
        except BaseException:
            self.stop()
            raise

    def _start(self, images: Iterable[Path]) -> None:
        groups = self._new_groups()
        (self.run / "groups").write_text("".join(f"{group}\n" for group in groups))
        for group in groups:
            group.mkdir(exist_ok=True)
            if group.parts[4] == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((group.parent / name).read_text())
        joined = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        unshare = "exec unshare --mount --pid --net --cgroup --uts --ipc --fork --kill-child"
        environment = {
            **self._environment(),
            "NODE_ADDRESS": settings.ADDRESS,
            "SERVICE_RANGE": settings.SERVICES,
            "POD_RANGE": settings.PODS,
            "CONTROLLERS": " ".join(CONTROLLERS),
        }
        inside = f"{HERE / 'inside.sh'} {self.run}"
        self._process = start(
            "node", ("/bin/bash", "-c", f"{joined} && {unshare} {inside}"), self.run / "log", environment, 0.0
        )
        (self.run / "node.pid").write_text(str(self._process.pid))
        self._await("containerd", "ctr", "version")
        for image in images:
            self.load(image)
        self._await("the API server", "kubectl", "get", "--raw", "/readyz")
        self.apply(settings.dns())
        self._await("the node", "kubectl", "get", "node", "node1")
        self.ask("kubectl", "wait", "--for=condition=Ready", "node/node1", "--timeout=300s")
        self._await("its accounts", "kubectl", "get", "serviceaccount", "default")
        self._say("the node is Ready")

    def stop(self) -> None:
        """End it: its first process takes all others along. Then its control groups go; the logs stay."""
        pid_file = self.run / "node.pid"
        if self._process is not None:
            self._process.process.kill()
            self._process.process.wait()
            self._process = None
        elif pid_file.exists() and _is_ours(int(pid_file.read_text())):
            os.kill(int(pid_file.read_text()), 9)
        pid_file.unlink(missing_ok=True)
        self._inner_pid = 0
        deadline = time.monotonic() + 30
        listed = self.run / "groups"
        for group in map(Path, listed.read_text().splitlines() if listed.exists() else ()):
            while group.exists() and time.monotonic() < deadline:
                for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                    _remove(folder)
                _remove(group)
                time.sleep(0.02)

    def _await(self, what: str, *command: str) -> None:
        assert self._process is not None

        def answers() -> bool:
            time.sleep(_POLL_SECONDS)
            return self.try_to(*command).returncode == 0

        self._process.wait_until(answers, READY_SECONDS)
        self._say(f"{what} answers")

    # Asking ---------------------------------------------------------------------------------------------------------

    def command(self, *command: str | Path) -> list[str]:
        """The command that runs another one inside the node: with its files, network and processes."""
        return [
            "/usr/bin/nsenter", "--target", str(self._pid()), "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup",
            f"--wd={Path.cwd()}", "env", *(f"{name}={value}" for name, value in self._environment().items()),
            *(str(part) for part in command),
        ]  # fmt: skip

    def try_to(
        self, *command: str | Path, stdin: str | None = None, seconds: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return subprocess.run(
            self.command(*command), input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )

    def ask(self, *command: str | Path, stdin: str | None = None, seconds: float = 300) -> str:
        """Run a command inside, and take what it says.

        Raises:
            ProgramError: it failed.
        """
        done = self.try_to(*command, stdin=stdin, seconds=seconds)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise ProgramError(f"{' '.join(str(part) for part in command)}: status {done.returncode}: {said}")
        return done.stdout

    def apply(self, things: Sequence[dict[str, Any]]) -> None:
        """``kubectl apply``."""
        self.ask("kubectl", "apply", "--filename", "-", stdin=yaml.safe_dump_all(things))

    def load(self, image: Path) -> None:
        """Load an image from its archive."""
        self.ask("ctr", "--namespace", "k8s.io", "images", "import", image)

    def _pid(self) -> int:
        """The process id, outside, of the node's first process."""
        if self._inner_pid == 0:
            pid_file = self.run / "node.pid"
            if not pid_file.exists():
                raise ProgramError("the node does not run")
            outer = pid_file.read_text()
            try:
                self._inner_pid = int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
            except (OSError, IndexError):
                return int(outer)  # not unshared yet: whatever is asked fails, and is asked again
        return self._inner_pid

    def _environment(self) -> dict[str, str]:
        debian = self.programs / "debian" / "usr"
        return {
            "PATH": f"{self.programs / 'bin'}:{TOOLS / 'bin'}:{debian / 'sbin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": str(debian / "lib" / "x86_64-linux-gnu"),
            "KUBECONFIG": str(self.run / "admin.conf"),
            "CONTAINERD_ADDRESS": "/run/containerd/containerd.sock",
            "HOME": str(self.run / "home"),
        }

    def _new_groups(self) -> list[Path]:
        """Control groups for it, below those that we are in now."""
        ours = {}
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            ours.update({name.removeprefix("name="): path.rstrip("/") for name in names.split(",")})
        name = f"affidavit-node-{hashlib.sha256(str(self.run).encode()).hexdigest()[:8]}"
        return [Path(f"/sys/fs/cgroup/{one}{ours.get(one, '')}") / name for one in (*CONTROLLERS, "systemd")]

    # Making ---------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        for folder in ("log", "pki", "cni", "home"):
            (self.run / folder).mkdir(parents=True)
        Keys(self.run, settings.ADDRESS, settings.API).make()
        containerd = settings.CONTAINERD.format(run=self.run, programs=self.programs, pause=settings.PAUSE)
        (self.run / "containerd.toml").write_text(containerd)
        written = {
            "cni/10-bridge.conflist": settings.cni(),
            "kubelet.yaml": settings.kubelet(self.run),
            "proxy.yaml": settings.proxy(self.run),
        }
        for name, value in written.items():
            (self.run / name).write_text(yaml.safe_dump(value) if name.endswith(".yaml") else json.dumps(value))
        (self.run / "Corefile").write_text(
            f".:53 {{\n errors\n cache 5\n kubernetes cluster.local {{\n  kubeconfig {self.run}/admin.conf\n }}\n}}\n"
        )


def missing(programs: Path) -> str | None:
    """Why there can be no node here; None if there can."""
    if os.geteuid() != 0:
        return "a node needs root: namespaces, mounts and control groups are made"
    if not Path("/sys/fs/cgroup/memory").is_dir():
        return "a node needs control groups of version 1 (under version 2 it was not tried)"
    if not (programs / "bin" / "kubelet").exists():
        return f"{programs} holds no node: run `make node` (minutes)"
    return None


def _is_ours(pid: int) -> bool:
    try:
        return b"unshare" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:
        return
