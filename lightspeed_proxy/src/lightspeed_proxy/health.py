"""What the node answers over HTTP, to whom, and what it refuses.

/health (and /), /livez and /readyz answer whoever reaches the port: they hold totals only.
/metrics and /telemetry answer `[http] allow`, others get 403. /sessions names players' addresses
and answers only this machine, whatever is allowed. Addresses are those of the connection; no header
can claim another.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction
from ipaddress import ip_address
from typing import Any, Final

import attrs
import trio
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.runtime.imports import postponed
from lightspeed_protocol.telemetry import TelemetryEvent, check, parse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

# Until Python 3.13 Starlette takes this one function from asyncio, a second event loop of 1.5 MB.
with postponed("asyncio", iscoroutinefunction=iscoroutinefunction):
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

from . import __version__
from .admission import Member
from .config import show_address
from .metrics import in_pieces, make_registry
from .sessions import Session, plain_host
from .state import NodeState

LARGEST_REPORT_BYTES: Final = 2048  # Source: PROTOCOL.md, ORIGINAL.md 2.4
READ_ON_BYTES: Final = 4_000_000  # of a report too large: its sender reads no answer before
BODY_S: Final = 5.0  # to send one report
FIELDS: Final = ", ".join(field.name for field in attrs.fields(TelemetryEvent))


def make_app(state: NodeState, inbox: trio.MemorySendChannel[TelemetryEvent]) -> Starlette:
    registry = make_registry(state)

    async def health(_request: Request) -> Response:
        return JSONResponse(health_fields(state), 503 if state.phase == "draining" else 200)

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        ready = state.phase == "ready"
        return PlainTextResponse(f"{state.phase}\n", 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        text = await in_pieces(registry, encode)
        return Response(text, headers={"content-type": content_type})

    async def telemetry(request: Request) -> Response:
        return await take_report(request, state, inbox)

    async def sessions(_request: Request) -> Response:
        return JSONResponse([session_fields(member, state) for member in members(state)])

    guarded = _only(partial(is_allowed, state), "this address is not in [http] allow")
    local = _only(is_loopback, "only this machine may ask for the sessions")
    app = Starlette(
        routes=[
            Route("/", health),
            Route("/health", health),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", guarded(metrics)),
            Route("/telemetry", guarded(telemetry), methods=["POST"]),
            Route("/sessions", local(sessions)),
        ]
    )
    app.router.redirect_slashes = False
    return app


def health_fields(state: NodeState) -> dict[str, Any]:
    counters = state.counters
    return {
        "status": state.status,
        "version": __version__,
        "node_id": state.config.node.node_id,
        "region": state.config.node.region,
        "uptime_secs": int(state.uptime_s),
        "active_connections": state.relay.sessions,
        "packets_relayed": counters.packets_relayed,
        "packets_dropped": counters.packets_dropped,
        "bytes_relayed": counters.bytes_relayed,
        "fec_recoveries": counters.fec_recovered,
        "sessions_created": counters.sessions_created,
        # ours
        "open": state.dev,
        "invites": state.admission.invites.usable(time.time()),
        "registered": len(state.admission.members),
        "control": control_fields(state),
        "max_connections": state.config.limits.max_clients,
        "flows": state.relay.flows,
        "drops": dict(counters.drops),
        "tasks": {
            name: {"state": task.state, "restarts": task.restarts}
            for name, task in state.tasks.items()
        },
    }


def choose_encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """How to write metrics for this Accept header, and the name of that.

    OpenMetrics where it is asked for in the version there is, else plain text. Nothing in the
    header raises and nothing of it is repeated, as prometheus_client's own function would.
    """
    for wanted in accept.split(","):
        kind, *more = (word.strip() for word in wanted.split(";"))
        versions = [word for word in more if word.startswith("version=")]
        if kind == "application/openmetrics-text" and versions in ([], ["version=1.0.0"]):
            return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest, CONTENT_TYPE_PLAIN_0_0_4


def control_fields(state: NodeState) -> dict[str, Any]:
    """What happened over QUIC, in totals."""
    registrations = state.admission.counters
    return {
        "registrations": dict(registrations.results),
        "ended": dict(registrations.ended),
        "rekeys": registrations.rekeys,
        **attrs.asdict(state.control),
        "quic": {} if state.quic is None else attrs.asdict(state.quic),
    }


def members(state: NodeState) -> list[Member]:
    return sorted(state.admission.members.values(), key=lambda member: member.since)


def session_fields(member: Member, state: NodeState) -> dict[str, Any]:
    """One registered session. Without a packet yet its address is where it registered from."""
    now = state.clock()
    session = member.session
    address = member.host if session.client is None else show_host(session.client)
    return {
        "session": f"{member.lease.session_id:08x}",
        "invite": member.lease.invite,
        "address": address,
        "connected": member.connection is not None,
        "flows": len(session.flows) + sum(len(port.flows) for port in session.ports),
        "packets_up": session.packets_up + sum(port.packets_up for port in session.ports),
        "packets_down": session.packets_down + sum(port.packets_down for port in session.ports),
        "age_s": round(now - member.since, 1),
        "idle_s": round(now - member.last_heard, 1),
        "client": printable(member.client),
        "version": member.version,
        "repair": repair_words(session),
    }


def repair_words(session: Session) -> str | None:
    """What is done against loss towards the player, and why; of the conversation used last.

    None without one, and for versions 1 and 2, where nobody reports what comes.
    """
    flow = max(session.flows.values(), key=lambda flow: flow.last_up, default=None)
    return None if flow is None or flow.sealed is None else flow.sealed.protector.explain()


def show_host(address: tuple[Any, ...]) -> str:
    return show_address((plain_host(address[0]), address[1]))


def printable(text: str) -> str:
    """What a client calls itself, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


async def take_report(
    request: Request, state: NodeState, inbox: trio.MemorySendChannel[TelemetryEvent]
) -> Response:
    counts = state.telemetry
    body: bytes | None = None
    with trio.move_on_after(BODY_S) as patience:
        try:
            body = await read_body(request)
        except ClientDisconnect:
            return _refusal(400, "the connection ended before the report did")
        if body is None:
            counts.too_large += 1
            return _refusal(413, f"a report has at most {LARGEST_REPORT_BYTES} bytes")
    if patience.cancelled_caught or body is None:
        counts.too_slow += 1
        return _refusal(408, f"the report took more than {BODY_S:.0f} s", close=True)
    try:
        event = parse(body)
    except WireError:
        counts.refused += 1
        return _refusal(400, f"not a report: want one JSON object with {FIELDS}")
    problem = check(event)
    if problem is not None:
        counts.refused += 1
        return _refusal(400, problem)
    if state.phase == "draining":
        counts.dropped += 1
        return _refusal(503, "the node is stopping, this report was not taken")
    try:
        inbox.send_nowait(event)
    except trio.WouldBlock:
        counts.dropped += 1
        return _refusal(503, "too many reports at once, this one was not taken")
    counts.received += 1
    return JSONResponse({"status": "ok"})


async def read_body(request: Request) -> bytes | None:
    """The whole body, however many pieces it comes in; None when it is too large."""
    body = bytearray()
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > READ_ON_BYTES:
            break
        if size <= LARGEST_REPORT_BYTES:
            body += piece
    return bytes(body) if size <= LARGEST_REPORT_BYTES else None


def _refusal(status: int, reason: str, *, close: bool = False) -> Response:
    headers = {"connection": "close"} if close else None
    return JSONResponse({"error": reason}, status, headers)


Handler = Callable[[Request], Awaitable[Response]]


def _only(permits: Callable[[str], bool], reason: str) -> Callable[[Handler], Handler]:
    def guard(handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if request.client is not None and permits(request.client.host):
                return await handler(request)
            return _refusal(403, reason)

        return guarded

    return guard


def is_loopback(host: str) -> bool:
    return ip_address(plain_host(host)).is_loopback


def is_allowed(state: NodeState, host: str) -> bool:
    address = ip_address(plain_host(host))
    return any(address in net for net in state.config.http.allow if net.version == address.version)
