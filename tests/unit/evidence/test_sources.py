from __future__ import annotations

import subprocess
import sys

import pytest

from ext_proc.evidence.export import export
from ext_proc.evidence.sources import open_store
from ext_proc.evidence.versions import EvidenceError
from tests.fakes.versions import FakeVersions


def test_a_copy_is_opened_without_aws(tmp_path):
    store = FakeVersions()
    store.put("v1/x.note", b"x")
    export(store, tmp_path / "copy", lambda _: None)
    program = (
        "import sys; from ext_proc.evidence.sources import open_store; from ext_proc.evidence import prove, records, show;"
        "print([one.key for one in open_store(sys.argv[1]).versions('')], 'boto3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "copy"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['v1/x.note'] False\n"


@pytest.mark.parametrize("source", ["nowhere", "s3:/x", ""])
def test_what_is_neither_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "..")
    with pytest.raises(EvidenceError, match=r"name a bucket|not a directory that"):
        open_store(source)
