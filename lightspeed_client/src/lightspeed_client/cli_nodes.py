"""Commands about the node book: add, nodes, remove."""

from __future__ import annotations

import sys

import click

from .cli_options import find_node, json_option, read_nodes, read_settings
from .echo import say

LONGEST_LINE = 8192  # of an invite on stdin; a real one has about 150 characters


@click.command(short_help="Add the node you were invited to.")
@click.argument("invite")
@click.option("--as", "alias", metavar="ALIAS", help="Keep it under this name.")
@click.pass_context
def add(ctx: click.Context, invite: str, alias: str | None) -> None:
    """Add the node you were invited to.

    INVITE is the whole line, in quotes; `-` reads it from standard input, so that it does not
    stay in the shell's history.
    """
    from lightspeed_protocol.invite import Invite

    from . import nodes as book
    from .address import write_address
    from .paths import nodes_file

    configured = read_settings(ctx).node.address
    if invite == "-":
        invite = sys.stdin.read(LONGEST_LINE)
    try:
        parsed = Invite.parse(invite)
    except ValueError as exc:
        raise click.UsageError(str(exc), ctx) from None
    if parsed.token is None and alias is None:
        raise click.UsageError(
            "the line has no token. Put it in quotes, because the shell cuts it at &; a line that"
            " never had one is good only for a node that is open to everyone: then give --as NAME",
            ctx,
        )
    try:
        node, change = book.add(nodes_file(), parsed, alias)
    except ValueError as exc:
        raise click.UsageError(str(exc), ctx) from None
    except OSError as exc:
        raise click.ClickException(f"cannot write {nodes_file()}: {exc.strerror or exc}") from None
    where = write_address((node.host, node.port))
    if change == "known":
        say(f"the node {node.name} ({where}) is in your list already: nothing changed")
        return
    what = "is added" if change == "added" else "was known: its invite is replaced"
    say(f"the node {node.name} ({where}) {what}")
    others = [each.name for each in read_nodes() if each.pin == node.pin and each != node]
    if others:
        say(f"it is the same node as {' and '.join(others)}, with another invite")
    say("next: `lightspeed nodes --check`, then `lightspeed redirect --server HOST:PORT`")
    if configured:
        say(
            f"the settings name the open node {configured}, which is used unless --node is given;"
            " `lightspeed config set node.address ''` ends that"
        )


@click.command(short_help="List your nodes; --check asks each one.")
@click.option("--check", is_flag=True, help="Register with each node and say if it can be used.")
@json_option
def nodes(check: bool, as_json: bool) -> None:
    """List the nodes you were invited to. Tokens are never shown."""
    import json

    from lightspeed_protocol.runtime import daemon

    from .address import write_address
    from .modes.node_check import check_nodes
    from .nodes import who_can_read
    from .paths import nodes_file

    known = read_nodes()
    problem = who_can_read(nodes_file())
    if problem is not None:
        click.echo(f"warning: {problem}", err=True)
    places = {
        node.name: {
            "name": node.name,
            "host": node.host,
            "port": node.port,
            "token": node.token is not None,
        }
        for node in known
    }
    if not check or not known:
        if as_json:
            say(json.dumps(list(places.values())))
        elif not known:
            say("no nodes yet: `lightspeed add INVITE` adds the one you were invited to")
        for node in [] if as_json else known:
            without = "" if node.token is not None else ", without a token"
            say(f"{node.name}: {write_address((node.host, node.port))}{without}")
        sys.exit(1 if check else 0)

    async def examine() -> None:
        found = await check_nodes(known)
        if as_json:
            say(json.dumps([{**places[each.name], **each.to_json()} for each in found]))
        else:
            for each in found:
                say(each.line())
        if not all(each.usable for each in found):
            raise SystemExit(1)

    sys.exit(daemon.run(examine))


@click.command()
@click.argument("name")
@click.pass_context
def remove(ctx: click.Context, name: str) -> None:
    """Remove a node from your list, and the token with it."""
    from . import nodes as book
    from .paths import nodes_file, state_dir
    from .resume import forget_all

    find_node(ctx, name)
    try:
        book.remove(nodes_file(), name)
    except KeyError:
        raise click.ClickException(f"no node {name!r}: somebody else removed it") from None
    except OSError as exc:
        raise click.ClickException(f"cannot write {nodes_file()}: {exc.strerror or exc}") from None
    forget_all(state_dir(), name)
    say(f"the node {name} is removed; its operator can revoke the invite as well")
