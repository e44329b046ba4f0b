"""What the lab gives a node: its settings, and a scratch directory for its key and its invite.

So this machine's own settings and state are neither read nor touched.
"""

from __future__ import annotations

from pathlib import Path

import attrs
from lightspeed_protocol.runtime.udp import Address

from ..address import write_address


@attrs.frozen(kw_only=True)
class Doors:
    """What stands in front of a closed node: where it tells its clients to go."""

    data: Address
    control: Address


@attrs.frozen(kw_only=True)
class NodeLimits:
    """What the lab's node allows; the lab asks for enough that its own load passes."""

    max_clients: int = 100
    max_flows_per_client: int = 16
    max_pps_per_client: int = 1000
    max_bps_per_client: int = 1_000_000
    max_repair: float = 100.0  # the client's own cap is the one that is tried here

    def to_toml(self, doors: Doors | None = None) -> str:
        """A whole configuration file, so that this machine's own is not read."""
        limits = "\n".join(f"{name} = {value}" for name, value in attrs.asdict(self).items())
        text = (
            f"[limits]\n{limits}\n\n[shutdown]\ndrain_s = 0.2\n"
            # a node takes each conversation that a session opens for another game server
            f"\n[security]\nmax_destinations_per_window = {self.max_flows_per_client}\n"
        )
        if doors is None:
            return text
        return text + (
            'allow_destinations = ["127.0.0.0/8"]\n'
            f'\n[control]\nadvertise = "{write_address(doors.control)}"\n'
            f'\n[data]\nadvertise = "{write_address(doors.data)}"\n'
        )


@attrs.frozen(kw_only=True)
class Home:
    """A node's scratch directory. Without `doors` it is an open node (`--dev`)."""

    folder: Path
    doors: Doors | None

    @classmethod
    def make(cls, folder: Path, limits: NodeLimits, doors: Doors | None) -> Home:
        """With its settings written into it."""
        (folder / "proxy.toml").write_text(limits.to_toml(doors), "utf-8")
        return cls(folder=folder, doors=doors)

    def options(self) -> list[str]:
        """What every command of the node takes, so that it is this home's."""
        return ["--config", str(self.folder / "proxy.toml"), "--state", str(self.folder / "state")]
