"""What stands in the pods: Pod Security `restricted`, the order of coming and going, who may read what."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from ext_proc.demo.programs import tool
from tests.chart.rendering import CHART, CI, Objects, Refused, changed, ci_values, rendered

GATEWAY = ci_values("gateway")
VOLUMES = {"configMap", "downwardAPI", "emptyDir", "projected", "secret", "persistentVolumeClaim", "ephemeral", "csi"}
"""What `restricted` lets a pod have."""


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def _offences(spec: dict[str, Any]) -> list[str]:
    """What Pod Security `restricted` (v1.36) has against a pod's spec."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [f"volume {one['name']}" for one in spec["volumes"] if not VOLUMES & set(one)]
    pod = spec["securityContext"]
    for one in _containers(spec):
        own = one.get("securityContext", {})
        name = one["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name}: allowPrivilegeEscalation")
        if own.get("privileged"):
            found.append(f"{name}: privileged")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            found.append(f"{name}: capabilities")
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            found.append(f"{name}: runAsNonRoot")
        if own.get("runAsUser", pod.get("runAsUser", 1)) == 0:
            found.append(f"{name}: runAsUser")
        if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            found.append(f"{name}: seccompProfile")
        if any("hostPort" in port for port in one.get("ports", ())):
            found.append(f"{name}: hostPort")
    return found


@pytest.mark.parametrize("name", CI)
def test_restricted_for_every_container_of_every_pod(name: str) -> None:
    specs = rendered(ci_values(name)).specs()
    assert specs
    assert [(whose, _offences(spec)) for whose, spec in specs if _offences(spec)] == []
    for whose, spec in specs:
        assert spec["automountServiceAccountToken"] is False
        for one in _containers(spec):
            is_servers = whose == "gw-affidavit" and one["name"] == "vllm"
            assert one["securityContext"]["readOnlyRootFilesystem"] is not is_servers, one["name"]
            assert set(one["resources"]["requests"]) >= {"cpu", "memory"} and "memory" in one["resources"]["limits"]


def test_offences_would_be_found() -> None:
    [(_, spec)] = rendered(GATEWAY).specs()
    spec["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0}
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    spec["hostNetwork"] = True
    assert len(_offences(spec)) == 6


def test_foreign_containers_cannot_weaken_it() -> None:
    own = {"privileged": True, "runAsUser": 7, "allowPrivilegeEscalation": True, "capabilities": {"add": ["SYS_ADMIN"]}}
    values = changed(ci_values("sidecar"), "server/container/securityContext", own)
    made = rendered(values).container("vllm")["securityContext"]
    assert made["privileged"] is False and made["runAsUser"] == 7
    assert made["capabilities"] == {"drop": ["ALL"]} and made["allowPrivilegeEscalation"] is False


def test_order_of_coming_and_going() -> None:
    """Sidecars end in the reverse order of their start, once the main container has ended: that one drains Envoy."""
    spec = rendered(ci_values("sidecar")).pod["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["vllm", "render", "opa", "gate", "envoy"]
    assert [one["name"] for one in spec["initContainers"] if one.get("restartPolicy") != "Always"] == ["render"]
    assert [one["name"] for one in spec["containers"]] == ["drain"]
    assert all("startupProbe" in one for one in spec["initContainers"] if one["name"] != "render")
    assert not any("lifecycle" in one for one in _containers(spec))


@pytest.mark.parametrize("name", CI)
def test_grace_is_longer_than_the_longest_hold_and_stream(name: str) -> None:
    values = ci_values(name)
    objects = rendered(values)
    grace = objects.pod["spec"]["terminationGracePeriodSeconds"]
    told = dict(one.removeprefix("--").split("=", 1) for one in objects.container("drain")["args"] if "=" in one)
    config = objects.config
    hold = config["listen"].get("hold_seconds", 60)
    assert int(told["deadline-seconds"]) == 5 + hold + 300
    # The supervisor gives its children drain_seconds and ten more; the shipper then has what is left.
    assert grace >= int(told["deadline-seconds"]) + config.get("drain_seconds", 20) + 10 + 30


def test_drain_may_be_longer() -> None:
    values = changed(GATEWAY, "drain/longestStreamSeconds", 1800)
    assert rendered(values).pod["spec"]["terminationGracePeriodSeconds"] == 1930


def _mounts(objects: Objects, name: str) -> dict[str, str]:
    return {one["mountPath"]: one["name"] for one in objects.container(name)["volumeMounts"]}


def test_nobody_but_the_gate_can_take_the_place_of_a_workers_socket() -> None:
    """Whoever answers there says that a call may pass. OPA's own socket is in a folder of OPA's, also with bundles."""
    for form in ("gateway", "whole", "sidecar"):
        objects = rendered(ci_values(form))
        writable = {
            name: {one["mountPath"] for one in objects.container(name)["volumeMounts"] if not one.get("readOnly")}
            for name in ("opa", "gate", "envoy", "render")
        }
        assert [name for name, paths in writable.items() if "/run/affidavit" in paths] == ["gate", "render"]
        assert [name for name, paths in writable.items() if "/run/opa" in paths] == ["opa"]


@pytest.mark.parametrize("form", CI)
def test_nobody_but_the_gate_and_envoy_reaches_envoys_admin_interface(form: str) -> None:
    """On loopback every container of the pod would, the inference server too. It is not in the volumes of others."""
    objects = rendered(ci_values(form))
    assert objects.config["listen"]["admin"] == "unix:/run/envoy/admin.sock"
    spec = objects.pod["spec"]
    seen = {
        one["name"]: mount.get("readOnly", False)
        for one in _containers(spec)
        for mount in one.get("volumeMounts", ())
        if mount["name"] == "admin"
    }
    assert seen == {"gate": True, "envoy": False, "drain": True}
    [volume] = [one for one in spec["volumes"] if one["name"] == "admin"]
    assert volume["emptyDir"]["medium"] == "Memory"


def test_nobody_but_the_gate_can_take_evidence_away() -> None:
    """A folder that others may write in can be renamed by them, whatever is in it."""
    for form in ("gateway", "whole", "sidecar"):
        objects = rendered(ci_values(form))
        seen = {
            name: [one.get("subPath", "") for one in objects.container(name)["volumeMounts"] if one["name"] == "state"]
            for name in ("opa", "gate", "envoy", "render", "drain")
        }
        kept_by_opa = ["policy/opa"] if form == "whole" else []
        assert seen == {"opa": kept_by_opa, "gate": [""], "envoy": ["access"], "render": [], "drain": []}


def test_each_container_reads_what_it_needs() -> None:
    objects = rendered(ci_values("egress"))
    assert _mounts(objects, "opa") == {"/run/opa": "opa", "/etc/affidavit/bundle/bundle.tar.gz": "bundle"}
    envoy = {
        "/run/affidavit": "run",
        "/var/lib/affidavit/access": "state",
        "/etc/affidavit/tls": "tls",
        "/run/envoy": "admin",
    }
    assert _mounts(objects, "envoy") == {**envoy, "/etc/affidavit/configmaps/company-ca": "ca-configmap-company-ca"}
    assert set(_mounts(objects, "drain")) == {"/etc/affidavit/config", "/etc/affidavit/pod", "/run/envoy", "/tmp"}
    gate = _mounts(objects, "gate")
    assert gate["/etc/affidavit/keys"] == "keys"
    for path in ("secrets/registry", "secrets/s3", "secrets/anthropic", "configmaps/kube-root-ca.crt"):
        assert f"/etc/affidavit/{path}" in gate
    assert [one for one in ("render", "opa", "envoy", "drain") if "keys" in _mounts(objects, one).values()] == []
    users = {name: objects.container(name)["securityContext"]["runAsUser"] for name in ("gate", "envoy", "opa")}
    assert len(set(users.values())) == 3


@pytest.mark.parametrize("kind", ["secret", "configmap"])
def test_envoy_reads_the_authority_and_not_what_lies_beside_it(kind: str) -> None:
    """A Secret with a service's key and its authority: the key is the gate's alone."""
    values = changed(GATEWAY, "config/connections/0/upstream/ca_file", f"/etc/affidavit/{kind}s/openai/ca.crt")
    objects = rendered(values)
    mounted = _mounts(objects, "envoy")[f"/etc/affidavit/{kind}s/openai"]
    [volume] = [one for one in objects.pod["spec"]["volumes"] if one["name"] == mounted]
    source = volume["secret"] if kind == "secret" else volume["configMap"]
    assert "openai" in (source.get("secretName"), source.get("name"))
    assert source["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert _mounts(objects, "gate")["/etc/affidavit/secrets/openai"] == "secret-openai"


def test_files_of_the_configuration_are_mounted_from_what_they_are_named_after() -> None:
    objects = rendered(ci_values("whole"))
    volumes = {one["name"]: one for one in objects.pod["spec"]["volumes"]}
    for name in ("registry", "openai", "desk-hook", "console-client"):
        assert volumes[f"secret-{name}"]["secret"]["secretName"] == name
    assert volumes["configmap-policy-key"]["configMap"]["name"] == "policy-key"
    long = "a" * 100 + ".b"
    path = "config/connections/0/credential/file"
    objects = rendered(changed(GATEWAY, path, f"/etc/affidavit/secrets/{long}/key"))
    [volume] = [one for one in objects.pod["spec"]["volumes"] if one.get("secret", {}).get("secretName") == long]
    assert len(volume["name"]) <= 63 and "." not in volume["name"]
    assert _mounts(objects, "gate")[f"/etc/affidavit/secrets/{long}"] == volume["name"]


def test_sockets_in_memory_and_evidence_on_a_claim() -> None:
    objects = rendered(GATEWAY)
    [run] = [one for one in objects.pod["spec"]["volumes"] if one["name"] == "run"]
    assert run["emptyDir"]["medium"] == "Memory"
    spec = objects.one("StatefulSet")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_unsafe_stands_on_the_pod() -> None:
    objects = rendered(ci_values("unsafe"))
    assert objects.pod["metadata"]["annotations"]["affidavit.io/unsafe"] == "ephemeralEvidence,plaintextListener"
    assert "volumeClaimTemplates" not in objects.one("StatefulSet")["spec"]
    assert "affidavit.io/unsafe" not in rendered(GATEWAY).pod["metadata"]["annotations"]
    opened = rendered(changed(GATEWAY, "networkPolicy/enabled", False))
    assert opened.pod["metadata"]["annotations"]["affidavit.io/unsafe"] == "noNetworkPolicy"


def test_unsafe_stands_on_the_console() -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        return rendered(values).one("StatefulSet", "gw-affidavit-console")["spec"]["template"]["metadata"][
            "annotations"
        ]

    values = ci_values("whole")
    assert "affidavit.io/unsafe" not in annotations(values)
    values = changed(changed(values, "unsafe/ephemeralEvidence", True), "persistence/enabled", False)
    assert annotations(values)["affidavit.io/unsafe"] == "ephemeralEvidence"


def test_distribution_gives_opa_its_configuration_and_a_place_to_keep_bundles() -> None:
    objects = rendered(ci_values("whole"))
    opa = objects.container("opa")
    assert "--config-file=/run/affidavit/opa/config.yaml" in opa["args"]
    assert not any(one.startswith("--bundle") for one in opa["args"])
    assert {"name": "state", "mountPath": "/var/lib/affidavit/policy/opa", "subPath": "policy/opa"} in opa[
        "volumeMounts"
    ]
    assert rendered(GATEWAY).container("opa")["args"][-2:] == ["--bundle", "/etc/affidavit/bundle/bundle.tar.gz"]


@pytest.mark.parametrize("name", CI)
def test_programs_understand_what_they_are_told(name: str) -> None:
    """By asking them: one wants `--flag=value`, another knows no such thing, and a switch may look like either."""
    objects = rendered(ci_values(name))
    opa, envoy = (objects.container(one)["args"] for one in ("opa", "envoy"))
    done = subprocess.run([tool("opa"), *opa, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [tool("envoy"), *envoy, "--mode", "validate"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "bootstrap.yaml" in done.stderr, done.stderr
    assert "PARSE ERROR" not in done.stderr


def test_another_configuration_is_another_pod() -> None:
    def checksum(values: dict[str, Any]) -> str:
        return rendered(values).pod["metadata"]["annotations"]["checksum/config"]

    assert checksum(GATEWAY) == checksum(changed(GATEWAY, "replicas", 1))
    assert checksum(GATEWAY) != checksum(changed(GATEWAY, "config/workers", 3))


def test_autoscaling_counts_the_gate_alone() -> None:
    objects = rendered(ci_values("whole"))
    spec = objects.one("HorizontalPodAutoscaler")["spec"]
    [metric] = spec["metrics"]
    assert metric["containerResource"]["container"] == "gate"
    assert "replicas" not in objects.one("StatefulSet")["spec"]


def test_role_of_the_cloud_is_the_gates_alone() -> None:
    annotations = rendered(GATEWAY).pod["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/skip-containers"] == "render,opa,envoy,drain,server"


def test_verification_is_by_somebody_else() -> None:
    objects = rendered(ci_values("whole"))
    spec = objects.one("CronJob", "gw-affidavit-verify")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "default"
    names = {
        next(iter(one.get(kind, {}).values()), None) for one in spec["volumes"] for kind in ("secret", "configMap")
    }
    assert "affidavit-keys" not in names
    [container] = spec["containers"]
    assert container["args"] == [
        "verify", "s3://evidence/prod", "--policy=/etc/affidavit/auditor/policy.yaml", "--jobs=2", "--without-payloads"
    ]  # fmt: skip


def test_shipper_of_the_console_is_asked_whether_it_goes_on() -> None:
    """No supervisor would see that it hangs. Not whether the store takes anything: a restart would not help."""
    spec = rendered(ci_values("whole")).one("StatefulSet", "gw-affidavit-console")["spec"]["template"]["spec"]
    [shipper] = spec["initContainers"]
    [port] = shipper["ports"]
    assert f"--listen=0.0.0.0:{port['containerPort']}" in shipper["args"]
    for probe in ("startupProbe", "livenessProbe"):
        assert shipper[probe]["httpGet"] == {"path": "/live", "port": port["name"]}
    assert "readinessProbe" not in shipper
    others = {one["containerPort"] for each in spec["containers"] for one in each["ports"]}
    assert port["containerPort"] not in others


def test_console_has_a_shipper_and_no_bundles_to_give() -> None:
    objects = rendered(ci_values("whole"))
    spec = objects.one("StatefulSet", "gw-affidavit-console")["spec"]["template"]["spec"]
    assert [one["args"][0] for one in spec["initContainers"]] == ["ship"]
    assert [one["args"][0] for one in spec["containers"]] == ["console"]
    config = json.loads(objects.one("ConfigMap", "gw-affidavit-console")["data"]["config.yaml"])
    assert "distribution" not in config["policy"] and config["console"]["listen"] == "0.0.0.0:8090"


@pytest.mark.parametrize(("size", "most", "room"), [("2Gi", 16 << 30, 1 << 30), ("40Gi", 4 << 30, 4 << 30)])
def test_evidence_of_the_console_fits_on_its_own_claim(size: str, most: int, room: int) -> None:
    """With the gateway's room `AffidavitDiskFilling` fired for ever there, and `AffidavitEvidenceBacklog` never."""
    values = changed(changed(ci_values("whole"), "console/size", size), "config/audit/wal/max_bytes", most)
    objects = rendered(values)
    config = json.loads(objects.one("ConfigMap", "gw-affidavit-console")["data"]["config.yaml"])
    assert config["audit"]["wal"] == {"max_bytes": room, "segment_bytes": 64 << 20}
    assert objects.config["audit"]["wal"]["max_bytes"] == most


def test_console_has_no_credentials_of_services() -> None:
    objects = rendered(ci_values("whole"))
    spec = objects.one("StatefulSet", "gw-affidavit-console")["spec"]["template"]["spec"]
    there = {one["name"] for one in spec["volumes"]}
    there |= {mount["name"] for one in _containers(spec) for mount in one["volumeMounts"]}
    assert "secret-openai" not in there and "secret-registry" in there


def test_commands_that_pods_run_are_commands() -> None:
    from ext_proc.cli import build_parser
    from ext_proc.cli.inner import inner_parser

    for name in CI:
        for _, spec in rendered(ci_values(name)).specs():
            for one in _containers(spec):
                if one["image"].partition("@")[0].rpartition("/")[2].startswith("affidavit:"):
                    parser = inner_parser() if one["args"][0] == "ship" else build_parser()
                    assert parser.parse_args(one["args"]).run


@pytest.mark.parametrize(
    ("part", "file", "kind", "name"),
    [
        ("rules", "alerts.yaml", "PrometheusRule", "gw-affidavit"),
        ("dashboard", "dashboard.json", "ConfigMap", "gw-affidavit-dashboard"),
    ],
)
def test_alerts_and_dashboard_are_those_of_the_files(part: str, file: str, kind: str, name: str) -> None:
    values = changed(GATEWAY, f"monitoring/{part}", {"enabled": True, "labels": {"release": "prometheus"}})
    source = CHART / "files" / file
    if not source.exists():  # nobody gets an empty rule instead of alerts
        with pytest.raises(Refused, match=rf"monitoring\.{part}\.enabled: this chart was packed without files/{file}"):
            rendered(values)
        return
    made = rendered(values).one(kind, name)
    assert made["metadata"]["labels"]["release"] == "prometheus"
    told = made["spec"] if part == "rules" else json.loads(made["data"]["affidavit.json"])
    assert told == yaml.safe_load(source.read_text())


def test_opa_is_given_what_makes_a_question_cheap_within_its_limits() -> None:
    def environment(*own: dict[str, Any]) -> list[dict[str, Any]]:
        return rendered(changed(GATEWAY, "opa/extraEnv", [*own])).container("opa")["env"]

    limits = [
        {"name": name, "valueFrom": {"resourceFieldRef": {"resource": f"limits.{what}"}}}
        for name, what in (("GOMAXPROCS", "cpu"), ("GOMEMLIMIT", "memory"))
    ]
    assert environment() == [{"name": "GOGC", "value": "400"}, *limits]
    own = {"name": "GOGC", "value": "50"}
    assert environment(own) == [*limits, own]  # once: Kubernetes refuses a name that is there twice


@pytest.mark.parametrize("registry", ["registry.example.com/ai", "registry.example.com/ai/"])
def test_the_registrys_slash_is_put_where_it_belongs(registry: str) -> None:
    objects = rendered(changed(GATEWAY, "image/registry", registry))
    images = [objects.container(name)["image"].partition(":")[0] for name in ("gate", "envoy", "opa")]
    assert images == [f"registry.example.com/ai/affidavit{which}" for which in ("", "-envoy", "-opa")]


@pytest.mark.parametrize(
    "registry", ["http://x", "https://registry.example.com", "registry.example.com//ai", "a:b", "/"]
)
def test_a_registry_is_no_address(registry: str) -> None:
    with pytest.raises(Refused, match=r"image[./]registry"):
        rendered(changed(GATEWAY, "image/registry", registry))


def test_a_registry_has_a_port() -> None:
    objects = rendered(changed(GATEWAY, "image/registry", "localhost:5000"))
    assert objects.container("gate")["image"].startswith("localhost:5000/affidavit:")


def test_each_alert_leads_to_its_page() -> None:
    values = changed(GATEWAY, "monitoring", {"rules": {"enabled": True, "runbookUrl": "https://wiki.example.com/gate"}})
    groups = rendered(values).one("PrometheusRule")["spec"]["groups"]
    found = {rule["alert"]: rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]}
    assert found == {alert: f"https://wiki.example.com/gate#{alert.lower()}" for alert in found} != {}
