"""`ext_proc.app.registry` and `edge_files`: nothing of the configuration is lost or mixed up on the way to a room."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app import edge_files, registry
from ext_proc.config import MIB, Config, load
from ext_proc.errors import ConfigError
from ext_proc.model import FieldStep, Keep
from tests.fakes.configured import a_config
from tests.unit.test_config import VALID

if TYPE_CHECKING:
    from pathlib import Path

FULL: dict[str, Any] = {
    **VALID,
    "workers": 3,
    "listen": {
        "http": "127.0.0.1:1",
        "admin": "127.0.0.1:2",
        "hold_seconds": 7,
        "tls": {"address": "0.0.0.0:3", "certificate_file": "/c", "key_file": "/k", "client_ca_file": "/ca"},
    },
    "identity": {
        "issuers": [
            {
                "issuer": "https://a.example",
                "audiences": ["one", "two"],
                "algorithms": ["ES256"],
                "jwks_uri": "https://keys.example/jwks",
                "claims": {"subject": ["user", "id"], "groups": "roles"},
                "leeway_seconds": 5,
                "bearer_token_file": "/t",
            }
        ],
        "mtls": {"name": "corp", "subject_from": ["dns"]},
    },
    "connections": [
        {
            "name": "first",
            "hosts": ["a.example", "*.b.example"],
            "path_prefix": "/v1/",
            "upstream": {
                "url": "https://model.example:8443",
                "ca_file": "/uca",
                "connect_timeout_seconds": 2,
                "server_name": "api.model.example",
                "http2": True,
                "idle_timeout_seconds": 1800,
            },
            "credential": {"header": "x-api-key", "prefix": "", "file": "/cred"},
            "accepts": ["oidc", "mtls"],
            "request_limit_bytes": 1 * MIB,
            "response_limit_bytes": 2 * MIB,
            "tags": ["high-risk"],
            "redaction": {
                "fields": {
                    "request": [{"path": "$..a", "action": "mask", "keep": "date", "name": "BIRTH"}],
                    "response": [{"path": "$.b[0]", "action": "drop"}, {"path": "$.c.*~", "action": "hash"}],
                }
            },
            "unsafe_allow_upgrade": True,
        },
        {"name": "second", "path_prefix": "/", "upstream": {"url": "http://127.0.0.1:9"}, "request_limit_bytes": 10},
    ],
}


def _config(tmp_path: Path, content: dict[str, Any]) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return load(path)[0]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return _config(tmp_path, FULL)


def test_connections_of_the_gate(config: Config) -> None:
    found = registry.connections(config)
    first, second = found["first"], found["second"]
    assert list(found) == ["first", "second"]
    assert first.credential is not None
    assert (first.credential.header, first.credential.file, first.credential.prefix) == ("x-api-key", "/cred", "")
    assert (first.request_limit_bytes, first.response_limit_bytes) == (1 * MIB, 2 * MIB)
    assert (first.accepts, first.tags, first.unsafe_allow_upgrade) == (("oidc", "mtls"), ("high-risk",), True)
    assert ("POST", "/v1/messages", "anthropic.messages") in [(o.method, o.path, o.protocol) for o in first.operations]
    assert (second.credential, second.accepts, second.tags, second.unsafe_allow_upgrade) == (None, ("oidc",), (), False)


def test_field_rules_of_a_connection(config: Config) -> None:
    first, second = registry.connections(config).values()
    [one] = first.request_fields
    assert (one.steps, one.keep, one.entity, one.rule) == (
        (FieldStep("a", is_deep=True),), Keep.DATE, "BIRTH", "field:BIRTH",
    )  # fmt: skip
    assert [(one.action.value, one.is_key, one.rule, one.source) for one in first.response_fields] == [
        ("drop", False, "field:1", "connection"), ("hash", True, "field:2", "connection"),
    ]  # fmt: skip
    assert (second.request_fields, second.response_fields) == ((), ())


def test_connections_of_envoy(config: Config) -> None:
    first, second = edge_files.connections(config)
    assert (first.name, first.hosts, first.path_prefix) == ("first", ("a.example", "*.b.example"), "/v1/")
    assert (first.url, str(first.ca_file), first.connect_timeout_seconds) == ("https://model.example:8443", "/uca", 2)
    assert (first.request_limit_bytes, first.response_limit_bytes) == (1 * MIB, 2 * MIB)
    assert (first.unsafe_allow_upgrade, second.unsafe_allow_upgrade) == (True, False)
    assert (second.ca_file, second.request_limit_bytes, second.response_limit_bytes) == (None, 10, 4 * MIB)
    assert (first.server_name, first.is_http2, first.idle_timeout_seconds) == ("api.model.example", True, 1800)
    assert (second.server_name, second.is_http2, second.idle_timeout_seconds) == (None, False, 600)


def test_no_hold_is_cut_by_the_time_that_a_call_may_stand_still(tmp_path: Path) -> None:
    """Envoy's route counts while the gate holds a call, too: 600 seconds once ended all that people took longer for."""
    longest = _config(tmp_path, {**FULL, "listen": {**FULL["listen"], "hold_seconds": 3600}})

    assert all(one.idle_timeout_seconds > 3600 for one in edge_files.connections(longest))


def test_settings_of_envoy(config: Config) -> None:
    made = edge_files.settings(config)
    assert (made.http_host, made.http_port, made.admin_port, made.hold_seconds) == ("127.0.0.1", 1, 2, 7)
    assert made.tls is not None
    assert (made.tls.host, made.tls.port, str(made.tls.client_ca_file)) == ("0.0.0.0", 3, "/ca")
    assert made.tls.require_client_certificate is False
    assert made.buffer_bytes == 4 * MIB == registry.largest_body_bytes(config)
    assert [path.name for path in made.worker_sockets] == ["worker-0.sock", "worker-1.sock", "worker-2.sock"]
    assert list(made.worker_sockets) == [registry.worker_socket(config, index) for index in range(3)]


def test_issuers(config: Config) -> None:
    [(trust, keys)] = registry.trusts(config)
    assert (trust.issuer, trust.audiences, trust.algorithms) == ("https://a.example", ("one", "two"), ("ES256",))
    assert (trust.claims.subject, trust.claims.groups, trust.leeway_seconds) == (("user", "id"), ("roles",), 5)
    source = keys._source
    assert (source.issuer, source.jwks_uri) == ("https://a.example", "https://keys.example/jwks")
    assert (str(source.bearer_token_file), source.ca_file, source.unsafe_allow_http) == ("/t", None, False)


def test_client_certificates(config: Config, tmp_path: Path) -> None:
    made = registry.mtls(config)
    assert made is not None
    assert (made.name, made.subject_from) == ("corp", ("dns",))
    assert registry.mtls(_config(tmp_path, VALID)) is None


def test_wal_and_places(config: Config) -> None:
    assert registry.wal_limits(config).segment_bytes == 16 * MIB
    assert registry.evidence_directory(config).parent == config.state_dir
    assert registry.access_log_path(config).parent == config.state_dir / "access"


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ({"issuer": "http://login.example"}, "must be https"),
        ({"issuer": "https://a.example", "jwks_uri": "http://a.example/keys"}, "must be https"),
        ({"issuer": "ftp://a.example"}, "must be https"),
    ],
)
def test_issuer_that_cannot_be_trusted(tmp_path: Path, issuer: dict[str, Any], expected: str) -> None:
    whole = copy.deepcopy(VALID)
    whole["identity"]["issuers"] = [{"audiences": ["a"], **issuer}]
    with pytest.raises(ConfigError, match=expected):
        edge_files.check(_config(tmp_path, whole))


@pytest.mark.parametrize("url", ["https://a:99999", "http://:80"])
def test_upstream_that_envoy_could_not_use(tmp_path: Path, url: str) -> None:
    whole = copy.deepcopy(VALID)
    whole["connections"][0]["upstream"]["url"] = url
    with pytest.raises(ConfigError, match=r"connections\.model\.upstream\.url"):
        edge_files.check(_config(tmp_path, whole))


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = _config(tmp_path, {**VALID, "run_dir": str(tmp_path / "file" / "run")})
    for write in (edge_files.write, edge_files.write_routes):
        with pytest.raises(ConfigError, match="run_dir: "):
            write(config)


def test_written_files(tmp_path: Path) -> None:
    config = _config(tmp_path, {**FULL, "run_dir": str(tmp_path / "run")})
    paths = edge_files.write(config)
    assert {path.name for path in (tmp_path / "run" / "envoy").iterdir()} == {
        "bootstrap.yaml", "routes.json", "clusters.json"
    }  # fmt: skip
    assert [one["name"] for one in json.loads(paths.clusters.read_text())["resources"]] == ["first", "second"]


def test_a_worker_does_not_import_envoys_types() -> None:
    """They cost it a second at each start and 40 MB for life."""
    code = (
        "import sys, ext_proc.app.serving.worker; print([n for n in sys.modules if n.startswith('envoy_data_plane')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# From one replica to several -------------------------------------------------------------------------------------------


def test_keys_of_the_file_go_into_the_database_that_is_new(tmp_path):
    """Else no payload of before could be read, and nobody of before be erased."""
    config, _ = a_config(tmp_path)
    before = registry.keyring(config)
    before.registry.add("ada", 0, b"of ada")
    before.registry.close()
    other = f"sqlite:///{tmp_path}/shared.sqlite"
    audit = config.audit.model_copy(update={"registry_url": other})
    shared = config.model_copy(update={"audit": audit})
    assert registry.take_over_file(shared) == 1
    after = registry.keyring(shared)
    assert after.registry.key("ada", 0).wrapped == b"of ada"
    after.registry.close()
    assert not (config.state_dir / "registry.sqlite").exists()
    assert (config.state_dir / "registry.sqlite.moved").exists(), "nothing is thrown away"
    assert registry.take_over_file(shared) == 0


@pytest.mark.parametrize("name", ["state/registry.sqlite", "state/../state/registry.sqlite", "link.sqlite"])
def test_the_file_itself_may_be_the_database(tmp_path, name):
    """Moved aside, it would be empty the next time, and with it every key gone."""
    config, _ = a_config(tmp_path)
    before = registry.keyring(config)
    before.registry.add("ada", 0, b"of ada")
    before.registry.close()
    (tmp_path / "link.sqlite").symlink_to(config.state_dir / "registry.sqlite")
    audit = config.audit.model_copy(update={"registry_url": f"sqlite:///{tmp_path}/{name}"})
    named = config.model_copy(update={"audit": audit})
    assert registry.take_over_file(named) == 0
    after = registry.keyring(named)
    assert after.registry.key("ada", 0).wrapped == b"of ada"
    after.registry.close()
    assert (config.state_dir / "registry.sqlite").exists()


def test_without_a_database_the_file_stays(tmp_path):
    config, _ = a_config(tmp_path)
    registry.keyring(config).registry.close()
    assert registry.take_over_file(config) == 0
    assert (config.state_dir / "registry.sqlite").exists()
