"""How a node says no to a client: the codes, the words for the player, and what is counted.

Source: PROTOCOL.md, "Extensions" (the codes and which reason goes with which).
"""

from __future__ import annotations

from typing import Final

import attrs
from lightspeed_protocol.control import Disconnect, DisconnectReason
from lightspeed_protocol.extensions import Refusal, RefusalCode, encode_refusal

from .credentials import RefusalWord

RESULTS: Final = (
    "granted",
    "resumed",
    "unknown-token",
    "expired",
    "revoked",
    "too-many-sessions",
    "node-full",
    "draining",
    "no-common-version",
    "no-credential",
    "too-often",
)
ENDS: Final = (
    "left",  # the client said so
    "fin",  # the same, on the data port
    "idle",  # the data plane gave it up
    "lost",  # nobody came back for it within resume_s
    "replaced",  # its own client registered anew without it
    "revoked",
    "expired",
)

RESULT: Final = {
    RefusalCode.UNKNOWN_TOKEN: "unknown-token",
    RefusalCode.EXPIRED: "expired",
    RefusalCode.REVOKED: "revoked",
    RefusalCode.TOO_MANY_SESSIONS: "too-many-sessions",
    RefusalCode.NODE_FULL: "node-full",
    RefusalCode.DRAINING: "draining",
    RefusalCode.NO_COMMON_VERSION: "no-common-version",
    RefusalCode.NO_CREDENTIAL: "no-credential",
    RefusalCode.TOO_OFTEN: "too-often",
}
PROBLEM: Final[dict[RefusalWord, RefusalCode]] = {
    "expired": RefusalCode.EXPIRED,
    "revoked": RefusalCode.REVOKED,
}
_REASON: Final = {
    RefusalCode.TOO_MANY_SESSIONS: DisconnectReason.RATE_LIMITED,
    RefusalCode.NODE_FULL: DisconnectReason.RATE_LIMITED,
    RefusalCode.TOO_OFTEN: DisconnectReason.RATE_LIMITED,
    RefusalCode.DRAINING: DisconnectReason.SERVER_SHUTDOWN,
    RefusalCode.NO_COMMON_VERSION: DisconnectReason.NORMAL,
}
TEXTS: Final = {
    RefusalCode.UNKNOWN_TOKEN: "this node does not know the invite: ask its operator for a new one",
    RefusalCode.EXPIRED: "the invite has expired: ask the node's operator for a new one",
    RefusalCode.REVOKED: "the node's operator has revoked this invite",
    RefusalCode.TOO_MANY_SESSIONS: "all devices that this invite allows are connected: stop one of"
    " them and try again",
    RefusalCode.NODE_FULL: "the node is full: try again later, or use another node",
    RefusalCode.DRAINING: "the node is shutting down: try again in a minute",
    RefusalCode.NO_COMMON_VERSION: "the node takes only sealed packets (header version 8): this"
    " client does not send them",
    RefusalCode.NO_CREDENTIAL: "the node takes only players with an invite: ask its operator",
    RefusalCode.SESSION_ENDED: "this session was taken over by another start of the client",
    RefusalCode.TOO_OFTEN: "too many wrong invites from your address: wait a few seconds",
}
NEW_SESSIONS: Final = "this invite has opened too many sessions in a short time: wait a few seconds"
RESUMED: Final = "this session was taken up too often in a short time: wait a few seconds"


def refusal(code: RefusalCode, text: str = "") -> Disconnect:
    """How a refusal looks on the wire."""
    reason = _REASON.get(code, DisconnectReason.AUTH_FAILURE)
    return Disconnect(reason, encode_refusal(Refusal(code=code, text=text or TEXTS[code])))


@attrs.frozen
class RefusedRegistration:
    code: RefusalCode
    text: str = ""

    @property
    def disconnect(self) -> Disconnect:
        return refusal(self.code, self.text)


@attrs.define(eq=False)
class RegistrationCounters:
    results: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(RESULTS, 0))
    ended: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(ENDS, 0))
    rekeys: int = 0
