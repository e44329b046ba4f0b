"""A data plane that does nothing but remember what it was told, for tests of the node around it."""

from __future__ import annotations

import math
import socket

import attrs
import trio
from lightspeed_proxy.config import ProxyConfig
from lightspeed_proxy.counters import Counters


@attrs.define(eq=False)
class FakeRelay:
    """Set `sessions`, `flows` and `last_traffic`; read `told` and `config`."""

    config: ProxyConfig
    counters: Counters
    data: tuple[socket.socket, ...] = ()
    dev: bool = False
    sessions: int = 0
    flows: int = 0
    last_traffic: float = -math.inf
    told: list[str] = attrs.field(factory=list)
    failure: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fails like a data socket that went away, once `failure` is set."""
        task_status.started()
        await self.failure.wait()
        raise OSError("the data socket is gone")

    def apply(self, config: ProxyConfig) -> None:
        self.config = config
        self.told.append("apply")

    def refuse_new(self) -> None:
        self.told.append("refuse_new")

    def say_goodbye(self) -> None:
        self.told.append("say_goodbye")

    def close(self) -> None:
        self.told.append("close")
