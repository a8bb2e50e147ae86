"""`ext_proc.app.approval.two_names`: one person who could be two to the rules of approval."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc import cli
from ext_proc.app.approval import two_names
from ext_proc.config import load
from tests.fakes.configured import a_config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("is_desk", "is_by_certificate", "is_two", "said"),
    [
        (True, False, False, []),
        (True, True, False, ["accept client certificates"]),
        (True, False, True, ["an account at two of"]),
        (True, True, True, ["accept client certificates", "an account at two of"]),
        (False, True, True, []),
    ],
)
def test_check_config_says_where_one_person_has_two_names(
    is_desk: bool, is_by_certificate: bool, is_two: bool, said: list[str], tmp_path: Path, capsys: Any
) -> None:
    a_config(tmp_path)
    path = tmp_path / "config.yaml"
    told = yaml.safe_load(path.read_text())
    first = told["identity"]["issuers"][0]
    told.pop("console", None)
    if is_desk:
        told["console"] = {"public_url": "https://desk.example.com", "issuer": first["issuer"]}
    if is_by_certificate:
        files = {name: str(tmp_path / "x.pem") for name in ("certificate_file", "key_file", "client_ca_file")}
        told.setdefault("listen", {})["tls"] = {"address": "127.0.0.1:8443", **files}
        told["identity"]["mtls"] = {}
        told["connections"][0]["accepts"] = ["oidc", "mtls"]
    if is_two:
        other = copy.deepcopy(first)
        other["issuer"] = "https://other.example.com"
        told["identity"]["issuers"].append(other)
    path.write_text(yaml.safe_dump(told))
    found = two_names.warnings(load(path)[0])
    assert len(found) == len(said) and all(words in one for words, one in zip(said, found, strict=True))
    if not is_by_certificate:  # there are no certificates to be read
        assert cli.main(["check-config", "--config", str(path)]) == 0
        assert [f"affidavit: warning: {one}" for one in found] == capsys.readouterr().err.splitlines()
