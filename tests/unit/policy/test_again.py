"""A bundle is asked again: in order, strictly, without a network, and one bad question does not spoil the others."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import ConfigError
from ext_proc.policy.again import Asker, Failed, capabilities
from ext_proc.policy.trial.opa_program import find_opa
from tests.fakes.policy import opa_program

if TYPE_CHECKING:
    from pathlib import Path


def bundle(folder: Path, rules: str) -> Path:
    """Built by plain OPA: whoever published it need not have used ours."""
    (folder / "src").mkdir()
    (folder / "src" / "policy.rego").write_text(f"package inference\n\n{rules}\n")
    command = [opa_program(), "build", "-b", ".", "-o", str(folder / "b.tar.gz"), "-r", "r1"]
    subprocess.run(command, cwd=folder / "src", check=True)
    return folder / "b.tar.gz"


def test_answers_come_in_order(tmp_path: Path) -> None:
    file = bundle(tmp_path, 'decision := {"n": input.n} if input.n != 3')
    with Asker(opa_program(), file, "inference.decision") as asker:
        answers = asker.ask_all([json.dumps({"n": n}) for n in range(6)])
        assert answers == [{"n": 0}, {"n": 1}, {"n": 2}, None, {"n": 4}, {"n": 5}]
        assert asker.ask_all([]) == []


def test_an_error_is_its_question_s_own(tmp_path: Path) -> None:
    file = bundle(tmp_path, 'decision := {"at": time.parse_rfc3339_ns(input.at)}')
    good = '{"at":"2026-11-25T12:00:00Z"}'
    with Asker(opa_program(), file, "inference.decision") as asker:
        answers = asker.ask_all([good, '{"at":"garbage"}', good])
    assert answers[0] == answers[2] == {"at": 1795608000000000000}
    assert isinstance(answers[1], Failed)
    assert "time.parse_rfc3339_ns" in answers[1].why


@pytest.mark.parametrize(
    "rule",
    [
        'decision := http.send({"method": "get", "url": "http://127.0.0.1:9"})',
        "decision := time.now_ns()",
        'decision := rand.intn("a", 9)',
        "decision := opa.runtime()",
        'decision := crypto.x509.parse_and_verify_certificates("x")',
        'decision := crypto.x509.parse_and_verify_certificates_with_options("x", {})',
        'decision := uuid.rfc4122("a")',
        'decision := net.lookup_ip_addr("localhost")',
    ],
)
def test_what_asks_others_or_changes_by_itself_is_not_asked(tmp_path: Path, rule: str) -> None:
    with (
        pytest.raises(ConfigError, match="undefined function"),
        Asker(opa_program(), bundle(tmp_path, rule), "inference.decision"),
    ):
        pass


def test_a_file_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_bytes(b"no")
    with (
        pytest.raises(ConfigError, match="cannot be asked"),
        Asker(opa_program(), tmp_path / "b.tar.gz", "inference.decision"),
    ):
        pass


def test_its_process_has_no_network(tmp_path: Path) -> None:
    """Where the machine lets us. Its interfaces are its own: there is one, and it is down."""
    from ext_proc.policy import again

    with Asker(opa_program(), bundle(tmp_path, 'decision := {"a": 1}'), "inference.decision") as asker:
        if not asker.is_isolated:
            assert subprocess.run([*again._ISOLATED, "true"], check=False).returncode != 0
            return
        shown = subprocess.run([*again._ISOLATED, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True)
        assert [line.split(":")[0].strip() for line in shown.stdout.splitlines()[2:]] == ["lo"]


def test_capabilities() -> None:
    told = capabilities(opa_program())
    names = {one["name"] for one in told["builtins"]}
    assert told["allow_net"] == []
    assert {"json.match_schema", "time.parse_rfc3339_ns", "net.cidr_contains"} <= names
    assert not {"http.send", "time.now_ns", "opa.runtime"} & names


def test_where_opa_is(tmp_path: Path) -> None:
    assert find_opa(None) == opa_program()
    with pytest.raises(ConfigError, match="no OPA to run"):
        find_opa(tmp_path / "none")
