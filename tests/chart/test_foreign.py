"""What somebody else brings into the pods takes the place of nothing of the chart's, and sees nothing that is not shown it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import Refused, changed, ci_values, rendered

GATEWAY, SIDECAR, WHOLE = (ci_values(name) for name in ("gateway", "sidecar", "whole"))
TAIL = {"name": "tail", "image": "tail:1"}
LOGS = {"name": "state", "mountPath": "/logs", "subPath": "access", "readOnly": True}
SHIPPER = {**TAIL, "securityContext": {"runAsUser": 10050}, "volumeMounts": [LOGS]}
FOREIGN = {
    "extraContainers": (GATEWAY, "extraContainers", lambda more: [{**TAIL, **more}], "extraContainers: tail"),
    "server.container": (
        SIDECAR,
        "server/container",
        lambda more: {**SIDECAR["server"]["container"], **more},
        "server.container: vllm",
    ),
}

WRONG_CONTAINERS: dict[str, tuple[dict[str, Any], str]] = {
    "the Service's port": (
        {"ports": [{"name": "gateway", "containerPort": 9999}]},
        "ports: gateway is the name of a port of the gateway's",
    ),
    "the metrics' port": (
        {"ports": [{"name": "opa-metrics", "containerPort": 9999}]},
        "ports: opa-metrics is the name of a port of the gateway's",
    ),
    "the number of the Service's port": (
        {"ports": [{"name": "mine", "containerPort": 8443}]},
        "ports: 8443 is the gateway's own (gateway)",
    ),
    "the number of the main container": (
        {"ports": [{"containerPort": 9466}]},
        "ports: 9466 is the gateway's own (drain)",
    ),
    "the node's port": (
        {"ports": [{"containerPort": 8686, "hostPort": 443}]},
        "ports: hostPort opens the node's port 443",
    ),
    "root": ({"securityContext": {"runAsUser": 0}}, "securityContext.runAsUser is 0"),
    "the keys": (
        {"volumeMounts": [{"name": "keys", "mountPath": "/k", "readOnly": True}]},
        "volumeMounts: keys is not one of extraVolumes",
    ),
    "the sockets": (
        {"volumeMounts": [{"name": "run", "mountPath": "/sockets"}]},
        "volumeMounts: run is not one of extraVolumes",
    ),
    "Envoy's admin interface": (
        {"volumeMounts": [{"name": "admin", "mountPath": "/admin", "readOnly": True}]},
        "volumeMounts: admin is not one of extraVolumes",
    ),
    "the keys in a variable": (
        {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "affidavit-keys", "key": "pepper"}}}]},
        "a variable would be of the Secret affidavit-keys",
    ),
    "all keys in variables": (
        {"envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "affidavit-keys"}}]},
        "a variable would be of the Secret affidavit-keys",
    ),
}


def _refusal(values: dict[str, Any]) -> str:
    with pytest.raises(Refused) as refused:
        rendered(values)
    return " ".join(str(refused.value).split())


@pytest.mark.parametrize("whose", FOREIGN)
@pytest.mark.parametrize("what", WRONG_CONTAINERS)
def test_container_takes_nothing_of_the_gateways(what: str, whose: str) -> None:
    values, path, of, name = FOREIGN[whose]
    more, sentence = WRONG_CONTAINERS[what]
    assert f"{name}: {sentence}" in _refusal(changed(values, path, of(more)))


def test_container_of_a_name_that_is_taken() -> None:
    values = changed(GATEWAY, "extraContainers", [{**TAIL, "name": "gate"}])
    assert "extraContainers.name: gate is a container of the gateway" in _refusal(values)


def test_names_of_ports_decide_nothing() -> None:
    """A name is any container's to give; a number only one can have."""
    objects = rendered(WHOLE)
    for service in ("gw-affidavit", "gw-affidavit-pods", "gw-affidavit-console"):
        for one in objects.one("Service", service)["spec"]["ports"]:
            assert isinstance(one["targetPort"], int), (service, one)
    for policy in objects.names("NetworkPolicy"):
        spec = objects.one("NetworkPolicy", policy)["spec"]
        ports = [port for rule in (*spec.get("ingress", ()), *spec["egress"]) for port in rule["ports"]]
        assert ports and all(isinstance(one["port"], int) for one in ports), policy
    assert objects.one("Service")["spec"]["ports"][0]["targetPort"] == 8443
    assert rendered(ci_values("unsafe")).one("Service")["spec"]["ports"][0]["targetPort"] == 8443


def test_shipper_of_access_logs_reads_them_and_sees_the_last_line() -> None:
    """A native sidecar from before OPA's start to after its end: a main container would end before the drain."""
    spec = rendered(changed(GATEWAY, "extraContainers", [SHIPPER])).pod["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["render", "tail", "opa", "gate", "envoy"]
    assert [one["name"] for one in spec["containers"]] == ["drain"]
    tail = spec["initContainers"][1]
    assert tail["restartPolicy"] == "Always" and tail["volumeMounts"] == [LOGS]
    assert tail["securityContext"]["runAsUser"] == 10050


ONLY_LOGS = "volumeMounts: state holds the registry and evidence that is not shipped, and only the access log in it"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"volumeMounts": [{**LOGS, "readOnly": False}]}, ONLY_LOGS),
        ({"volumeMounts": [{**LOGS, "subPath": ""}]}, ONLY_LOGS),
        ({"volumeMounts": [{**LOGS, "subPath": "access/.."}]}, ONLY_LOGS),
        ({"volumeMounts": [{**LOGS, "subPath": "registry.sqlite"}]}, ONLY_LOGS),
        ({"volumeMounts": [LOGS, {"name": "state", "mountPath": "/all", "readOnly": True}]}, ONLY_LOGS),
        (
            {"securityContext": {}},
            "securityContext.runAsUser: without one this container runs as the gate (users.gate)",
        ),
        ({"securityContext": {"runAsUser": 10001}}, "securityContext.runAsUser: 10001 is users.gate"),
        ({"securityContext": {"runAsUser": 10002}}, "securityContext.runAsUser: 10002 is users.envoy"),
        ({"securityContext": {"runAsUser": 10003}}, "securityContext.runAsUser: 10003 is users.opa"),
    ],
)
def test_shipper_of_access_logs_reads_nothing_else(changes: dict[str, Any], sentence: str) -> None:
    said = _refusal(changed(GATEWAY, "extraContainers", [{**SHIPPER, **changes}]))
    assert f"extraContainers: tail: {sentence}" in said


def test_shipper_has_a_user_of_its_own_where_the_cluster_chooses_the_others() -> None:
    values = changed(GATEWAY, "users", {"gate": None, "envoy": None, "opa": None, "group": None})
    rendered(changed(values, "extraContainers", [SHIPPER]))
    bare = {name: value for name, value in SHIPPER.items() if name != "securityContext"}
    assert "without one this container runs as the gate" in _refusal(changed(values, "extraContainers", [bare]))


def test_foreign_container_is_a_sidecar_whatever_it_says() -> None:
    values = changed(SIDECAR, "server/container/restartPolicy", "Never")
    assert rendered(values).container("vllm")["restartPolicy"] == "Always"


def test_server_reads_no_access_logs() -> None:
    assert "server.container: vllm: volumeMounts: state is not" in _refusal(
        changed(SIDECAR, "server/container/volumeMounts", [LOGS])
    )


def test_role_of_the_cloud_is_not_for_containers_more() -> None:
    annotations = rendered(WHOLE).pod["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/skip-containers"] == "render,opa,envoy,drain,server,tail"


@pytest.mark.parametrize(
    ("part", "path", "over"),
    [
        ("gate", "/etc/affidavit", "/etc/affidavit"),
        ("envoy", "/etc/affidavit/keys", "/etc/affidavit"),
        ("opa", "/etc/ssl/../affidavit/bundle", "/etc/affidavit"),
        ("opa", "//run//affidavit/", "/run/affidavit"),
        ("gate", "/var/run", "/run/affidavit"),
        ("gate", "/var/lib", "/var/lib/affidavit"),
        ("envoy", "/", "/run/affidavit"),
        ("gate", "/run/envoy", "/run/envoy"),
    ],
)
def test_nothing_lies_over_the_gateways_files(part: str, path: str, over: str) -> None:
    mount = {"name": "shared", "mountPath": path}
    said = _refusal(changed(WHOLE, f"{part}/extraVolumeMounts", [mount]))
    assert f"{part}.extraVolumeMounts: shared: a mount at {path} would lie over {over}" in said


@pytest.mark.parametrize("path", ["/etc/affidavit-more", "/etc/ssl/certs", "/var/lib/names", "/run/other"])
def test_mounts_beside_them_are_taken(path: str) -> None:
    rendered(changed(WHOLE, "gate/extraVolumeMounts", [{"name": "shared", "mountPath": path}]))


@pytest.mark.parametrize("part", ["gate", "envoy", "opa"])
def test_parts_get_no_volumes_of_each_other(part: str) -> None:
    mount = {"name": "keys", "mountPath": "/keys"}
    said = _refusal(changed(WHOLE, f"{part}/extraVolumeMounts", [mount]))
    assert f"{part}.extraVolumeMounts: keys is not one of extraVolumes" in said


VOLUMES: dict[str, tuple[dict[str, Any], str]] = {
    "of the node": ({"hostPath": {"path": "/"}}, "shared: Pod Security restricted has no volumes of the kind hostPath"),
    "from elsewhere": (
        {"nfs": {"server": "a", "path": "/"}},
        "shared: Pod Security restricted has no volumes of the kind",
    ),
    "of a name that is taken": ({"name": "state", "emptyDir": {}}, "state is a volume of the chart's own"),
    "of the name of the admin interface's": ({"name": "admin", "emptyDir": {}}, "admin is a volume of the chart's own"),
    "of a name of a file's": (
        {"name": "secret-openai", "emptyDir": {}},
        "secret-openai is a volume of the chart's own",
    ),
    "of the keys": ({"secret": {"secretName": "affidavit-keys"}}, "shared: the Secret affidavit-keys holds the keys"),
    "of a pod's evidence": (
        {"persistentVolumeClaim": {"claimName": "state-gw-affidavit-0"}},
        "shared: the claim state-gw-affidavit-0 holds evidence",
    ),
    "of the keys and more": (
        {"projected": {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "affidavit-keys"}}]}},
        "shared: the Secret affidavit-keys holds the keys",
    ),
}


@pytest.mark.parametrize("what", VOLUMES)
def test_volume_is_refused(what: str) -> None:
    volume, sentence = VOLUMES[what]
    values = changed(GATEWAY, "extraVolumes", [{"name": "shared", **volume}])
    assert f"extraVolumes: {sentence}" in _refusal(values)


@pytest.mark.parametrize(
    "kind", ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"]
)
def test_volumes_that_restricted_has_are_taken(kind: str) -> None:
    rendered(changed(GATEWAY, "extraVolumes", [{"name": "shared", kind: {}}]))


@pytest.mark.parametrize("name", ["OPA_DECISION_LOGS_CONSOLE", "opa_set"])
def test_opa_gets_no_switches_by_its_environment(name: str) -> None:
    said = _refusal(changed(GATEWAY, "opa/extraEnv", [{"name": name, "value": "true"}]))
    assert f"opa.extraEnv: {name}: what begins with OPA_ is a switch" in said
    rendered(changed(GATEWAY, "opa/extraEnv", [{"name": "GOMAXPROCS", "value": "2"}]))


@pytest.mark.parametrize("part", ["gate", "envoy", "opa"])
def test_keys_are_in_no_variable(part: str) -> None:
    source = {"secretKeyRef": {"name": "affidavit-keys", "key": "pepper"}}
    values = changed(GATEWAY, f"{part}/extraEnv", [{"name": "K", "valueFrom": source}])
    assert f"{part}.extraEnv: a variable would be of the Secret affidavit-keys" in _refusal(values)
    source = {"secretKeyRef": {"name": "others", "key": "pepper"}}
    rendered(changed(GATEWAY, f"{part}/extraEnv", [{"name": "K", "valueFrom": source}]))


OWN_KEYS = (
    "affidavit.io/unsafe",
    "affidavit.io/metrics",
    "checksum/config",
    "app.kubernetes.io/component",
    "helm.sh/resource-policy",
    "eks.amazonaws.com/skip-containers",
    "kubectl.kubernetes.io/default-container",
)
GIVEN = (
    "commonLabels",
    "podLabels",
    "commonAnnotations",
    "podAnnotations",
    "service.annotations",
    "serviceAccount.annotations",
    "persistence.annotations",
    "monitoring.serviceMonitor.labels",
    "monitoring.rules.labels",
    "monitoring.dashboard.labels",
)


@pytest.mark.parametrize(
    ("where", "key"), [*(("podAnnotations", key) for key in OWN_KEYS), *((where, OWN_KEYS[3]) for where in GIVEN)]
)
def test_keys_of_the_charts_are_not_overwritten(where: str, key: str) -> None:
    values = changed(GATEWAY, where.replace(".", "/"), {key: "none"})
    assert f"{where}: {key} is the chart's own to set" in _refusal(values)


@pytest.mark.parametrize("key", ["example.com/affidavit.io", "affidavit.io.example.com/a", "app", "checksum"])
def test_keys_of_others_are_taken(key: str) -> None:
    rendered(changed(GATEWAY, "podAnnotations", {key: "x"}))
