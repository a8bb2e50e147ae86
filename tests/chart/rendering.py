"""The chart as Helm renders it, and Kubernetes' own schemas to hold it against."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes_validate import SchemaNotFoundError, utils, validate

from tests.fakes import changing

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "affidavit"
CI = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
VERSIONS = [one for one in utils.all_versions() if tuple(map(int, one.split("."))) >= (1, 28)]
OPERATORS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator: Kubernetes has no schemas of them."""

utils.schema_contents = functools.cache(utils.schema_contents)  # or each object costs the reading of them all


class Refused(Exception):
    """Helm did not render; the message is what it said."""


@dataclass(frozen=True)
class Objects:
    """What was rendered."""

    whole: list[dict[str, Any]]

    def one(self, kind: str, name: str = "gw-affidavit") -> dict[str, Any]:
        [found] = [each for each in self.whole if each["kind"] == kind and each["metadata"]["name"] == name]
        return found

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.whole if each["kind"] == kind}

    @property
    def pod(self) -> dict[str, Any]:
        """The gateway's pod."""
        return self.one("StatefulSet")["spec"]["template"]

    def container(self, name: str) -> dict[str, Any]:
        spec = self.pod["spec"]
        [found] = [each for each in (*spec["initContainers"], *spec["containers"]) if each["name"] == name]
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The gateway's configuration."""
        return json.loads(self.one("ConfigMap")["data"]["config.yaml"])

    def specs(self) -> list[tuple[str, dict[str, Any]]]:
        """Every pod's spec, with whose it is."""
        found = []
        for each in self.whole:
            spec = each.get("spec", {})
            if each["kind"] == "Pod":
                found.append((each["metadata"]["name"], spec))
            elif each["kind"] == "StatefulSet":
                found.append((each["metadata"]["name"], spec["template"]["spec"]))
            elif each["kind"] == "CronJob":
                found.append((each["metadata"]["name"], spec["jobTemplate"]["spec"]["template"]["spec"]))
        return found


def helm_program() -> Path:
    found = ROOT / ".tools" / "bin" / "helm"
    assert found.exists(), "run `make setup`: .tools/bin/helm is not there"
    return found


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm_program(), *arguments], capture_output=True, text=True, timeout=120, check=False)


def ci_values(name: str) -> dict[str, Any]:
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The values with one put in; `...` takes it out."""
    return changing.changed(values, path.split("/"), value)


def text_of(values: dict[str, Any], *more: str, name: str = "gw") -> str:
    """What ``helm template`` prints.

    Raises:
        Refused: it does not.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        done = helm("template", name, str(CHART), "--namespace", "gateway", "--values", file.name, *more)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def rendered(values: dict[str, Any], *more: str, name: str = "gw") -> Objects:
    return Objects([one for one in yaml.safe_load_all(text_of(values, *more, name=name)) if one])


def misfits(objects: Objects, version: str) -> list[str]:
    """What Kubernetes' own schemas say against them."""
    found = []
    for one in objects.whole:
        try:
            validate(one, version, strict=True)
        except SchemaNotFoundError:
            if one["kind"] not in OPERATORS:
                found.append(f"{one['kind']}: unknown in {version}")
        except Exception as error:  # noqa: BLE001 - the library raises its own and jsonschema's
            found.append(f"{one['kind']} {one['metadata']['name']}: {getattr(error, 'message', error)}")
    return found
