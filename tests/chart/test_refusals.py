"""Contradictions are refused with a sentence that names the value; so is what is unsafe and not spelt out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import Refused, changed, ci_values, rendered
from tests.unit.test_config import SECRET_PARAMETERS

GATEWAY, SIDECAR, EGRESS, WHOLE = (ci_values(name) for name in ("gateway", "sidecar", "egress", "whole"))

CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no keys": (GATEWAY, {"keys/existingSecret": ""}, "keys.existingSecret: name a Secret with the five keys"),
    "a file that nothing mounts": (
        GATEWAY,
        {"config/connections/0/credential/file": "/etc/affidavit/openai-key"},
        "config: the file /etc/affidavit/openai-key would not be in the pod. Write /etc/affidavit/secrets/NAME/KEY",
    ),
    "a Secret without its entry": (
        EGRESS,
        {"config/audit/registry_password_file": "/etc/affidavit/secrets/registry"},
        "config: the file /etc/affidavit/secrets/registry would not be in the pod",
    ),
    "a password in a ConfigMap": (
        EGRESS,
        {"config/audit/registry_url": "postgresql://a:secret@db/a"},
        "config.audit.registry_url: there is a password in it",
    ),
    "a password behind the address": (
        EGRESS,
        {"config/audit/registry_url": "postgresql://a@db/a?password=secret"},
        "config.audit.registry_url: there is a password in it",
    ),
    "a key behind an address": (
        GATEWAY,
        {"config/audit/s3/endpoint": "https://s3.example.com/?X-Amz-Signature=secret"},
        "config.audit.s3.endpoint: there is a credential behind the address (X-Amz-Signature)",
    ),
    "a key behind an address in a list": (
        GATEWAY,
        {"config/audit/witnesses": [{"url": "https://w.example/?a=b&token=secret", "key": "w+1+k"}]},
        "config.audit.witnesses.0.url: there is a credential behind the address (token)",
    ),
    "a key behind the token endpoint": (
        WHOLE,
        {"test/clientCredentials/tokenEndpoint": "https://login.example.com/token?client_secret=s"},
        "test.clientCredentials.tokenEndpoint: there is a credential behind the address (client_secret)",
    ),
    "a password in a pod": (
        WHOLE,
        {"test/clientCredentials/form": {"client_secret": "s"}},
        "test.clientCredentials.form.client_secret: it would stand in the pod",
    ),
    "a password in a variable": (
        GATEWAY,
        {"gate/extraEnv": [{"name": "HTTPS_PROXY", "value": "http://user:secret@proxy:3128"}]},
        "gate.extraEnv: HTTPS_PROXY: there is a credential in this address",
    ),
    "no bundle": (GATEWAY, {"policy/bundle": ...}, "policy.bundle.existingConfigMap: name the ConfigMap"),
    "two bundles": (GATEWAY, {"policy/bundle/existingSecret": "b"}, "policy.bundle: both existingConfigMap and"),
    "no TLS": (GATEWAY, {"listener": ...}, "listener.tls.existingSecret: callers' tokens need TLS"),
    "two authorities": (
        WHOLE,
        {"listener/tls/clientCa/existingSecret": "x"},
        "listener.tls.clientCa: both existingSecret and existingConfigMap",
    ),
    "authority without TLS": (
        WHOLE,
        {"listener/tls/existingSecret": "", "unsafe": {"plaintextListener": True}},
        "listener.tls.clientCa: there are no client certificates without",
    ),
    "certificates that nobody checks": (
        GATEWAY,
        {"listener/tls/requireClientCertificate": True},
        "listener.tls.requireClientCertificate: needs listener.tls.clientCa",
    ),
    "mTLS without an authority": (GATEWAY, {"config/identity/mtls": {}}, "config.identity.mtls: needs listener.tls"),
    "sidecar of nothing": (SIDECAR, {"server": ...}, "server.container: the form sidecar stands beside"),
    "server in a gateway": (
        GATEWAY,
        {"server": SIDECAR["server"]},
        "server.container: only the form sidecar has an inference server in its pod, and form is gateway",
    ),
    "server without an image": (
        SIDECAR,
        {"server/container/image": ...},
        "server.container: needs a name and an image",
    ),
    "server of a name that is taken": (
        SIDECAR,
        {"server/container/name": "gate"},
        "server.container.name: gate is a container of the gateway",
    ),
    "sidecar to elsewhere": (
        SIDECAR,
        {"config/connections/0/upstream/url": "http://10.0.0.7:8000"},
        "config.connections: own: upstream.url is http://10.0.0.7:8000, but the form sidecar",
    ),
    "callers to the main container": (
        SIDECAR,
        {"config/connections/0/upstream/url": "http://127.0.0.1:9466"},
        "upstream.url is http://127.0.0.1:9466, but this port is the gateway's own (drain)",
    ),
    "a server on the listener's port": (
        SIDECAR,
        {"config/connections/0/upstream/url": "http://localhost:8443"},
        "upstream.url is http://localhost:8443, but this port is the gateway's own (the listener)",
    ),
    "gateway to itself": (
        GATEWAY,
        {"config/connections/0/upstream/url": "http://127.0.0.1:8000"},
        "config.connections: openai: upstream.url is http://127.0.0.1:8000, but in the form gateway",
    ),
    "egress in the clear": (
        EGRESS,
        {"config/connections/0/upstream/url": "http://api.anthropic.com"},
        "config.connections: anthropic: upstream.url is http://api.anthropic.com, but what leaves the cluster",
    ),
    "egress for everybody": (EGRESS, {"service/type": "LoadBalancer"}, "service.type: the form egress is for callers"),
    "lockdown by a gateway": (
        GATEWAY,
        {"egress/lockdown/namespaces": ["a"]},
        "egress.lockdown.namespaces: only the form egress locks",
    ),
    "ranges of no load balancer": (
        GATEWAY,
        {"service/loadBalancerSourceRanges": ["10.0.0.0/8"]},
        "service.loadBalancerSourceRanges: says nothing for service.type ClusterIP",
    ),
    "several pods with SQLite": (
        GATEWAY,
        {"replicas": 3},
        "config.audit.registry_url: replicas is 3, but without a database each pod keeps",
    ),
    "autoscaling with SQLite": (
        GATEWAY,
        {"autoscaling/enabled": True},
        "config.audit.registry_url: autoscaling.enabled is true, but",
    ),
    "several pods with a file": (
        EGRESS,
        {"config/audit/registry_url": "sqlite:////var/lib/affidavit/r.sqlite"},
        "config.audit.registry_url: several pods share a PostgreSQL database",
    ),
    "fewer at most than at least": (
        WHOLE,
        {"autoscaling/maxReplicas": 2},
        "autoscaling.minReplicas: 3 is more than maxReplicas, 2",
    ),
    "percent of nothing": (
        WHOLE,
        {"gate/resources": {"requests": {"cpu": None}}},
        "gate.resources.requests.cpu: autoscaling counts in percent",
    ),
    "evidence that goes with the pod": (
        GATEWAY,
        {"persistence/enabled": False},
        "persistence.enabled: false would keep evidence in an emptyDir",
    ),
    "both ways": (
        GATEWAY,
        {"unsafe/ephemeralEvidence": True},
        "unsafe.ephemeralEvidence: contradicts persistence.enabled: true",
    ),
    "too little room": (GATEWAY, {"persistence/size": "4Gi"}, "persistence.size: 4Gi is too little"),
    "a hold that Envoy does not wait for": (
        GATEWAY,
        {"config/connections/0/hold_seconds": 56},
        "config.connections: openai: hold_seconds is 56, but it must be at most 55",
    ),
    "a body that does not fit": (
        GATEWAY,
        {"config/connections/0/request_limit_bytes": 16777216},
        "config.audit.wal.segment_bytes: 16777216 is too little: the largest body is 16777216",
    ),
    "too little grace": (
        GATEWAY,
        {"drain/terminationGracePeriodSeconds": 30},
        "drain.terminationGracePeriodSeconds: 30 is less than 430",
    ),
    "console without settings": (GATEWAY, {"console/enabled": True}, "console.enabled: needs config.console"),
    "console without a database": (
        WHOLE,
        {"config/audit/registry_url": ..., "autoscaling/enabled": False},
        "console.enabled: needs config.audit.registry_url",
    ),
    "a console without room": (WHOLE, {"console/size": "128Mi"}, "console.size: 128Mi is too little"),
    "settings without a console": (
        WHOLE,
        {"console/enabled": False},
        "config.console: callers whose call waits would be sent to a console that does not run",
    ),
    "verification without a policy": (GATEWAY, {"verify/enabled": True}, "verify.policy.existingConfigMap: whoever"),
    "verification by the writer": (
        WHOLE,
        {"verify/existingSecret": "", "verify/serviceAccountName": "gw-affidavit"},
        "verify.serviceAccountName: who verifies must not be who writes",
    ),
    "test without a caller": (GATEWAY, {"test/enabled": True}, "test.enabled: a governed call needs a caller"),
    "test with two": (
        WHOLE,
        {"test/token/existingSecret": "t"},
        "test.token.existingSecret and test.clientCredentials: name one of the two",
    ),
    "test without a certificate": (
        WHOLE,
        {"listener/tls/requireClientCertificate": True},
        "test.enabled: the test has no client certificate",
    ),
    "verification by the writer with other credentials": (
        WHOLE,
        {"verify/serviceAccountName": "gw-affidavit"},
        "verify.serviceAccountName: who verifies must not be who writes",
    ),
    "plain beside TLS": (
        GATEWAY,
        {"unsafe/plaintextListener": True},
        "unsafe.plaintextListener: contradicts listener.tls.existingSecret",
    ),
    "a port that the gate has": (
        GATEWAY,
        {"listener/port": 9464},
        "listener.port: 9464 is taken in the same pod (gate-",
    ),
    "a port that the plain listener has": (GATEWAY, {"listener/port": 8080}, "listener.port: 8080 is taken"),
    "lockdown without policies": (
        EGRESS,
        {"networkPolicy/enabled": False},
        "egress.lockdown.namespaces: they are locked by NetworkPolicies, and networkPolicy.enabled is false",
    ),
    "no service account": (
        GATEWAY,
        {"serviceAccount": {"create": False}},
        "serviceAccount.name: serviceAccount.create is false",
    ),
}


NO_NULLS = (
    "networkPolicy",
    "networkPolicy/enabled",
    "networkPolicy/dns",
    "networkPolicy/services",
    "networkPolicy/extraPorts",
    "drain/settleSeconds",
    "envoy/drainSeconds",
    "users",
    "persistence/size",
    "persistence/enabled",
    "failClosed",
    "listener/port",
    "listener/tls/existingSecret",
    "test",
)


def _refusal(values: dict[str, Any], name: str = "gw") -> str:
    with pytest.raises(Refused) as refused:
        rendered(values, name=name)
    return " ".join(str(refused.value).split())


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradiction_is_refused_with_a_sentence(what: str) -> None:
    values, changes, sentence = CONTRADICTIONS[what]
    for path, value in changes.items():
        values = changed(values, path, value)
    assert sentence in _refusal(values)


@pytest.mark.parametrize("name", SECRET_PARAMETERS)
def test_chart_knows_credentials_by_the_gates_names(name: str) -> None:
    """The gate would refuse them too, but from a ConfigMap that is there."""
    url = f"https://s3.example.com/?region=eu&{name}=hidden"
    said = _refusal(changed(GATEWAY, "config/audit/s3/endpoint", url))
    assert f"config.audit.s3.endpoint: there is a credential behind the address ({name})" in said
    assert "hidden" not in said


def test_what_is_no_credential_stays() -> None:
    url = "https://s3.example.com/token=1/?country_code=de&keyword=a&password"
    rendered(changed(GATEWAY, "config/audit/s3/endpoint", url))
    rendered(changed(GATEWAY, "gate/extraEnv", [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}]))


@pytest.mark.parametrize("path", NO_NULLS)
def test_null_takes_no_default_away(path: str) -> None:
    """To Helm it does: a rule `to: null` is open to everywhere, and `enabled: null` is off without a word."""
    *above, name = path.split("/")
    place = "".join(f"/{one}" for one in above)
    assert f"at '{place}': missing property '{name}'" in _refusal(changed(WHOLE, path, None))


@pytest.mark.parametrize("user", ["gate", "envoy", "opa", "group"])
def test_users_may_be_left_to_the_cluster(user: str) -> None:
    rendered(changed(WHOLE, f"users/{user}", None))


def test_small_bodies_need_small_segments_only() -> None:
    values = changed(GATEWAY, "config/audit/wal/segment_bytes", 2 * 2**20)
    for number, _ in enumerate(values["config"]["connections"]):
        for limit in ("request_limit_bytes", "response_limit_bytes"):
            values = changed(values, f"config/connections/{number}/{limit}", 2**19)
    rendered(values)


def test_name_that_logs_could_not_have() -> None:
    sentence = 'fullnameOverride: pods would be called "7up-affidavit" (by the release and nameOverride), and logs'
    assert sentence in _refusal(GATEWAY, name="7up")


LOCKED: dict[str, tuple[str, Any, str]] = {
    "fail-open": ("failClosed", False, "at '/failClosed': value must be true"),
    "a folder of one's own": ("config/run_dir", "/tmp", "at '/config': additional properties 'run_dir' not allowed"),
    "Envoy's admin for all": (
        "config/listen/admin",
        "0.0.0.0:9901",
        "at '/config/listen': additional properties 'admin' not allowed",
    ),
    "another OPA": (
        "config/policy/opa_socket",
        "/tmp/opa",
        "at '/config/policy': additional properties 'opa_socket' not allowed",
    ),
    "a key in the values": (
        "keys/log-key",
        "c2VjcmV0",
        "at '/keys': additional properties 'log-key' not allowed",
    ),
    "a misspelt value": ("replicaz", 2, "additional properties 'replicaz' not allowed"),
    "debugging questions": ("opa/logLevel", "debug", "at '/opa/logLevel': value must be one of 'error', 'info'"),
    "debugging tokens": (
        "envoy/logLevel",
        "debug",
        "at '/envoy/logLevel': value must be one of 'error', 'warning', 'info'",
    ),
    "tracing tokens": (
        "envoy/logLevel",
        "trace",
        "at '/envoy/logLevel': value must be one of 'error', 'warning', 'info'",
    ),
    "a password in an address": (
        "config/audit/s3/endpoint",
        "https://user:secret@s3.example.com",
        "at '/config/audit/s3/endpoint'",
    ),
    "a password in an issuer's address": (
        "test/clientCredentials/tokenEndpoint",
        "https://user:secret@login.example.com/token",
        "at '/test/clientCredentials/tokenEndpoint'",
    ),
    "shared claims": (
        "persistence/accessModes",
        ["ReadWriteMany"],
        "at '/persistence/accessModes/0': value must be one of",
    ),
    "names from everywhere": ("networkPolicy/dns", [], "at '/networkPolicy/dns': minItems: got 0, want 1"),
    "services everywhere": ("networkPolicy/services", [], "at '/networkPolicy/services': minItems: got 0, want 1"),
    "no origin": ("config/audit/origin", ..., "at '/config/audit': missing property 'origin'"),
}


@pytest.mark.parametrize("what", LOCKED)
def test_schema_refuses(what: str) -> None:
    path, value, sentence = LOCKED[what]
    assert sentence in _refusal(changed(GATEWAY, path, value))
