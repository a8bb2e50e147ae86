"""What goes out by HTTP, to receivers that are down, slow, wrong or hostile."""

from __future__ import annotations

import socket

import pytest

from ext_proc.approval.channels.address import BadAddress, check_url, is_public
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.outgoing import Outgoing
from ext_proc.demo.programs import free_ports
from tests.fakes.receivers import FakeSlack, Garbage

OURS = (
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "nonsense",
)  # fmt: skip


@pytest.mark.parametrize("address", OURS)
def test_addresses_of_our_own_network(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:93.184.215.14"])
def test_public_ones(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/", "ftp://hooks.example.com/", "https://", "https:///x", "hooks.example.com",
        "https://a:b@hooks.example.com/", "https://hooks.example.com/#x", "http://10.0.0.1/", "https://x:99999/",
        "https://[::1", "http://localhost.example.com/", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_never_asked(url):
    with pytest.raises(BadAddress):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/a?b=c", "http://127.0.0.1:9/x", "http://[::1]:9/", "http://localhost/"]
)
def test_what_may_be(url):
    check_url(url)


async def why(way: Outgoing, **more) -> str:
    with pytest.raises(Undelivered) as caught:
        await way.post(b"{}", {}, **more)
    return caught.value.word


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "127.0.0.2", "0x7f.1", "2130706433"]
)
async def test_private_addresses_are_refused_however_they_are_written(host):
    assert await why(Outgoing(f"https://{host}:9/")) in {"address_refused", "InvalidUrlClientError"}


async def test_a_name_that_leads_to_us_is_refused_where_it_is_resolved(monkeypatch):
    """Nothing is sent, not even a connection is made."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("127.0.0.1" if host == "evil.example" else host, *rest, **more),
    )
    assert await why(Outgoing(f"https://evil.example:{port}/")) == "address_refused"
    listening.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listening.accept()
    # The configuration may allow it: then it is TLS that fails there.
    listening.close()
    assert await why(Outgoing(f"https://evil.example:{port}/", may_be_private=True)) == "no_connection"


async def test_nobody_there():
    [port] = free_ports(1)
    assert await why(Outgoing(f"http://127.0.0.1:{port}/")) == "no_connection"


async def test_slow_long_and_wrong():
    async with FakeSlack() as there:
        there.slow_seconds = 5
        assert await why(Outgoing(there.url, deadline_seconds=0.2)) == "too_slow"
        way = Outgoing(there.url)
        there.slow_seconds, there.body = 0, b"x" * (64 * 1024 + 1)
        assert await why(way) == "answer_too_long"
        assert (await way.post(b"{}", {}, wants_body=False)).status == 200
    for said in (b"garbage\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"):
        async with Garbage(said) as there:
            assert await why(Outgoing(there.url)) not in {"too_slow", "no_connection", ""}


async def test_a_redirect_is_an_answer_like_any_other():
    async with FakeSlack() as there:
        there.status, there.headers = 307, {"location": "http://169.254.169.254/latest/meta-data"}
        answer = await Outgoing(there.url).post(b"{}", {})
        assert answer.status == 307 and not there.asked


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("soon", 0.0), ("-1", 0.0), ("99999999", 0.0), ("٣", 0.0)])
async def test_when_to_come_back(said, seconds):
    async with FakeSlack() as there:
        there.status, there.headers = 429, {"retry-after": said} if said.isascii() else {}
        assert (await Outgoing(there.url).post(b"{}", {})).after_seconds == seconds


def test_a_file_of_authorities_that_is_none(tmp_path):
    with pytest.raises(BadAddress):
        Outgoing("https://hooks.example.com/", ca_file=tmp_path / "absent")
