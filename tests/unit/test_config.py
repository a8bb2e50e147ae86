"""`ext_proc.config`: what a file may say, and that whatever is wrong with it is named."""

from __future__ import annotations

import copy
import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app import edge_files
from ext_proc.config import MIB, Config, load
from ext_proc.config.addresses import secret_parameter
from ext_proc.config.fields import Section
from ext_proc.errors import ConfigError
from tests.fakes.changing import changed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALID: dict[str, Any] = {
    "run_dir": "/run/affidavit",
    "state_dir": "/var/lib/affidavit",
    "identity": {"issuers": [{"issuer": "https://login.example.com", "audiences": ["affidavit"]}]},
    "policy": {"opa_socket": "/run/opa.sock", "bundle_file": "/etc/bundle.tar.gz"},
    "redaction": {"hash_key_file": "/etc/hash-key"},
    "audit": {
        "key_encryption_key_file": "/etc/key-encryption-key",
        "pepper_file": "/etc/pepper",
        "signing": {"file": "/etc/log-key"},
        "receipt_key_file": "/etc/receipt-key",
        "s3": {"bucket": "evidence"},
    },
    "connections": [{"name": "model", "upstream": {"url": "https://model.example.com"}}],
}


def _changed(path: str, value: Any) -> dict[str, Any]:
    """The valid file with one value put in (or, with `...`, taken out)."""
    return changed(VALID, path.split("."), value)


def _load(tmp_path: Path, content: Any) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load(path)[0]


def _refusal(tmp_path: Path, content: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, content)
    assert str(tmp_path / "config.yaml") in refused.value.detail
    return refused.value.detail


def test_valid_file_and_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(VALID))
    config, digest = load(path)
    assert config.connections[0].operations[0].path == "/v1/chat/completions"
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    edge_files.check(config)


def test_envoys_admin_interface_may_be_on_a_socket(tmp_path: Path) -> None:
    config = _load(tmp_path, _changed("listen.admin", "unix:/run/envoy/admin.sock"))
    made = edge_files.settings(config)
    assert str(made.admin_socket) == "/run/envoy/admin.sock" and (made.admin_host, made.admin_port) == ("", 0)
    edge_files.check(config)
    assert edge_files.settings(_load(tmp_path, VALID)).admin_socket is None


def test_configuration_is_frozen(tmp_path: Path) -> None:
    config = _load(tmp_path, VALID)
    with pytest.raises(ValueError, match="frozen"):
        config.workers = 3  # type: ignore[misc]


_URL = "connections.0.upstream.url (connection model): must be"
WRONG: dict[str, tuple[str, Any, str]] = {
    "misspelt key": (
        "connections.0.request_limit_byte",
        10,
        "connections.0.request_limit_byte (connection model): unknown field (did you mean request_limit_bytes?)",
    ),
    "misspelt section": ("idenity", {}, "idenity: unknown field (did you mean identity?)"),
    "misspelt key further in": ("audit.s3.buckett", "a", "audit.s3.buckett: unknown field (did you mean bucket?)"),
    "misspelt key of an optional section": (
        "connections.0.credential",
        {"file": "f", "heeder": "x-api-key"},
        "connections.0.credential.heeder (connection model): unknown field (did you mean header?)",
    ),
    "field like no other": ("zzz", 1, "zzz: unknown field"),
    "missing section": ("redaction", ..., "redaction: Field required"),
    "missing field": ("policy.bundle_file", ..., "policy.bundle_file: Field required"),
    "text for a number": ("workers", "2", "workers: Input should be a valid integer"),
    "number for a text": ("audit.replica", 7, "audit.replica: Input should be a valid string"),
    "truth for a text": ("audit.origin", False, "audit.origin: Input should be a valid string"),
    "number for truth": (
        "connections.0.unsafe_allow_upgrade",
        1,
        "unsafe_allow_upgrade (connection model): Input should be a valid bool",
    ),
    "text for a list": ("connections.0.hosts", "*", "connections.0.hosts (connection model): Input should be a valid"),
    "null for a section": ("audit", None, "audit: Input should be"),
    "no workers": ("workers", 0, "workers: Input should be greater"),
    "not a number": ("drain_seconds", float("nan"), "drain_seconds: Input should be a finite number"),
    "longer than any clock": ("drain_seconds", 1e300, "drain_seconds: Input should be less than or equal to 31536000"),
    "endless": ("drain_seconds", float("inf"), "drain_seconds: Input should be a finite number"),
    "hold longer than Envoy waits": ("listen.hold_seconds", 3601, "listen.hold_seconds: Input should be less"),
    "address without port": ("listen.http", "127.0.0.1", "listen.http: must be host:port, for example"),
    "port too large": ("metrics", "127.0.0.1:70000", "metrics: the port must be between"),
    "port zero": ("listen.admin", "127.0.0.1:0", "listen.admin: the port must be between"),
    "socket without a path": ("listen.admin", "unix:admin.sock", "listen.admin: must be host:port, for example"),
    "socket of a path too long": ("listen.admin", f"unix:/{'a' * 107}", "listen.admin: too long, a socket's path must"),
    "callers on a socket": ("listen.http", "unix:/run/http.sock", "listen.http: must be host:port"),
    "same address twice": ("listen", {"http": "a:1", "admin": "a:1"}, "listen.admin: a:1 is that of listen.http"),
    "metrics where callers come to": ("metrics", "127.0.0.1:8080", "metrics: 127.0.0.1:8080 is that of listen.http"),
    "metrics on a port that is taken everywhere": (
        "listen.http",
        "0.0.0.0:9464",
        "metrics: 127.0.0.1:9464 is that of listen.http",
    ),
    "bundles where metrics are": (
        "policy.distribution",
        {"public_key_file": "k", "key_id": "k", "listen": "127.0.0.1:9464"},
        "policy.distribution.listen: 127.0.0.1:9464 is that of metrics",
    ),
    "bundles on a port that there is not": (
        "policy.distribution",
        {"public_key_file": "k", "key_id": "k", "listen": "127.0.0.1:99999"},
        "policy.distribution.listen: the port must be between",
    ),
    "console's metrics where people come to": (
        "console",
        {"public_url": "https://desk.example.com", "metrics": "127.0.0.1:8090"},
        "console.metrics: 127.0.0.1:8090 is that of console.listen",
    ),
    "a subject from nowhere": (
        "identity.issuers.0.claims",
        {"subject": []},
        "identity.issuers.0.claims.subject",
    ),
    "a certificate's subject from nowhere": ("identity.mtls", {"subject_from": []}, "identity.mtls.subject_from: List"),
    "no issuer": ("identity", {}, "identity: name at least one issuer"),
    "issuer twice": (
        "identity.issuers",
        [{"issuer": "https://a", "audiences": ["x"]}, {"issuer": "https://a", "audiences": ["y"]}],
        "identity.issuers: two have the issuer https://a",
    ),
    "no audience": ("identity.issuers.0.audiences", [], "identity.issuers.0.audiences: List should have"),
    "empty audience": ("identity.issuers.0.audiences", [""], "identity.issuers.0.audiences.0: String should have"),
    "symmetric algorithm": ("identity.issuers.0.algorithms", ["HS256"], "identity.issuers.0.algorithms.0: Input"),
    "algorithm none": ("identity.issuers.0.algorithms", ["none"], "identity.issuers.0.algorithms.0: Input"),
    "long leeway": ("identity.issuers.0.leeway_seconds", 301, "identity.issuers.0.leeway_seconds: Input"),
    "certificates without authority": (
        "listen.tls",
        {"address": "a:1", "certificate_file": "c", "key_file": "k", "require_client_certificate": True},
        "listen.tls: require_client_certificate needs client_ca_file",
    ),
    "mtls without authority": ("identity.mtls", {}, "listen.tls.client_ca_file: identity.mtls needs it"),
    "accepts what is not set up": ("connections.0.accepts", ["mtls"], "identity.mtls: a connection accepts mtls"),
    "a field rule without a path": (
        "connections.0.redaction",
        {"fields": {"request": [{"action": "mask"}]}},
        "connections.0.redaction.fields.request.0.path (connection model): Field required",
    ),
    "a field rule's action": (
        "connections.0.redaction",
        {"fields": {"request": [{"path": "$.a", "action": "allow"}]}},
        "connections.0.redaction.fields.request.0.action (connection model): Input should be 'mask'",
    ),
    "a path that is none": (
        "connections.0.redaction",
        {"fields": {"request": [{"path": "$.a", "action": "mask"}, {"path": "$.x-y", "action": "mask"}]}},
        "connections.0.redaction.fields (connection model): request: rule 2: '$.x-y', character 4: names with other",
    ),
    "a field that must stay": (
        "connections.0.redaction",
        {"fields": {"response": [{"path": "$..usage", "action": "drop"}]}},
        "response: rule 1: the path also leads to the response's `usage`, which must stay",
    ),
    "a misspelt direction of fields": (
        "connections.0.redaction",
        {"fields": {"answer": []}},
        "connections.0.redaction.fields.answer (connection model): unknown field",
    ),
    "no connection": ("connections", [], "connections: List should have at least 1 item"),
    "name of a connection": (
        "connections.0.name",
        "Model",
        "connections.0.name: must be a letter, then letters, digits",
    ),
    "url with a path": ("connections.0.upstream.url", "https://a/v1", f"{_URL} scheme, host and port without a path"),
    "url of another kind": ("connections.0.upstream.url", "ftp://a", f"{_URL} scheme, host and port without a path"),
    "no host": ("connections.0.hosts", [], "connections.0.hosts (connection model): List should have"),
    "host with a port": (
        "connections.0.hosts",
        ["a:80"],
        "connections.0.hosts.0 (connection model): must be a host name in lower case",
    ),
    "host in upper case": (
        "connections.0.hosts",
        ["A.example"],
        "connections.0.hosts.0 (connection model): must be a host name in lower case",
    ),
    "prefix with a query": (
        "connections.0.path_prefix",
        "/a?b",
        "connections.0.path_prefix (connection model): must be a path that begins with a slash",
    ),
    "operation out of reach": (
        "connections.0.path_prefix",
        "/other/",
        "connections.0 (connection model): operations: /v1/chat/completions is not under path_prefix /other/",
    ),
    "operation twice": (
        "connections.0.operations",
        [{"path": "/a", "protocol": "openai.chat"}, {"path": "/a", "protocol": "generic"}],
        "connections.0 (connection model): operations: two have the method and path POST /a",
    ),
    "unknown protocol": (
        "connections.0.operations",
        [{"path": "/a", "protocol": "openai.chats"}],
        "connections.0.operations.0.protocol (connection model): Input should be",
    ),
    "credential in a header of Envoy's": (
        "connections.0.credential",
        {"header": "x-forwarded-for", "file": "f"},
        "connections.0.credential.header (connection model): this header cannot hold a credential",
    ),
    "credential's prefix breaks the line": (
        "connections.0.credential",
        {"prefix": "a\r\nb: ", "file": "f"},
        "connections.0.credential.prefix (connection model): must be plain text",
    ),
    "segment too small": (
        "audit.wal",
        {"segment_bytes": 8 * MIB},
        f"audit.wal.segment_bytes must be at least {8 * MIB + MIB // 4}",
    ),
    "no space for two": ("audit.wal", {"max_bytes": 16 * MIB}, "audit.wal: max_bytes must be at least"),
    "bucket": ("audit.s3.bucket", "", "audit.s3.bucket: must be a bucket's name"),
    "prefix of keys": ("audit.s3.prefix", "a", "audit.s3.prefix: must be nothing, or letters"),
    "origin": ("audit.origin", "a b", "audit.origin: must be letters, digits"),
    "too long for a socket": ("run_dir", "/run/" + "a" * 100, "run_dir: too long"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    path, value, expected = WRONG[name]
    assert expected in _refusal(tmp_path, _changed(path, value))


def test_text_that_goes_on_after_its_form_is_refused(tmp_path: Path) -> None:
    """A pattern that looks at the first line only would let a second one into Envoy's files."""
    assert "connections.0.hosts.0" in _refusal(tmp_path, _changed("connections.0.hosts", ["a.example\n"]))
    assert _URL in _refusal(tmp_path, _changed("connections.0.upstream.url", "https://a\n"))


def test_connection_is_named_where_it_can_be(tmp_path: Path) -> None:
    """Its number alone must be counted for; a name that is none is not repeated: it could be anything."""
    whole = _changed("connections.0.workers", 1)
    whole["connections"].append({"name": "sk-PLANTED", "upstream": {"url": "https://b"}, "hosts": ["b"]})
    whole["connections"].append("no mapping")
    said = _refusal(tmp_path, whole)
    assert "connections.0.workers (connection model): unknown field" in said
    assert "connections.1.name: must be" in said
    assert "connections.2: " in said
    assert "PLANTED" not in said


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    whole = _changed("workers", 0)
    whole["drain_seconds"] = -1
    said = _refusal(tmp_path, whole)
    assert "workers: " in said and "drain_seconds: " in said


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"name": "model"}, "connections: two have the name model"),
        ({"name": "other"}, "connections: two have the host and path_prefix * /"),
    ],
)
def test_connections_that_get_in_each_others_way(tmp_path: Path, second: dict[str, Any], expected: str) -> None:
    whole = copy.deepcopy(VALID)
    whole["connections"].append({**whole["connections"][0], **second})
    assert expected in _refusal(tmp_path, whole)


# YAML's own traps -----------------------------------------------------------------------------------------------------


def _yaml(tmp_path: Path, field: str) -> str:
    return _refusal(tmp_path, yaml.safe_dump(VALID) + field)


@pytest.mark.parametrize("word", ["no", "yes", "on", "off"])
def test_yamls_truth_is_no_text(tmp_path: Path, word: str) -> None:
    whole = yaml.safe_dump(VALID).replace("bucket: evidence", f"bucket: {word}")
    assert "audit.s3.bucket: Input should be a valid string" in _refusal(tmp_path, whole)


def test_date_is_named(tmp_path: Path) -> None:
    whole = yaml.safe_dump(VALID).replace("bucket: evidence", "bucket: 2026-01-01")
    assert "audit.s3.bucket: not a value of JSON (a date?" in _refusal(tmp_path, whole)


def test_date_in_a_list_is_named(tmp_path: Path) -> None:
    assert "connections.0.tags.1: not a value of JSON" in _refusal(
        tmp_path, yaml.safe_dump(_changed("connections.0.tags", ["a", "DATE"])).replace("DATE", "2026-01-01")
    )


def test_key_that_is_no_text_is_named(tmp_path: Path) -> None:
    assert "2026-01-01: not a value of JSON" in _yaml(tmp_path, "2026-01-01: 1\n")


def test_key_twice(tmp_path: Path) -> None:
    assert "stands twice" in _yaml(tmp_path, "workers: 1\nworkers: 2\n")


def test_key_twice_further_in(tmp_path: Path) -> None:
    whole = yaml.safe_dump(VALID).replace("bucket: evidence", "bucket: a-bucket\n    bucket: evidence")
    assert "bucket stands twice" in _refusal(tmp_path, whole)


def test_file_that_holds_itself(tmp_path: Path) -> None:
    assert "not a value of JSON" in _yaml(tmp_path, "listen: &a {tls: *a}\n")


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", "[a]", "just words", "7"])
def test_file_that_is_no_mapping(tmp_path: Path, content: str) -> None:
    assert _refusal(tmp_path, content).endswith("config.yaml: empty or not a mapping; see docs/operating.md")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: [1", "not valid YAML (line 1)"),
        ("a: 1\nb: 'c\n", "not valid YAML (line"),
        ("a: !!python/object:os.system x", "not valid YAML (line 1)"),
        ("a: \0", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("a: 2026-99-99", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
    ],
    ids=["open list", "open quote", "python tag", "zero byte", "deep", "no such day", "no number", "no truth"],
)
def test_not_yaml(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in _refusal(tmp_path, content)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: \xff\xfe\xff")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nothing.yaml")


def test_folder_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


URLS: dict[str, tuple[str, Any, str]] = {
    "audit.s3.endpoint": ("audit.s3.endpoint", ..., "keys belong in credentials_file"),
    "audit.signing.aws_kms.endpoint": (
        "audit.signing",
        {"aws_kms": {"key_id": "k", "endpoint": ...}},
        "usual AWS chain",
    ),
    "audit.signing.openbao.address": (
        "audit.signing",
        {"openbao": {"address": ..., "key": "k", "version": 1, "token_file": "/t"}},
        "the token belongs in token_file",
    ),
    "audit.time_stamp_authorities.0.url": (
        "audit.time_stamp_authorities",
        [{"url": ..., "certificates_file": "/c"}],
        "let a proxy of yours add it",
    ),
    "audit.witnesses.0.url": ("audit.witnesses", [{"url": ..., "key": "w+1+k"}], "what a witness gets is signed"),
    "connections.0.upstream.url": ("connections.0.upstream.url", ..., "credential.file is for those"),
    "identity.issuers.0.issuer": ("identity.issuers.0.issuer", ..., "a token belongs in bearer_token_file"),
    "identity.issuers.0.jwks_uri": ("identity.issuers.0.jwks_uri", ..., "a token belongs in bearer_token_file"),
    "policy.distribution.s3.endpoint": (
        "policy.distribution",
        {"public_key_file": "/k", "key_id": "k", "s3": {"bucket": "b", "key": "k", "endpoint": ...}},
        "keys belong in credentials_file",
    ),
    "telemetry.otlp.endpoint": ("telemetry", {"otlp": {"endpoint": ...}}, "a key belongs in headers_file"),
}


def _put(value: Any, url: str) -> Any:
    """The value with the address in the place of `...`."""
    if isinstance(value, dict):
        return {name: _put(one, url) for name, one in value.items()}
    if isinstance(value, list):
        return [_put(one, url) for one in value]
    return url if value is ... else value


@pytest.mark.parametrize(
    "url", ["https://user:SECRET@a.example", "http://SECRET@a.example", "https://:SECRET@127.0.0.1"]
)
@pytest.mark.parametrize("field", URLS)
def test_no_credential_stands_in_an_address(tmp_path: Path, field: str, url: str) -> None:
    """It would be in a ConfigMap, and in every copy of the file. Whoever tries is told where it belongs."""
    path, value, sentence = URLS[field]
    said = _refusal(tmp_path, _changed(path, _put(value, url)))
    assert f"{field}" in said and sentence in said and "SECRET" not in said
    _load(tmp_path, _changed(path, _put(value, "https://a.example:8443")))


@pytest.mark.parametrize("field", URLS)
def test_no_credential_stands_behind_an_address(tmp_path: Path, field: str) -> None:
    path, value, sentence = URLS[field]
    said = _refusal(tmp_path, _changed(path, _put(value, "https://a.example/x?region=eu&api_key=SECRET")))
    assert f"{field}" in said and sentence in said and "SECRET" not in said


SECRET_PARAMETERS = (
    "password",
    "token",
    "access_token",
    "api-key",
    "apiKey",
    "key",
    "client_secret",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Credential",
    "AWSAccessKeyId",
    "sig",
    "code",
    "pass%77ord",
)


@pytest.mark.parametrize("name", SECRET_PARAMETERS)
@pytest.mark.parametrize("before", ["?", "?a=b&", "?a=b;", "#", "/path?"])
def test_credential_is_known_by_its_name(name: str, before: str) -> None:
    assert secret_parameter(f"https://a.example{before}{name}=SECRET")


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/token=1/password=2",
        "https://a.example/?country_code=de&keyword=a&max_tokens=5&sslkey=/k&password",
        "postgresql://u@h/db?sslmode=verify-full&passfile=/p&sslcert=/c",
    ],
)
def test_what_is_no_credential_stays(url: str) -> None:
    assert secret_parameter(url) is None


@pytest.mark.parametrize("name", ["https://a.example/realms/a@b", "sa@project.example.com", "kubernetes/sa", "a?b@//c"])
def test_name_of_an_issuer_may_have_what_is_no_password(tmp_path: Path, name: str) -> None:
    assert _load(tmp_path, _changed("identity.issuers.0.issuer", name)).identity.issuers[0].issuer == name


def test_no_address_in_the_schema_takes_a_credential() -> None:
    """The chart's schema is made of it: what it refuses never is in a ConfigMap. (A database's user is none.)"""
    of_another_kind = {("AuditSection", "registry_url"), ("ConsoleSection", "issuer")}
    found = set()
    for section, schema in Config.model_json_schema()["$defs"].items():
        for name, one in schema.get("properties", {}).items():
            if not re.search(r"url$|uri$|endpoint$|^issuer$", name) and (section, name) != ("OpenBaoKey", "address"):
                continue
            if (section, name) in of_another_kind:
                continue
            found.add((section, name))
            [pattern] = [each["pattern"] for each in one.get("anyOf", [one]) if each["type"] == "string"]
            assert not re.search(pattern, "https://user:SECRET@a.example/x"), (section, name)
            assert re.search(pattern, "https://a.example"), (section, name)
    assert len(found) == len(URLS) + 3  # and webhook, Slack, the console


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:SECRET@h/db",
        "postgresql+psycopg://u:@h/db",
        "postgresql://u@h/db?password=SECRET",
        "postgresql://u@h/db?sslmode=verify-full&sslpassword=SECRET",
        "postgresql://u@h/db?oauth_client_secret=SECRET",
    ],
)
def test_no_password_stands_in_the_registrys_address(tmp_path: Path, url: str) -> None:
    said = _refusal(tmp_path, _changed("audit.registry_url", url))
    assert "registry_url: no password in it" in said and "SECRET" not in said
    plain = "postgresql+psycopg://u@h/db?sslmode=verify-full"
    assert _load(tmp_path, _changed("audit.registry_url", plain)).audit.registry_url == plain


def test_values_are_not_repeated(tmp_path: Path) -> None:
    """Whoever writes a secret into the file by mistake must not find it in a log."""
    said = _refusal(tmp_path, _changed("connections.0.credential", {"file": "f", "value": "sk-planted"}))
    assert "connections.0.credential.value" in said
    assert "planted" not in said


def test_every_field_says_what_it_is() -> None:
    """The generated documentation is made from this."""

    def check(model: Any) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"

    def below(section: type[Section]) -> Iterator[type[Section]]:
        for one in section.__subclasses__():
            yield one
            yield from below(one)

    sections = list(below(Section))
    assert len(sections) > 15
    for section in sections:
        check(section)


# Outsiders ------------------------------------------------------------------------------------------------------------

WITNESS = {"url": "https://witness.example", "key": "witness.example/a+00000000+AAAA"}


def test_witness_quorum(tmp_path: Path) -> None:
    assert _load(tmp_path, VALID).audit.witness_quorum == 1
    two = [WITNESS, {**WITNESS, "key": "witness.example/b+00000000+AAAA"}]
    whole = _changed("audit.witnesses", two)
    whole["audit"]["witness_quorum"] = 2
    assert _load(tmp_path, whole).audit.witness_quorum == 2


@pytest.mark.parametrize(
    ("witnesses", "quorum", "why"),
    [
        ([WITNESS], 2, "witness_quorum: 2 cannot be met by 1 witnesses"),
        ([WITNESS, WITNESS], 1, "witnesses: two have the key"),
        ([WITNESS], 0, "audit.witness_quorum"),
    ],
)
def test_witnesses_that_cannot_be(tmp_path: Path, witnesses: list[Any], quorum: int, why: str) -> None:
    whole = _changed("audit.witnesses", witnesses)
    whole["audit"]["witness_quorum"] = quorum
    assert why in _refusal(tmp_path, whole)


# The console ---------------------------------------------------------------------------------------------------------

CONSOLE = {"public_url": "https://desk.example.com"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"public_url": "http://desk.example.com"}, "public_url: must be https"),
        ({"public_url": "http://127.0.0.1.example.com"}, "public_url: must be https"),
        ({"public_url": "https://desk.example.com:x"}, "public_url: scheme, host and port"),
        ({"public_url": "https://someone@desk.example.com"}, "public_url: must be scheme, host and port"),
        ({"public_url": "https://:80"}, "public_url: scheme, host and port"),
        ({"scopes": ["profile"]}, "scopes: must name openid"),
        ({"scopes": []}, "scopes: must name openid"),
        ({"scopes": ["openid profile"]}, "one word, for example openid"),
    ],
)
def test_console_that_would_not_work(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    said = _refusal(tmp_path, _changed("console", {**CONSOLE, **changes}))

    assert expected in said and "console" in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:8090", "http://[::1]:8090", "http://localhost", "https://x:8443"])
def test_console_that_works(tmp_path: Path, url: str) -> None:
    scopes = ["openid", "groups"]

    assert _load(tmp_path, _changed("console", {"public_url": url, "scopes": scopes})).console is not None


ENTRA = "https://login.microsoftonline.com/0f0f/v2.0"


@pytest.mark.parametrize(
    ("issuer", "subject", "client", "is_refused"),
    [
        (ENTRA, "sub", "affidavit-console", True),
        (ENTRA, ["sub"], "affidavit-console", True),
        ("https://sts.windows.net/0f0f/", "sub", "affidavit-console", True),
        (ENTRA, "oid", "affidavit-console", False),
        (ENTRA, "sub", "affidavit", False),  # the client that callers' tokens are for: one `sub`
        ("https://login.example.com", "sub", "affidavit-console", False),
    ],
)
def test_issuer_that_is_known_to_name_people_anew_for_each_client(
    tmp_path: Path, issuer: str, subject: Any, client: str, is_refused: bool
) -> None:
    whole = _changed("console", {**CONSOLE, "client_id": client})
    whole["identity"]["issuers"][0] |= {"issuer": issuer, "claims": {"subject": subject}}

    if is_refused:
        assert "claims.subject" in (said := _refusal(tmp_path, whole)) and "oid" in said
    else:
        assert _load(tmp_path, whole).console is not None


def _named(tmp_path: Path, content: bytes, **more: Any) -> Config:
    file = tmp_path / "pod-name"
    file.write_bytes(content)
    return _load(tmp_path, {**VALID, "audit": {**VALID["audit"], "replica_file": str(file), **more}})


def test_replica_is_named_by_a_file(tmp_path: Path) -> None:
    """All pods have one configuration, so one digest of it in their logs; each has a name of its own."""
    assert _named(tmp_path, b"gw-affidavit-3\n").audit.replica == "gw-affidavit-3"


@pytest.mark.parametrize("content", [b"", b"Gate", b"3-gw", b"two words", b"a" * 64, b"\xff", b"a/b"])
def test_file_that_holds_no_name_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audit\.replica_file: .*: must hold a letter, then"):
        _named(tmp_path, content)


def test_file_of_the_name_that_is_not_there(tmp_path: Path) -> None:
    missing = _changed("audit.replica_file", str(tmp_path / "none"))
    assert "audit.replica_file: " in _refused_by_load(tmp_path, missing)


def test_two_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name replica or replica_file, not both"):
        _named(tmp_path, b"gw-1", replica="gw-0")


def _refused_by_load(tmp_path: Path, content: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, content)
    return refused.value.detail
