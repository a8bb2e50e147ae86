"""Two third parties' tests of gateways that mask pass with a whole gateway of ours, and fail where masking is off."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.foreign.suites import SECRETS_MASKED, Place, Ran, canarywire, leak_check, place, splits

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK: Final = Path(__file__).with_name("faults.py").resolve()
FAULTS: Final = {
    "gate-killed": ("gate", "supervisor", "refuse"),
    "policy-frozen": ("policy", "opa", "refuse"),
    "store-frozen": ("store", "seaweedfs", ["refuse", "deliver"]),
}
"""What is broken, the program, and what may come of a request meanwhile. Evidence waits for a store on a disk of its own, so a
request may be served, masked as ever."""


@pytest.fixture(scope="module")
def masking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("masking"), is_masking=True) as made:
        yield made


@pytest.fixture(scope="module")
def letting_through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The same with a policy that masks nothing."""
    with place(tmp_path_factory.mktemp("open"), is_masking=False) as made:
        yield made


def faults(at: Place) -> list[dict[str, Any]]:
    """For canarywire: see `tests.foreign.faults`."""

    def command(verb: str, part: str, program: str) -> str:
        arguments = (part, at.stack.folder, at.stack.ports["http"], at.stack.pids()[program])
        return shlex.join([sys.executable, str(HOOK), verb, *map(str, arguments)])

    return [
        {
            "name": name,
            "before": command("break", part, program),
            "after": command("mend", part, program),
            "expect": expected,
        }
        for name, (part, program, expected) in FAULTS.items()
    ]


# canarywire ----------------------------------------------------------------------------------------------------------


def test_canarywire(masking: Place, tmp_path: Path) -> None:
    """All its templates (plain, several turns, tools) through OpenAI's and Anthropic's protocol: no value gets to the
    model, none of its placeholders is changed on the way back however the stream is cut, and where a part of the
    gateway is gone a request is refused. ``mask-only``: the shipped policy masks for good, it does not restore."""
    done = canarywire(masking, tmp_path, faults=faults(masking))
    told = done.report("out/report.json")
    assert (done.status, told["outcome"], told["problems"], told["findings"]) == (0, "pass", [], []), done.said
    assert told["negative_control"]["caught"]
    ended = Counter((attack["name"].split("/")[0], attack["status"]) for attack in told["attacks"])
    assert ended == {
        ("baseline", "delivered"): 6,
        ("fragmentation", "delivered"): 64,
        ("fault", "delivered"): 4,
        ("fault", "refused"): 4,
    }
    assert told["verified"] > 300
    assert {one["name"]: one["before"]["exit"] for one in told["faults"]} == dict.fromkeys(FAULTS, 0)


def test_canarywire_tells_where_nothing_is_masked(letting_through: Place, tmp_path: Path) -> None:
    only = {"fragmentation": {"enabled": False}, "fault": {"enabled": False}}
    done = canarywire(letting_through, tmp_path, generators=only)
    told = done.report("out/report.json")
    assert (done.status, told["outcome"]) == (1, "fail"), done.said
    assert {leak["attack"] for leak in told["leaks"]} == {attack["name"] for attack in told["attacks"]}
    assert {leak["type"] for leak in told["leaks"]} == {"email", "phone", "iban", "card", "national_id"}


# pii-leak-benchmark: what the model gets ------------------------------------------------------------------------------

PERSONAL: Final = ("CREDIT_CARD", "EMAIL", "SSN")
SECRETS: Final = ("AWS_ACCESS_KEY_ID", "GITHUB_TOKEN", "SLACK_TOKEN")


@pytest.mark.parametrize(
    ("model", "profile", "kinds"),
    [("demo", "pii-v1", PERSONAL), (SECRETS_MASKED, "pii-secrets-v1", PERSONAL + SECRETS)],
)
def test_leak_check(masking: Place, tmp_path: Path, model: str, profile: str, kinds: tuple[str, ...]) -> None:
    """``anonymize``: as ``mask-only`` above. Its own control without a gateway must leak, or it measures nothing."""
    done = leak_check(masking, tmp_path, model, profile)
    told = done.report("checked/current.json")
    assert (done.status, told["verdict"]) == (0, "CLEAN"), done.said
    assert told["entities"] == dict.fromkeys(kinds, "contained")
    assert set(told["required_checks"].values()) == {True}


def test_leak_check_of_a_secret_that_is_refused(masking: Place, tmp_path: Path) -> None:
    """The policy that we ship refuses a request with a secret, so this profile has nothing to measure: that is meant.
    What it does tell is that nothing of such a request came to the model."""
    done = leak_check(masking, tmp_path, "demo", "pii-secrets-v1")
    told = done.report("checked/current.raw.json")["checks"]
    assert done.status == 2, done.said
    assert told["configured_upstream_boundary"]["captured_requests"] == 0
    assert told["sse_validity"]["status_codes"] == [403]


def test_leak_check_tells_where_nothing_is_masked(letting_through: Place, tmp_path: Path) -> None:
    """And no policy can let a secret through."""
    done = leak_check(letting_through, tmp_path, SECRETS_MASKED, "pii-secrets-v1")
    told = done.report("checked/current.json")
    assert (done.status, told["verdict"]) == (1, "LEAK"), done.said
    assert told["entities"] == dict.fromkeys(PERSONAL, "leak") | dict.fromkeys(SECRETS, "contained")


# pii-leak-benchmark: what the caller gets -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut(masking: Place, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return splits(masking, tmp_path_factory.mktemp("cut"), "--exhaustive-splits", "--partial-emission")


def test_nothing_leaks_at_any_split(cut: Ran) -> None:
    """Every value plain and percent-encoded, as words and in a field that no protocol has, cut at every place; the
    caller's own values in the prompt, in a system prompt, in a tool's description and under an unknown key. The profile
    also wants the caller's values back; with a policy that masks for good the best it can say is the outcome here."""
    [row] = cut.report("out/summary.json")["rows"]
    assert cut.status == 0, cut.said
    assert (row["schema_valid"], row["cases_applicable"], row["cases_attempted"], row["inconclusive"]) == (
        True,
        32,
        32,
        0,
    )
    assert (row["leak_single_chunk"], row["leak_adversarial"], row["delta_frag"]) == (0, 0, 0)
    assert row["request_path_leak"] == []
    assert row["outcome"] == "no-leak-profile-not-met"
    checks = cut.report("out/affidavit.json")["checks"]
    assert {name for name, check in checks.items() if not check["passed"]} == {"response_fidelity"}
    assert checks["response_injection_containment"]["fragmentation_strategy"] == "exhaustive-2-part"


def test_no_piece_of_a_value_comes_before_it_is_masked(cut: Ran) -> None:
    """The tier of its own: five characters of a value are too many."""
    told = cut.report("out/affidavit.partial-emission.json")["metrics"]
    assert (told["cases_applicable"], told["cases_inconclusive"]) == (32, 0)
    assert told["partitions_tried"] > 200
    assert told["cases_partial_emission"] == 0


def test_splits_tell_where_nothing_is_masked(letting_through: Place, tmp_path: Path) -> None:
    done = splits(letting_through, tmp_path, "--oracle", "midpoint")
    [row] = done.report("out/summary.json")["rows"]
    assert (row["outcome"], row["leak_single_chunk"], row["leak_adversarial"]) == ("fail", 1, 1), done.said
    assert row["request_path_leak"] == ["CARDPAN", "EMAIL", "SSN", "USPHONE"]
