from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import pytest
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_proxy.abuse import Opened
from lightspeed_proxy.rate_limit import Meter, Rates
from lightspeed_proxy.sessions import DEAD_WORTH_SWEEPING, Flow, Session, Sessions

RATES = Rates(1000, 10**6)
IDLE_S = 300.0


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def session(sock: socket.socket, port: int = 1) -> Session:
    return Session(("192.0.2.1", port), sock, Meter(RATES), Meter(RATES), Opened())


def flow(owner: Session, key: bytes, sock: socket.socket, now: float = 0.0) -> Flow:
    endpoint = Endpoint.open(key)
    return Flow(owner, key, sock, now, endpoint, endpoint.window)


def test_traffic_keeps_a_flow_and_silence_ends_it(sock: socket.socket) -> None:
    sessions, owner = Sessions(IDLE_S), session(sock)
    one = flow(owner, b"a" * 12, sock)
    sessions.add(one)
    now = 0.0
    while now < 3600:
        now += 60
        one.last_up = now
        assert sessions.expired(now) == []
    assert sessions.expired(now + IDLE_S - 1) == []
    assert sessions.expired(now + IDLE_S) == [one]


def test_the_last_flow_takes_its_session_along(sock: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        sessions, owner = Sessions(IDLE_S), session(sock)
        one, two = flow(owner, b"a" * 12, sock), flow(owner, b"b" * 12, other)
        sessions.add(one)
        sessions.add(two)
        sessions.remove(one)
        assert len(sessions) == 1
        sessions.remove(two)
        assert (len(sessions), sessions.by_descriptor) == (0, {})


def test_a_flow_closed_by_its_client_never_expires_again(sock: socket.socket) -> None:
    sessions, owner = Sessions(IDLE_S), session(sock)
    one = flow(owner, b"a" * 12, sock)
    sessions.add(one)
    sessions.remove(one)
    again = flow(owner, b"a" * 12, sock, now=10.0)
    sessions.add(again)
    assert sessions.expired(IDLE_S) == []
    assert sessions.expired(IDLE_S + 10) == [again]
    assert sessions.next_deadline() == math.inf


def test_a_shorter_timeout_holds_at_once(sock: socket.socket) -> None:
    sessions, owner = Sessions(IDLE_S), session(sock)
    one = flow(owner, b"a" * 12, sock)
    sessions.add(one)
    sessions.idle_timeout_s = 30.0
    sessions.reschedule()
    assert sessions.next_deadline() == 30.0
    assert sessions.expired(30.0) == [one]


def test_closed_flows_do_not_wait_for_their_time(sock: socket.socket) -> None:
    sessions = Sessions(IDLE_S)
    for number in range(5000):
        one = flow(session(sock, number), b"a" * 12, sock)
        sessions.add(one)
        sessions.remove(one)
    assert len(sessions._expiries) <= 2 * DEAD_WORTH_SWEEPING
