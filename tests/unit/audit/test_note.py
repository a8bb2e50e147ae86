from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ext_proc.audit import note
from ext_proc.errors import IntegrityError


class _Key:
    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


def test_key_of_the_specification():
    # The example key of C2SP signed-note (golang.org/x/mod/sumdb/note documents the same one).
    import base64

    name, _, rest = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".partition("+")
    hinted, _, encoded = rest.partition("+")
    public = base64.b64decode(encoded)[1:]
    assert note.key_id(name, public).hex() == hinted
    assert note.vkey_of(name, public) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_note_of_the_specification_verifies():
    import base64

    public = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    raw = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
        "\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    assert note.is_signed(note.open_note(raw), "PeterNeumann", public)
    assert not note.is_signed(note.open_note(raw.replace("answer", "Answer")), "PeterNeumann", public)


def test_signed_by_two():
    one, two, other = _Key(1), _Key(2), _Key(3)
    opened = note.open_note(note.sign("a\n\nb\n", "log", one, two))
    assert opened.text == "a\n\nb\n"
    assert note.is_signed(opened, "log", one.public_key)
    assert note.is_signed(opened, "log", two.public_key)
    assert not note.is_signed(opened, "log", other.public_key)
    assert not note.is_signed(opened, "another", one.public_key)


def test_checkpoint_there_and_back():
    text = note.checkpoint_text("example/log", 7, b"\7" * 32)
    assert note.read_checkpoint(note.open_note(note.sign(text, "example/log", _Key(1)))) == (
        "example/log",
        7,
        b"\7" * 32,
    )


def test_json_there_and_back():
    raw = note.sign_json({"b": 1, "a": "\u00e9"}, "log", _Key(1)).decode()
    assert raw.startswith('{"a":"\u00e9","b":1}\n\n')
    assert note.json_of(note.open_note(raw)) == {"a": "\u00e9", "b": 1}


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "x\n",
        "x\n\n",
        "x\n\n\u2014 a\n",
        "x\n\n\u2014 a !!\n",
        "x\n\n- a AAAAAAAA\n",
        "x\n\n\u2014 a AAAA\n",
        "x\n\n\u2014 a AAAAAAAA",
    ],
)
def test_what_is_no_note(raw):
    with pytest.raises(IntegrityError):
        note.open_note(raw)


def test_text_without_newline():
    with pytest.raises(IntegrityError):
        note.sign("x", "log", _Key(1))


@pytest.mark.parametrize("text", ["a\n", "a\nb\nc\n", "a\n1\n!\n"])
def test_what_is_no_checkpoint(text):
    with pytest.raises(IntegrityError):
        note.read_checkpoint(note.open_note(note.sign(text, "log", _Key(1))))


@pytest.mark.parametrize("text", ["a\n", "[1]\n"])
def test_what_is_no_object(text):
    with pytest.raises(IntegrityError):
        note.json_of(note.open_note(note.sign(text, "log", _Key(1))))
