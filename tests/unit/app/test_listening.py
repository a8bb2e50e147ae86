"""Of a process that has no file descriptor left: it asks for one now and then, and tells so; no more than that."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
from contextlib import closing

from aiohttp import web

from ext_proc.app.listening import WAITING_MAX, serve_at
from ext_proc.app.serving import door
from ext_proc.demo.programs import free_ports


class NoneLeft:
    """While it is on, nobody takes a connection."""

    def __init__(self, monkeypatch):
        self.is_on, self.tried = True, 0
        taken = socket.socket.accept

        def accept(listening):
            if self.is_on:
                self.tried += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return taken(listening)

        monkeypatch.setattr(socket.socket, "accept", accept)


def asked(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().status


async def test_without_a_descriptor_it_is_tried_once_a_second(monkeypatch):
    runner = web.AppRunner(web.Application())
    await runner.setup()
    [port] = free_ports(1)
    none_left, told = NoneLeft(monkeypatch), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    try:
        await serve_at(runner, "127.0.0.1", port)
        asking = asyncio.create_task(asyncio.to_thread(asked, port))
        await asyncio.sleep(2.5)
        assert 1 <= none_left.tried == len(told) < 10, "asyncio alone: a hundred times as many, and ever more"
        none_left.is_on = False
        assert await asking == 404, "who waited is answered"
    finally:
        await runner.cleanup()


async def test_many_may_wait():
    runner = web.AppRunner(web.Application())
    await runner.setup()
    [port] = free_ports(1)
    try:
        await serve_at(runner, "127.0.0.1", port)
        waiting = [socket.socket() for _ in range(WAITING_MAX // 2)]
        for one in waiting:  # the event loop takes none of them meanwhile
            one.settimeout(0.5)
            one.connect(("127.0.0.1", port))
            one.close()
    finally:
        await runner.cleanup()


def test_a_door_without_a_descriptor_pauses(monkeypatch):
    pauses = []
    none_left = NoneLeft(monkeypatch)

    def pause(seconds):
        pauses.append(seconds)
        none_left.is_on = len(pauses) < 2

    monkeypatch.setattr(door, "sleep", pause)
    made = door.Door("127.0.0.1:0", door.Handler)
    made.open("door")
    with closing(made):
        assert asked(made.port) == 501
    assert pauses == [0.5, 0.5]
