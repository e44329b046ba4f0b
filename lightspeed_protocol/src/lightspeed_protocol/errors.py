"""Every error raised on purpose. The class says what the caller should do."""

from __future__ import annotations


class LightSpeedError(Exception):
    """Base class, never raised itself."""


class WireError(LightSpeedError):
    """A peer broke the format: count it, drop the datagram, carry on.

    `reason` is one fixed word such as "short". It becomes a metric label, so
    it never holds bytes from the packet. Where a number helps to explain,
    `got` and `need` carry it: lengths in bytes, or the value nobody knows.
    """

    def __init__(self, reason: str, *, got: int | None = None, need: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.got = got
        self.need = need


class LinkDown(LightSpeedError):
    """A path stopped working for now: the supervisor starts the task again."""


class Refused(LightSpeedError):
    """A peer said no and would say no again: report it and stop trying."""


class ConfigError(LightSpeedError):
    """The operator's file is wrong: print every problem, exit 78, stay down."""

    def __init__(self, path: str, problems: list[str]) -> None:
        super().__init__("\n".join([f"{path}:", *(f"  {line}" for line in problems)]))
        self.problems = problems
