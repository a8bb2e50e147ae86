"""`helm/affidavit`: it is clean, Kubernetes takes it in every version, and what it renders is what was looked at."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from ext_proc.config import load
from tests.chart.rendering import CHART, CI, ROOT, VERSIONS, Objects, ci_values, helm, misfits, rendered, text_of

GOLDEN = ROOT / "tests" / "chart" / "golden"


@pytest.mark.parametrize("name", CI)
def test_lint_is_strict_and_clean(name: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{name}-values.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_lint_can_fail(tmp_path: Any) -> None:
    wrong = tmp_path / "values.yaml"
    wrong.write_text(yaml.safe_dump({**ci_values("gateway"), "replicas": "three"}))
    assert helm("lint", "--strict", str(CHART), "--values", str(wrong)).returncode != 0


def test_versions_go_from_the_first_with_native_sidecars_to_the_newest() -> None:
    assert VERSIONS[0] == "1.28.0" and len(VERSIONS) >= 10


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(version: str) -> None:
    for name in CI:
        assert misfits(rendered(ci_values(name), "--kube-version", version), version) == []


def test_a_misspelt_field_would_be_found() -> None:
    objects = rendered(ci_values("gateway"))
    broken = copy.deepcopy(objects.whole)
    for one in broken:
        if one["kind"] == "StatefulSet":
            one["spec"]["template"]["spec"]["securityContex"] = {}
    assert any("securityContex" in one for one in misfits(Objects(broken), VERSIONS[-1]))


def test_older_kubernetes_is_refused() -> None:
    with pytest.raises(Exception, match=r"kubeVersion: >=1\.28"):
        rendered(ci_values("gateway"), "--kube-version", "1.27.0")


@pytest.mark.parametrize("name", CI)
def test_golden(name: str) -> None:
    """Mend with: python -m tests.chart.write_golden"""
    assert text_of(ci_values(name)) == (GOLDEN / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", CI)
def test_configuration_is_one_that_the_gate_takes(name: str, tmp_path: Any) -> None:
    objects = rendered(ci_values(name))
    pod = tmp_path / "name"
    pod.write_text("gw-affidavit-0\n")
    for one in objects.whole:
        if one["kind"] == "ConfigMap" and "config.yaml" in one.get("data", {}):
            path = tmp_path / "config.yaml"
            path.write_text(one["data"]["config.yaml"].replace("/etc/affidavit/pod/name", str(pod)))
            config, _ = load(path)
            assert config.audit.replica == "gw-affidavit-0"
            assert str(config.state_dir) == "/var/lib/affidavit"


def test_large_numbers_stay_whole() -> None:
    assert rendered(ci_values("whole")).config["audit"]["wal"]["max_bytes"] == 17_179_869_184


def test_defaults_alone_say_what_is_missing() -> None:
    done = helm("template", "gw", str(CHART))
    assert done.returncode != 0
    assert "at '/config': missing properties 'identity', 'audit', 'connections'" in done.stderr
