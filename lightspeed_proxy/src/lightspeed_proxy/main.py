"""Starts the node: settings, logs, identity, sockets, then the task tree.

Every refusal is one clear line.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial

import attrs
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime import daemon, logs
from lightspeed_protocol.runtime.http import listen
from lightspeed_protocol.runtime.systemd import Notifier
from lightspeed_protocol.runtime.udp import open_socket

from . import app
from .config import (
    CONTROL_PORT,
    DATA_PORT,
    Address,
    Control,
    ProxyConfig,
    Source,
    is_public,
    show_address,
)
from .credentials import FILE, InviteStore
from .identity import load_identity, problems_of_identity
from .memory import use_c_allocator
from .state_files import one_line, problem_with, state_dir

log = logging.getLogger(__name__)

FAILED, REFUSED, BAD_CONFIG = 1, 77, 78

SPARE_FILES = 256  # descriptors the node needs besides one socket for each flow

DEV_DATA = f"127.0.0.1:{DATA_PORT}"


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        use_c_allocator()
    from .cli import cli  # it imports this module

    cli(prog_name="lightspeed-proxy")


def run_node(
    source: Source, *, dev: bool, force: bool, log_style: logs.Style, log_level: str
) -> int:
    """Run until stopped; the exit status."""
    logs.set_up(os.environ, style=log_style, level=log_level)
    try:
        source = dev_source(source) if dev else source
        config = source.read()
        if dev and not force:
            for bind in (config.data, config.control):
                if is_public(bind.address):
                    return _fail(REFUSED, _open_to_strangers(bind.bind))
        identity = load_identity(config)
        invites = InviteStore(state_dir(config, os.environ) / FILE)
        invites.load()  # a list that cannot be read stops the start, as any setting does
    except ConfigError as exc:
        return _fail(BAD_CONFIG, str(exc))
    file_limit = raise_file_limit()
    with contextlib.ExitStack() as sockets:
        try:
            data = sockets.enter_context(_open_data(config))
            control = sockets.enter_context(_open_control(config))
            http = sockets.enter_context(_open_http(config))
        except OSError as exc:
            return _fail(FAILED, str(exc))
        if file_limit is not None and file_limit < files_needed(config):
            log.warning(
                "%s; above that, new flows are refused", _file_limit_problem(config, file_limit)
            )
        start = app.Start(
            source=source,
            config=config,
            data=(data,),
            control=control,
            http=http,
            identity=identity,
            invites=invites,
            dev=dev,
            notifier=Notifier.from_environment(os.environ),
        )
        return daemon.run(app.run, start)


def dev_source(source: Source) -> Source:
    """With --dev a node starts where strangers are not, unless it was told where.

    Registering happens beside the data port: on 4433, or on any free port if the data port is not
    the usual one, since then several nodes may run here. Raises `ConfigError`.
    """
    if source.path is None and source.data is None:
        source = attrs.evolve(source, data=DEV_DATA)
    config = source.read()
    if source.control is None and config.control.bind == Control().bind:
        host, port = config.data.address
        beside = (host, CONTROL_PORT if port == DATA_PORT else 0)
        source = attrs.evolve(source, control=show_address(beside))
    return source


def _open_to_strangers(bind: str) -> str:
    return (
        f"refused: --dev makes an open relay, and {bind} can be reached by strangers. Use --data"
        f" {DEV_DATA} (or a private address), and --control likewise if you set it, or --force if"
        " you mean it."
    )


def problems_here(
    config: ProxyConfig,
    environ: Mapping[str, str] = os.environ,
    *,
    warn: Callable[[str], None],
    running: bool = False,
) -> list[str]:
    """What would keep a node with these settings from running on this machine, in words.

    Of a node that runs already (`running`) the ports are taken, and that is as it should be.
    """
    problems = problems_of_identity(config, environ, warn)
    try:
        directory = state_dir(config, environ)
        InviteStore(directory / FILE).load()
        problem = problem_with(directory)
        problems += [] if problem is None else [problem]
    except ConfigError as exc:
        problems.append(one_line(exc))
    for opener in (_open_data, _open_control, _open_http):
        try:
            opener(config).close()
        except PortInUse as exc:
            problems += [] if running else [str(exc)]
        except OSError as exc:
            problems.append(str(exc))
    limit = hard_file_limit()
    if limit is not None and limit < files_needed(config):
        problems.append(_file_limit_problem(config, limit))
    return problems


def files_needed(config: ProxyConfig) -> int:
    return config.limits.max_clients * config.limits.max_flows_per_client + SPARE_FILES


def _file_limit_problem(config: ProxyConfig, limit: int) -> str:
    limits = config.limits
    return (
        f"max_clients {limits.max_clients} x max_flows_per_client {limits.max_flows_per_client}"
        f" needs {files_needed(config)} open files, but only {limit} are allowed: lower them, or"
        " raise LimitNOFILE in the unit (ulimit -n in a shell)"
    )


if sys.platform == "win32":

    def hard_file_limit() -> int | None:
        return None  # Windows has no such limit

    def raise_file_limit() -> int | None:
        return None

else:
    import resource

    def hard_file_limit() -> int | None:
        """How many files this process may open at most; None for no limit."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return None if hard == resource.RLIM_INFINITY else hard

    def raise_file_limit() -> int | None:
        """Take all the open files that are allowed; the number, or None for no limit."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS refuses "unlimited"
            return soft
        return hard_file_limit()


def _open_data(config: ProxyConfig) -> socket.socket:
    address = config.data.address
    return _explained("UDP", "data", address, partial(open_socket, address))


def _open_control(config: ProxyConfig) -> socket.socket:
    address = config.control.address
    return _explained("UDP", "control", address, partial(open_socket, address))


def _open_http(config: ProxyConfig) -> socket.socket:
    address = config.http.address
    return _explained("TCP", "http", address, partial(listen, address))


class PortInUse(OSError):
    """Another program, or a node that runs already, has the port."""


def _explained(
    kind: str, section: str, address: Address, opener: Callable[[], socket.socket]
) -> socket.socket:
    """Open, or raise an OSError whose text names the address and the remedy."""
    where = f"{kind} {show_address(address)}"
    choose = f"--{section} ADDR or [{section}] bind"
    try:
        return opener()
    except OSError as exc:
        match exc.errno:
            case errno.EADDRINUSE:
                raise PortInUse(
                    f"{where} is in use, perhaps by a node that runs already: stop that program,"
                    f" or choose another port with {choose}"
                ) from None
            case errno.EACCES:
                text = (
                    f"{where} is not for this user: choose a port above 1023 with {choose}, or"
                    " grant CAP_NET_BIND_SERVICE"
                )
            case errno.EADDRNOTAVAIL:
                text = (
                    f"{where} is not an address of this machine: choose one that"
                    f" `ip address` shows with {choose}"
                )
            case errno.EAFNOSUPPORT:
                text = f"{where}: this machine has no IPv6; choose an IPv4 address with {choose}"
            case _:
                text = f"{where} cannot be opened: {exc.strerror or exc}; choose another: {choose}"
        raise OSError(text) from None


def _fail(status: int, text: str) -> int:
    print(text, file=sys.stderr)
    return status
