"""A small HTTP client for tests: raw bytes out, one answer in, on any clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import attrs
import h11
import trio


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def request(method: str, path: str, body: bytes = b"", headers: Iterable[str] = ()) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: node", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connect(address: tuple[str, int]) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        yield stream


async def read_answer(stream: trio.SocketStream, method: str = "GET") -> Answer | None:
    """The next answer on this connection; None if the server closes it instead."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "node")]))
    parser.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        match event:
            case h11.Response():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Answer(head.status_code, headers, bytes(body))
            case h11.NEED_DATA:
                try:
                    data = await stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                parser.receive_data(data)
            case _:
                raise AssertionError(f"unexpected {event!r}")


async def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes = b"",
    headers: Iterable[str] = (),
) -> Answer:
    """One request on a connection of its own; it must be answered."""
    async with connect(address) as stream:
        await stream.send_all(request(method, path, body, headers))
        answer = await read_answer(stream, method)
        assert answer is not None, "the server closed the connection without an answer"
        return answer
