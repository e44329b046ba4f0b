"""What a client says about a session: the records, and what each figure means.

A figure that is not known is None, never 0. "Recent" is the last `gauges.WINDOW_S` seconds.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
from cattrs.errors import BaseValidationError
from lightspeed_protocol.runtime.config import make_converter

State = Literal["starting", "carrying", "idle", "no-answer", "node-leaving"]
ControlState = Literal["connecting", "registered", "refused"]  # of a node with an invite


@attrs.frozen(kw_only=True)
class Figures:
    """One moment of a session. Counts and `overhead` are since the start, the rest is recent.

    `loss` is the share of keepalives that got no answer: there and back. `loss_down` comes
    from gaps in the node's numbering, before repair; `loss_up` from the node's reports, or where
    it sends none (`loss_up_estimated`) what remains of `loss`. `residual_down` and `residual_up`
    are the shares of game packets lost after repair. `repair_up` and `repair_down` say in a line
    what is done against loss each way, and why. `repaired` and what follows it are of the way down.
    While the node is silent (`no-answer`) every share and round trip but the best is None.
    `overhead` is (bytes put into the tunnel: headers, repair packets and keepalives included,
    minus the game's payload bytes sent) / (the game's payload bytes sent); UDP payloads, this
    client's sending direction. IP and UDP headers are in neither.
    """

    state: State
    path: str
    elapsed_s: float
    rtt_ms: float | None
    rtt_min_ms: float | None
    rtt_p95_ms: float | None
    jitter_ms: float | None
    loss: float | None
    loss_down: float | None
    loss_up: float | None
    loss_up_estimated: bool
    residual_down: float | None
    residual_up: float | None
    repaired: int
    repaired_late: int  # after the budget
    repair_sent: int
    repair_received: int
    repair_wasted: int
    repair_given_up: int
    repair_asked: int
    delayed: int  # game packets held back by repair: 0
    sent: int
    received: int
    overhead: float | None
    duplicates: int
    strangers: int
    dropped: int
    flows: int
    sent_per_s: float | None
    received_per_s: float | None
    bytes_out_per_s: float | None
    bytes_in_per_s: float | None
    repair_up: str | None = None
    repair_down: str | None = None
    notice: str | None = None  # what the player should know or do now
    control: ControlState | None = None  # None: a node without an invite
    session: str | None = None  # granted by the node; as `lightspeed-proxy sessions` shows it

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`; rounded so that a line stays readable."""
        return {name: _rounded(value) for name, value in attrs.asdict(self).items()}


@attrs.frozen(kw_only=True)
class Totals:
    """A whole session. Shares as in `Figures`, but over all of it."""

    seconds: float
    server: str
    node: str
    fec: str
    flows: int
    sent: int
    received: int
    repaired: int
    repair_sent: int
    game_bytes_out: int
    game_bytes_in: int
    tunnel_bytes_out: int
    tunnel_bytes_in: int
    overhead: float | None
    keepalives_sent: int
    keepalives_answered: int
    loss: float | None
    loss_down: float | None
    residual_down: float | None
    loss_up: float | None = None  # as the node reported
    residual_up: float | None = None
    repaired_late: int = 0
    repair_received: int = 0
    repair_wasted: int = 0
    repair_given_up: int = 0
    repair_capped: int = 0
    repair_asked: int = 0
    delayed: int = 0
    rtt_min_ms: float | None
    rtt_median_ms: float | None
    rtt_p95_ms: float | None
    jitter_ms: float | None
    duplicates: int
    strangers: int
    drops: dict[str, int]
    outages: int
    outage_s: float
    not_found: str = ""  # "game server" or "node": its name never led to an address
    control: ControlState | None = None  # at the end; None: a node without an invite
    session: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in attrs.asdict(self).items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Totals | None:
        """What `to_json` gave, other fields ignored; None when it is of another shape."""
        try:
            known = {
                field.name: record[field.name]
                for field in attrs.fields(cls)
                if field.name in record or field.default is attrs.NOTHING
            }
            return make_converter().structure(known, cls)
        except (KeyError, BaseValidationError):
            return None


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
