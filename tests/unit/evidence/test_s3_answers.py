"""What is not S3's is no evidence: whoever reads the bucket says so, in words, and takes nothing of it for the bucket."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import pytest

from ext_proc.evidence.s3 import S3Versions
from ext_proc.evidence.versions import EvidenceError, Version
from ext_proc.verify import source
from ext_proc.verify.bucket import BucketSource
from ext_proc.verify.findings import VerifyError
from tests.fakes.s3_answers import PORTAL, Server, versions

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
LISTED = versions(("k", "v", "2026-11-24T12:00:01Z"))
MORE = "<NextKeyMarker>{0}</NextKeyMarker><NextVersionIdMarker>{0}</NextVersionIdMarker>"
NOT_S3 = {
    "a redirect": (307, {"location": "http://portal.invalid/"}, b""),
    "a number that is none": (200, {}, LISTED[2].replace(b">4<", b">four<")),
    "a version without a name": (200, {}, LISTED[2].replace(b"Key>", b"Quay>")),
    "a portal's page": (200, {}, PORTAL),
}


@pytest.fixture
def server(monkeypatch):
    made = Server()
    told = {
        "AWS_ENDPOINT_URL": made.url,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()


@pytest.mark.parametrize("answer", NOT_S3)
def test_a_listing_of_nobody_is_none(server, answer):
    server.answers["LIST"] = NOT_S3[answer]
    with pytest.raises(EvidenceError, match="cannot be read"):
        list(S3Versions("evidence", "").versions(""))
    with pytest.raises(VerifyError, match="s3://evidence"):
        list(BucketSource("evidence", "").versions(None))


def test_a_listing_that_begins_again_ends(server):
    def pages():
        while True:
            yield versions(more=MORE.format("a"))
            yield versions(more=MORE.format("b"))

    server.answers["LIST"] = pages()
    with pytest.raises(EvidenceError, match="begins again"):
        list(S3Versions("evidence", "").versions(""))
    server.answers["LIST"] = pages()
    with pytest.raises(VerifyError, match="begins again"):
        list(BucketSource("evidence", "").versions(None))


def test_a_redirect_is_no_object_and_no_bucket(server):
    server.answers = dict.fromkeys(("LIST", "GET", "HEAD"), NOT_S3["a redirect"])
    with pytest.raises(EvidenceError, match="recursion"):
        S3Versions("evidence", "").download(Version("k", "v", True, False, 4, AT), BytesIO())
    with pytest.raises(EvidenceError):
        S3Versions("evidence", "").bucket()
    at_bucket = BucketSource("evidence", "")
    for ask in (at_bucket.open, at_bucket.lock):
        with pytest.raises(VerifyError):
            ask(source.Version("k", "v", True, False, 4, AT, "v"))
    with pytest.raises(VerifyError):
        at_bucket.facts(None)


def test_an_object_of_another_length_is_asked_for_again(server):
    into = BytesIO()
    server.answers["GET"] = iter([(200, {}, PORTAL), (200, {}, b"true")])
    S3Versions("evidence", "").download(Version("k", "v", True, False, 4, AT), into)
    assert into.getvalue() == b"true"
    server.answers["GET"] = (200, {}, PORTAL)
    with pytest.raises(EvidenceError, match="4 are listed"):
        S3Versions("evidence", "").download(Version("k", "v", True, False, 4, AT), into)
