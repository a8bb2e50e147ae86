from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ext_proc.errors import AuditUnavailable, CredentialUnavailable
from ext_proc.evidence.compare import Answer, compare, determinism
from ext_proc.evidence.replay import Upstream, replay
from ext_proc.evidence.show import find
from ext_proc.evidence.versions import EvidenceError
from tests.fakes.recorded import ANSWER, MASKED, NOON, FakeJournal, Recorded, as_json


class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["content-length"])
        self.server.seen.append((self.path, dict(self.headers), self.rfile.read(length)))
        status, kind, body = self.server.answer
        self.send_response(status)
        self.send_header("content-type", kind)
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.headers["content-length"] = "0"
        self.do_POST()

    def log_message(self, *_):
        pass


@pytest.fixture
def model():
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.seen = []
    server.answer = (200, "application/json", as_json(ANSWER))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def recorded(tmp_path):
    made = Recorded.at(tmp_path)
    log = made.log()
    log.exchange("wanted", NOON)
    log.refused("refused", NOON)
    log.exchange("unanswered", NOON, outcome=False)
    log.seal()
    return made


def url(model):
    return f"http://127.0.0.1:{model.server_port}"


def run(recorded, upstream, name="wanted", journal=None):
    located = find(recorded.store, name, lambda _: None)
    return replay(recorded.store, recorded.keyring, journal or FakeJournal(), located, upstream, by="audit/17")


def test_what_was_forwarded_is_sent_again_and_compared(recorded, model, tmp_path):
    (tmp_path / "key").write_text("sk-1\n")
    journal = FakeJournal()
    found = run(recorded, Upstream(url(model), tmp_path / "key"), journal=journal)
    assert found.verdict == "identical"
    path, headers, body = model.seen[0]
    assert path == "/v1/chat/completions"
    assert json.loads(body) == MASKED, "never what the caller wrote"
    assert headers["authorization"] == "Bearer sk-1"
    assert headers["content-type"] == "application/json"
    (kind, fields) = journal.notes[0]
    assert kind == "access.read"
    assert fields["purpose"] == "replay"
    assert fields["roles"] == ["request.forwarded", "response.upstream"]


def test_a_new_answer_with_the_same_content_is_the_same(recorded, model):
    model.answer = (200, "application/json", json.dumps({**ANSWER, "id": "b2", "created": 17}).encode())
    found = run(recorded, Upstream(url(model)))
    assert found.verdict == "same"
    assert "authorization" not in {name.lower() for name in model.seen[0][1]}


def test_differences_are_told_by_field(recorded, model):
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Done.\nGood bye"}}
    other = {**ANSWER, "model": "gpt-5", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    model.answer = (200, "application/json", as_json(other))
    found = run(recorded, Upstream(f"{url(model)}/another/path"))
    assert model.seen[0][0] == "/another/path"
    assert found.verdict == "different"
    different = {one.name: (one.recorded, one.replayed) for one in found.fields if not one.is_same}
    assert different == {
        "model": ("gpt-4o-2024-08-06", "gpt-5"),
        "finish_reasons": (["stop"], ["length"]),
        "output_tokens": (3, 4),
    }
    assert "-Bye" in found.text_diff
    assert "+Good bye" in found.text_diff
    assert "no seed" in found.determinism
    assert json.loads(json.dumps(found.to_json()))["verdict"] == "different"


def test_a_stream_is_compared_by_what_it_says():
    def stream(*parts: str) -> bytes:
        events = [{"model": "m", "choices": [{"index": 0, "delta": {"content": one}}]} for one in parts]
        return b"".join(b"data: " + as_json(one) + b"\n\n" for one in events) + b"data: [DONE]\n\n"

    kind = "text/event-stream"
    one, other = Answer(200, kind, stream("He", "llo")), Answer(200, f"{kind}; charset=utf-8", stream("H", "el", "lo"))
    assert compare("openai.chat", b"{}", one, other).verdict == "same"
    assert compare("openai.chat", b"{}", one, Answer(200, kind, stream("Hullo"))).verdict == "different"


@pytest.mark.parametrize(
    "answer",
    [
        (500, "application/json", as_json(ANSWER)),
        (200, "text/html", b"<p>"),
        (302, "text/plain", b""),
        (200, "application/json", b"{"),
    ],
)
def test_other_kinds_of_answers_are_different(recorded, model, answer):
    model.answer = answer
    assert run(recorded, Upstream(url(model))).verdict == "different"
    assert len(model.seen) == 1, "a redirect is not followed: the credential stays here"


def test_no_record_nothing_is_sent(recorded, model):
    journal = FakeJournal()
    journal.failure = AuditUnavailable("disk")
    with pytest.raises(AuditUnavailable):
        run(recorded, Upstream(url(model)), journal=journal)
    assert model.seen == []


def test_what_cannot_be_replayed_says_why(recorded, model, tmp_path):
    with pytest.raises(EvidenceError, match="refused before"):
        run(recorded, Upstream(url(model)), "refused")
    with pytest.raises(EvidenceError, match=r"response\.upstream is not on record"):
        run(recorded, Upstream(url(model)), "unanswered")
    for wrong in ("models.example", "ftp://x", "http://", "http://user:secret@127.0.0.1"):
        with pytest.raises(EvidenceError, match="name a server"):
            run(recorded, Upstream(wrong))
    with pytest.raises(CredentialUnavailable, match="No such file"):
        run(recorded, Upstream(url(model), tmp_path / "none"))
    (tmp_path / "bad").write_text("a\nb")
    with pytest.raises(CredentialUnavailable, match="one line"):
        run(recorded, Upstream(url(model), tmp_path / "bad"))
    assert model.seen == []


def test_an_upstream_that_is_not_there(recorded, model):
    model.shutdown()
    model.server_close()
    with pytest.raises(EvidenceError, match="no answer"):
        run(recorded, Upstream(url(model)))


def test_honest_about_chance():
    assert "expected" in determinism("openai.chat", as_json({"model": "m"}))
    assert "no provider promises" in determinism("openai.chat", as_json({"temperature": 0}))
    assert "seed 7" in determinism("openai.chat", as_json({"temperature": 1, "seed": 7}))
    assert "cannot be read" in determinism("openai.chat", b"{")
