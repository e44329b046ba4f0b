"""The command `lightspeed`: errors become one line and an exit status.

Source: exit codes, CLI.md: 0 done, 1 failed, 2 usage, 77 refused, 78 bad configuration.
"""

from __future__ import annotations

import sys

from lightspeed_protocol.errors import ConfigError, Refused

from .cli import cli


def main() -> None:
    try:
        cli()
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        sys.exit(78)
    except Refused as exc:
        print(exc, file=sys.stderr)
        sys.exit(77)
