"""E-mail: what is in a letter, that nobody writes its headers but us, and servers that are wrong."""

from __future__ import annotations

import pytest

from ext_proc.approval.channels import mail
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.mail import Mail, written
from ext_proc.approval.channels.mail import MailServer as Server
from ext_proc.approval.channels.message import Event, told_of
from ext_proc.approval.channels.secret_files import BadSecret
from ext_proc.model import HoldState
from tests.fakes.asked_holds import FACTS
from tests.fakes.holds import a_hold
from tests.fakes.mail_server import MailServer
from tests.fakes.told import AT, HOLD, NASTY, message

INBOX = "https://desk.example.com/holds"
TO = ("bob@example.com", "kim@example.com")


def channel(server: Server, password: str | None = None) -> Mail:
    return Mail("letters", server, (lambda: password) if password else None, "desk@example.com", TO, INBOX)


def plain(there: MailServer) -> Mail:
    return channel(Server("127.0.0.1", there.port, "none"))


async def why(one: Mail) -> str:
    with pytest.raises(Undelivered) as caught:
        await one.send(message())
    assert not caught.value.is_final
    return caught.value.word


async def test_a_letter():
    async with MailServer() as there:
        await plain(there).send(message(masked="<b>masked</b> text"))
        [letter], [to] = there.letters, there.to
    assert to == list(TO) and letter["To"] == ", ".join(TO) and letter["From"] == "desk@example.com"
    assert letter["Subject"] == f"Affidavit: a call waits for approval ({HOLD[:8]})"
    assert letter["Message-ID"] == "<msg_desk_1@example.com>" and letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_body(("plain",)).get_content()
    assert f"{INBOX}/{HOLD}" in text and "EMAIL 2, IBAN 1" in text and "<b>masked</b> text" in text
    shown = letter.get_body(("html",)).get_content()
    assert f'href="{INBOX}/{HOLD}"' in shown
    for tag in ("<script", "<b>", "<!channel>", "<https"):
        assert tag not in shown
    assert "&lt;script&gt;" in shown


def test_a_digest_and_a_test():
    text = written(message(count=37), "desk@example.com", TO, INBOX).get_body(("plain",)).get_content()
    assert "and 17 more" in text and INBOX in text
    ended = written(message(Event.RESOLVED, state=HoldState.EXPIRED), "desk@example.com", TO, INBOX)
    assert "nobody answered in time" in ended.get_body(("plain",)).get_content()
    assert written(message(Event.TEST), "desk@example.com", TO, INBOX)["Subject"] == "Affidavit: a test of this channel"


@pytest.mark.parametrize(
    "word", ["x\r\nBcc: evil@example.com", "x\nSubject: y", "\r\n\r\nbody", f"{NASTY}\r\n.\r\nQUIT"]
)
async def test_nobody_else_writes_a_header_or_ends_the_letter(word):
    facts = {**FACTS, "model": word, "connection": word, "operation": word, "findings": {word: 1}}
    one = told_of(a_hold(facts=facts), 1, HoldState.PENDING, lambda _: INBOX, masked=f"{word}\r\n.\r\nRCPT TO:<x@y>")
    async with MailServer() as there:
        await plain(there).send(message().__class__("msg_1", Event.PENDING, AT, (one,)))
        [letter], [to] = there.letters, there.to
    assert to == list(TO)
    assert set(letter.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert len(letter.get_all("Subject")) == 1 and letter["Subject"].startswith("Affidavit: a call waits")


@pytest.mark.parametrize("from_first", [False, True])
async def test_with_tls_and_a_password(from_first, tmp_path):
    async with MailServer(tmp_path, from_first=from_first) as there:
        tls = "tls" if from_first else "starttls"
        server = Server("localhost", there.port, tls, "desk", there.ca_file)
        await channel(server, "mail-password").send(message())
        assert len(there.letters) == 1 and there.users == ["desk"]
        assert (await why(channel(server, "wrong"))) == "smtp_535"
        users = len(there.users)
        assert await why(channel(Server("127.0.0.1", there.port, tls, "desk", there.ca_file), "mail-password"))
        assert len(there.users) == users and len(there.letters) == 1


async def test_a_server_without_tls_gets_nothing():
    async with MailServer() as there:
        assert await why(channel(Server("127.0.0.1", there.port, "starttls")))
        assert not there.letters


async def test_down_slow_and_wrong(monkeypatch):
    async with MailServer() as there:
        for said in ("550 no", "451 later", "552 too much"):
            there.said = said
            assert await why(plain(there)) == f"smtp_{said[:3]}"
        there.slow_seconds = 5
        monkeypatch.setattr(mail, "DEADLINE_SECONDS", 0.2)
        assert await why(plain(there)) == "too_slow"
    monkeypatch.setattr(mail, "DEADLINE_SECONDS", 5.0)
    assert await why(plain(there)) == "SMTPConnectError"


async def test_a_password_that_is_gone():
    def gone() -> str:
        raise BadSecret("/x: cannot be read")

    assert (
        await why(Mail("letters", Server("127.0.0.1", 9, "none"), gone, "d@example.com", TO, INBOX))
        == "secret_unreadable"
    )
