"""Bundles out of S3: each new version is put where bundles are published, and a store that fails changes nothing."""

from __future__ import annotations

import json
import os
from threading import Event

import pytest
import yaml

from ext_proc.app import registry
from ext_proc.app.process import clock
from ext_proc.app.serving import shipping
from ext_proc.app.serving.bundle_fetch import BundleFetcher, fetch_first
from ext_proc.app.serving.distribution import Distribution, Distributor, write_opa_config
from ext_proc.config import load
from ext_proc.errors import ConfigError
from ext_proc.policy.bundle import BUNDLE_MAX_BYTES, read_version
from tests.fakes.configured import a_config
from tests.fakes.store import FakeStore
from tests.unit.audit.test_s3 import Server, error
from tests.unit.policy.test_opa import write_bundle


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def config(tmp_path, server):
    a_config(tmp_path)
    (tmp_path / "aws").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    (tmp_path / "key.pub").write_text("-----BEGIN PUBLIC KEY-----")
    told = yaml.safe_load((tmp_path / "config.yaml").read_text())
    told["policy"]["distribution"] = {
        "public_key_file": str(tmp_path / "key.pub"),
        "key_id": "k1",
        "s3": {
            "bucket": "policies", "key": "gateway/bundle.tar.gz", "endpoint": server.url,
            "credentials_file": str(tmp_path / "aws"),
        },
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(told))
    return load(tmp_path / "config.yaml")[0]


def publish(server, raw, tag='"1"'):
    server.answers["GET"] = (200, {"etag": tag}, raw)


def fetcher(config):
    return BundleFetcher(config.policy.distribution.s3, config.policy.bundle_file)


def test_a_new_version_is_put_there_once(server, config):
    made, target = fetcher(config), config.policy.bundle_file
    publish(server, b"one")
    assert made.fetch()
    assert target.read_bytes() == b"one"
    method, path, headers, _ = server.seen[-1]
    assert (method, path.partition("?")[0], headers.get("If-None-Match")) == (
        "GET", "/policies/gateway/bundle.tar.gz", None,
    )  # fmt: skip
    server.answers["GET"] = (304, {"etag": '"1"'}, b"")
    target.write_bytes(b"somebody's")
    assert not made.fetch()
    assert server.seen[-1][2]["If-None-Match"] == '"1"'
    assert target.read_bytes() == b"somebody's"
    publish(server, b"two", '"2"')
    assert made.fetch()
    assert [path.name for path in target.parent.glob("*bundle.tar.gz*")] == [target.name]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (error(403, "AccessDenied"), "StoreRefused: AccessDenied"),
        (error(404, "NoSuchKey"), "NoSuchKey"),
        (error(503, "SlowDown"), "StoreUnavailable: SlowDown"),
        ((0, {}, b""), "StoreUnavailable"),
    ],
)
def test_a_store_that_fails_changes_nothing(server, config, answer, told):
    made, target = fetcher(config), config.policy.bundle_file
    before = target.read_bytes()
    server.answers["GET"] = answer
    made.round()
    assert told in made.trouble
    assert target.read_bytes() == before
    publish(server, b"one")
    made.round()
    assert (made.trouble, target.read_bytes()) == (None, b"one")


def test_one_that_is_far_too_large_is_read_no_further_and_refused(server, config):
    notes = []
    distributor = Distributor(Distribution.of(config), lambda kind, facts: notes.append((kind, facts["reason"])))
    publish(server, b"\0" * (BUNDLE_MAX_BYTES + 1000))
    fetcher(config).round()
    assert config.policy.bundle_file.stat().st_size == BUNDLE_MAX_BYTES + 1
    distributor.round()
    assert notes == [("policy.refused", "unreadable")]


def test_a_pipe_where_bundles_are_published_is_refused(config):
    notes = []
    distributor = Distributor(Distribution.of(config), lambda kind, facts: notes.append((kind, facts["reason"])))
    config.policy.bundle_file.unlink()
    os.mkfifo(config.policy.bundle_file)
    distributor.round()
    distributor.round()
    assert notes == [("policy.refused", "unreadable")]
    with pytest.raises(ConfigError, match="not a file"):
        read_version(config.policy.bundle_file)


def test_the_first_start_fetches_and_the_next_ones_need_no_store(server, config):
    config.policy.bundle_file.unlink()
    server.answers["GET"] = error(404, "NoSuchKey")
    with pytest.raises(ConfigError, match=r"policy\.distribution\.s3: s3://policies/gateway/bundle\.tar\.gz"):
        fetch_first(config)
    write_bundle(config.policy.bundle_file.with_name("made"), "r1")
    publish(server, config.policy.bundle_file.with_name("made").read_bytes())
    fetch_first(config)
    assert config.policy.bundle_file.exists()
    server.seen.clear()
    fetch_first(config)
    assert server.seen == []


def test_rounds_go_on_until_it_is_over(server, config):
    made, stop = fetcher(config), Event()
    publish(server, b"one")
    made.start(stop, 0.01)
    until = Event()
    for _ in range(1000):
        if config.policy.bundle_file.read_bytes() == b"one" and len(server.seen) > 2:
            break
        until.wait(0.01)
    stop.set()
    assert config.policy.bundle_file.read_bytes() == b"one"


def test_trouble_is_shown(server, config, tmp_path, monkeypatch):
    server.answers["GET"] = error(403, "AccessDenied")
    section = config.policy.distribution.model_copy(update={"listen": "127.0.0.1:0", "poll_seconds": 0.01})
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"distribution": section})})
    config.policy.bundle_file.unlink()  # nothing to refuse
    write_opa_config(config, section)
    monkeypatch.setattr(shipping, "store_of", lambda _: FakeStore(clock=clock))
    registry.evidence_directory(config).mkdir()
    made = shipping._Shipping(config, "0" * 64)
    made._fetcher.round()
    assert made._policy_degraded.startswith("bundles are not fetched: StoreRefused: AccessDenied")
    made._tell_state(shipping.ShipReport())
    state = json.loads((config.run_dir / "state" / "shipper.json").read_text())
    assert "AccessDenied" in state["policy_refused"]
