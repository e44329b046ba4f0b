"""Keeps out of memory what other people's modules import and this program never comes to use.

    with postponed("certifi", "service_identity"):
        import aioquic.tls

Inside the block those names stand for place-holders. A place-holder imports the real module when
something is first asked of it, and answers with what that one has: nothing is missing or faked, it
only comes later. After the block an import of such a name gives the real module again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType


class Postponed(ModuleType):
    """A module that is not imported until something of it is needed."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked by the import system itself
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def postponed(*names: str, **known: object) -> Iterator[None]:
    """`known` are attributes that every place-holder has without importing anything.

    Give them where a module is imported for one name only, which `from ... import` asks at once.
    Modules that are there already stay; of a parent and its child, name the parent first.
    """
    holders = [Postponed(name) for name in names if name not in sys.modules]
    for holder in holders:
        vars(holder).update(known)
        sys.modules[holder.__name__] = holder
        parent, _, child = holder.__name__.rpartition(".")
        if isinstance(sys.modules.get(parent), Postponed):
            vars(sys.modules[parent])[child] = holder
    try:
        yield
    finally:
        for holder in holders:
            if sys.modules.get(holder.__name__) is holder:
                del sys.modules[holder.__name__]
