"""What a registration asks for, what it grants, and what a refusal means for the player.

Sans-IO: messages in, decisions out. Source: PROTOCOL.md, "Control messages", "Extensions".
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import attrs
from lightspeed_protocol.control import (
    ControlMessage,
    Disconnect,
    DisconnectReason,
    Register,
    RegisterAck,
)
from lightspeed_protocol.errors import Refused, WireError
from lightspeed_protocol.extensions import (
    Capability,
    Feature,
    Refusal,
    RefusalCode,
    RegisterExtensions,
    decode_ack,
    decode_refusal,
    encode_register,
)

from .address import NODE_PORT, Address, write_address
from .fec_choice import OFF, FecChoice, reports_s
from .words import printable

PROTOCOL_VERSION: Final = 1
SEALED: Final = 8  # stands for header versions 8 and 9
NO_REGION: Final = "unknown"  # what a node says that was told none
BROADCAST: Final = IPv4Address("255.255.255.255")
LEAST_DATAGRAM: Final = 576  # of a node's limit that is to be believed

_ASK: Final = "ask its operator for a new invite and `lightspeed add` it"

# (for good, what to tell the player); {} is the node's name
_REFUSALS: Final[dict[int, tuple[bool, str]]] = {
    RefusalCode.UNKNOWN_TOKEN: (True, "the node {} does not know your invite: " + _ASK),
    RefusalCode.EXPIRED: (True, "your invite to the node {} has expired: " + _ASK),
    RefusalCode.REVOKED: (True, "your invite to the node {} has been revoked: " + _ASK),
    RefusalCode.TOO_MANY_SESSIONS: (
        False,
        "too many devices use this invite to the node {} now: stop one of them, or ask for"
        " another invite",
    ),
    RefusalCode.NODE_FULL: (False, "the node {} is full: try again later, or use another node"),
    RefusalCode.DRAINING: (False, "the node {} is shutting down or restarting: try again later"),
    RefusalCode.NO_COMMON_VERSION: (
        True,
        "the node {} and this client have no header version in common: update the older of both",
    ),
    RefusalCode.NO_CREDENTIAL: (True, "the node {} asks for an invite: " + _ASK),
    RefusalCode.SESSION_ENDED: (False, "the node {} ended the session"),
    RefusalCode.TOO_OFTEN: (False, "the node {} was asked too often: trying again in a while"),
}
# Where a node names no refusal, its reason must do.
_REASONS: Final[dict[int, int]] = {
    DisconnectReason.SERVER_SHUTDOWN: RefusalCode.DRAINING,
    DisconnectReason.RATE_LIMITED: RefusalCode.TOO_OFTEN,
    DisconnectReason.AUTH_FAILURE: RefusalCode.NO_CREDENTIAL,
}


class NodeRefused(Refused):
    """`str` is one line for the player; `for_good`: asking again would not help."""

    def __init__(self, text: str, *, for_good: bool, code: int | None) -> None:
        super().__init__(text)
        self.for_good = for_good
        self.code = code


@attrs.frozen(kw_only=True)
class Grant:
    """A session. `data` may name a host; `resume` is what goes on with it later.

    What a node calls itself and its region is fit to be shown.
    """

    session_id: int
    key: bytes = attrs.field(repr=False)
    node_id: str
    region: str  # empty: not known
    data: Address
    schemes: frozenset[int]  # of loss repair, that the node takes
    largest_bytes: int | None  # of one tunnel packet
    visible: str | None  # the address game servers see
    ipv6_inside: bool
    resume: bytes | None = attrs.field(repr=False)
    resumed: bool


def register_message(
    *, token: bytes | None, resume: bytes | None, client: str, fec: FecChoice = OFF
) -> Register:
    """What the client asks for: a sealed session, the old one if `resume` still holds."""
    asked = RegisterExtensions(
        credential=token,
        versions=(SEALED,),
        fec=fec.offer,
        resume=resume,
        client=client,
        features=(Feature.NODE_STREAM,),
        protection=fec.down,
        reports_ms=round(1000 * reports_s(fec.up)),
    )
    return Register(PROTOCOL_VERSION, 0, encode_register(asked))


def read_grant(answer: ControlMessage, *, name: str, host: str) -> Grant:
    """What a node answered to Register. `name` is the player's word for it, `host` its address.

    Raises `NodeRefused`, and `WireError` for what is no answer.
    """
    if isinstance(answer, Disconnect):
        raise refusal(answer, name)
    if not isinstance(answer, RegisterAck):
        raise WireError("answer")
    told = decode_ack(answer.extensions)
    if told.version != SEALED or told.key is None:
        code = RefusalCode.NO_COMMON_VERSION
        raise NodeRefused(_REFUSALS[code][1].format(name), for_good=True, code=code)
    limits = told.limits
    region = printable(answer.region)
    return Grant(
        session_id=answer.session_id,
        key=told.key,
        node_id=printable(answer.node_id),
        region="" if region == NO_REGION else region,
        data=(
            told.data_host or host,
            NODE_PORT if told.data_port is None else told.data_port,
        ),
        schemes=frozenset(told.fec),
        largest_bytes=None if limits is None else max(limits.largest_datagram, LEAST_DATAGRAM),
        visible=told.visible,
        ipv6_inside=Capability.IPV6_INSIDE in told.capabilities,
        resume=told.resume,
        resumed=told.resumed,
    )


def check_data(data: Address, control: Address, name: str) -> Address:
    """The data address, resolved, if a node at `control` may name it. Raises `NodeRefused`.

    A wrong or hostile node must not make the client send into its own machine, or to many.
    """
    host = _plain(data[0])
    if host.is_multicast or host == BROADCAST:
        kind = "goes to many machines"
    elif host.is_unspecified or data[1] == 0:
        kind = "is no address at all"
    elif host.is_loopback and not _plain(control[0]).is_loopback:
        kind = "is this machine itself"
    else:
        return data
    raise NodeRefused(
        f"the node {name} wants its packets sent to {write_address(data)}, which {kind}: nothing is"
        " sent there; tell its operator (the data address in the node's settings is wrong)",
        for_good=False,  # a name in it may soon mean another address
        code=None,
    )


def _plain(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host)
    return (address.version == 6 and address.ipv4_mapped) or address


def refusal(message: Disconnect, name: str) -> NodeRefused:
    """The words for a Disconnect, with the node's own behind them. Raises `WireError`."""
    told: Refusal = decode_refusal(message.extensions)
    code = told.code if told.code is not None else _REASONS.get(message.reason)
    for_good, text = False, f"the node {name} refused and gives no reason this client knows"
    if code is not None and code in _REFUSALS:
        for_good, text = _REFUSALS[code]
        text = text.format(name)
    own = printable(told.text)
    return NodeRefused(f'{text} (it says: "{own}")' if own else text, for_good=for_good, code=code)
