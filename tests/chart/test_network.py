"""Who may talk to whom: services, NetworkPolicies, and who scrapes what."""

from __future__ import annotations

import json
from typing import Any

from tests.chart.rendering import changed, ci_values, rendered


def _ports(rule: dict[str, Any]) -> set[Any]:
    return {one["port"] for one in rule["ports"]}


def test_network_is_closed_but_for_what_is_named() -> None:
    policy = rendered(ci_values("egress")).one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [ingress] = policy["ingress"]
    assert _ports(ingress) == {8443}
    assert [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in ingress["from"]] == [
        "research",
        "support",
    ]
    dns, services = policy["egress"]
    assert _ports(dns) == {53} and dns["to"]
    assert _ports(services) == {443, 8443, 9000, 5433}
    assert services["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]


def test_who_tests_may_call_where_callers_are_named() -> None:
    values = changed(ci_values("unsafe"), "networkPolicy", {"callers": [{"podSelector": {}}]})
    [ingress] = rendered(values).one("NetworkPolicy")["spec"]["ingress"]
    assert len(ingress["from"]) == 2
    selector = ingress["from"][1]["podSelector"]["matchLabels"]
    assert selector["app.kubernetes.io/component"] == "test"


def test_sidecar_reaches_no_port_of_its_own_server() -> None:
    [_, services] = rendered(ci_values("sidecar")).one("NetworkPolicy")["spec"]["egress"]
    assert _ports(services) == {443}


def test_metrics_only_for_who_is_named() -> None:
    [_, monitoring] = rendered(ci_values("whole")).one("NetworkPolicy")["spec"]["ingress"]
    assert _ports(monitoring) == {9464, 8282} and monitoring["from"]


def test_metrics_of_the_console_are_scraped() -> None:
    """`AffidavitHoldsWaiting` is fired by what the console alone counts."""
    objects = rendered(ci_values("whole"))
    config = json.loads(objects.one("ConfigMap", "gw-affidavit-console")["data"]["config.yaml"])
    assert config["console"]["metrics"] == "0.0.0.0:9467"
    pod = objects.one("StatefulSet", "gw-affidavit-console")["spec"]["template"]
    service = objects.one("Service", "gw-affidavit-console")
    assert {"name": "console-metrics", "port": 9467, "targetPort": 9467} in service["spec"]["ports"]
    monitor = objects.one("ServiceMonitor", "gw-affidavit-console")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert (
        selector.items() <= service["metadata"]["labels"].items()
        and selector.items() <= pod["metadata"]["labels"].items()
    )
    assert [one["port"] for one in monitor["spec"]["endpoints"]] == ["console-metrics"]
    [_, monitoring] = objects.one("NetworkPolicy", "gw-affidavit-console")["spec"]["ingress"]
    assert _ports(monitoring) == {9467}
    assert monitoring["from"] == objects.one("NetworkPolicy")["spec"]["ingress"][1]["from"]
    nobody = rendered(changed(ci_values("whole"), "networkPolicy/monitoring", []))
    [people] = nobody.one("NetworkPolicy", "gw-affidavit-console")["spec"]["ingress"]
    assert _ports(people) == {8090}


def test_ports_that_the_configuration_names_are_open() -> None:
    bundles = {"bucket": "policy", "key": "bundle.tar.gz", "endpoint": "https://bundles.example.com:9002"}
    values = changed(ci_values("whole"), "config/policy/distribution/s3", bundles)
    values = changed(values, "config/telemetry", {"otlp": {"endpoint": "https://collector.example.com:4318"}})
    values = changed(values, "test/clientCredentials/tokenEndpoint", "https://login.example.com:8444/token")
    objects = rendered(values)
    [_, services] = objects.one("NetworkPolicy")["spec"]["egress"]
    assert {9002, 4318} <= _ports(services) and 8444 not in _ports(services)
    [_, _, services] = objects.one("NetworkPolicy", "gw-affidavit-test")["spec"]["egress"]
    assert 8444 in _ports(services)
    numbers = [one["port"] for one in services["ports"]]
    assert len(numbers) == len(set(numbers))


def test_every_pod_has_a_network_policy() -> None:
    objects = rendered(ci_values("whole"))
    assert objects.names("NetworkPolicy") == {
        "gw-affidavit", "gw-affidavit-console", "gw-affidavit-verify", "gw-affidavit-test"
    }  # fmt: skip
    [_, services] = objects.one("NetworkPolicy", "gw-affidavit-console")["spec"]["egress"]
    assert {587, 9443, 3161, 5432, 3128} <= _ports(services)


def test_lockdown_leaves_other_namespaces_one_way_out() -> None:
    found = [one for one in rendered(ci_values("egress")).whole if one["metadata"]["name"] == "gw-affidavit-only"]
    assert {one["metadata"]["namespace"] for one in found} == {"research", "support"}
    for one in found:
        assert one["spec"]["podSelector"] == {} and one["spec"]["policyTypes"] == ["Egress"]
        assert len(one["spec"]["egress"]) == 3


def test_selectors_find_their_pods_only() -> None:
    objects = rendered(ci_values("whole"))
    selector = objects.one("Service")["spec"]["selector"]
    for one in objects.whole:
        if one["kind"] == "StatefulSet":
            labels = one["spec"]["template"]["metadata"]["labels"]
            is_gateway = one["metadata"]["name"] == "gw-affidavit"
            assert (selector.items() <= labels.items()) is is_gateway
