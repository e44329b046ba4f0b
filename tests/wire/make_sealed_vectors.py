"""Makes `sealed_vectors.json` out of PROTOCOL.md with hashlib, struct and base64 alone.

Nothing of ours is imported, so that the file can accuse our code and not only agree with it.

    python -m tests.wire.make_sealed_vectors

writes the file anew; a test compares the two. A change here is a change on the wire.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import struct
from hashlib import blake2s
from pathlib import Path
from typing import Any, Final

from tests.wire.ask_packets import asks
from tests.wire.control_blocks import PIN, TOKEN, extension_blocks, messages, tlv_lists
from tests.wire.report_packets import probes, reports
from tests.wire.sealed_packets import seal_keys, seal_openings, sealed_packets
from tests.wire.window_packets import windows

FILE: Final = Path(__file__).with_name("sealed_vectors.json")

Vector = dict[str, Any]


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def invites() -> list[Vector]:
    pin, token = base64url(PIN), base64url(TOKEN)
    both: list[tuple[str, str, tuple[str, int, bytes | None, str]]] = [
        ("name", f"lightspeed://node.example.com:4433/?pin={pin}&token={token}&name=home",
         ("node.example.com", 4433, TOKEN, "home")),
        ("v4", f"lightspeed://192.0.2.1:14433/?pin={pin}&token={token}&name=a.b-c_d~e",
         ("192.0.2.1", 14433, TOKEN, "a.b-c_d~e")),
        ("v6", f"lightspeed://[2001:db8::1]:4433/?pin={pin}&token={token}",
         ("2001:db8::1", 4433, TOKEN, "")),
        ("percent", f"lightspeed://node.example.com:4433/?pin={pin}&token={token}"
         "&name=J%C3%BCrgen%27s%20%26co",
         ("node.example.com", 4433, TOKEN, "Jürgen's &co")),
        ("peer", f"lightspeed://node.example.com:4433/?pin={pin}",
         ("node.example.com", 4433, None, "")),
    ]  # fmt: skip
    line = both[0][1]
    readings = [
        ("quoted", f'  "{line}" \n', both[0][2]),
        ("wrapped", f"{line[:50]}\r\n  {line[50:]}", both[0][2]),
        ("html", line.replace("&", "&amp;"), both[0][2]),
        ("padded", line.replace("&token", "=&token"), both[0][2]),
        ("no-port", line.replace(":4433/", "/"), both[0][2]),
        ("unknown-key", line.replace("?", "?x=1&"), both[0][2]),
        ("capitals", line.replace("lightspeed://node", "LightSpeed://NODE"), both[0][2]),
    ]
    wrong = [
        ("another-scheme", line.replace("lightspeed", "https")),
        ("token-cut", line.replace("&name=home", "")[:-1]),
        ("pin-cut", line.replace(f"pin={pin}", f"pin={pin[1:]}")),
        ("pin-spare-bits", line.replace(pin, pin[:-1] + "9")),
        ("no-pin", line.replace("pin", "pen")),
        ("two-lines", line + line),
        ("words-behind", f"{line} enjoy"),
        ("words-before", f"take this: {line}"),
        ("no-host", line.replace("node.example.com", "")),
        ("port-0", line.replace("4433", "0")),
        ("user", line.replace("node.", "me@node.")),
    ]

    def fields(of: tuple[str, int, bytes | None, str]) -> Vector:
        host, port, token, name = of
        return {
            "host": host,
            "port": port,
            "pin": PIN.hex(),
            "token": None if token is None else token.hex(),
            "name": name,
        }

    return (
        [
            {
                "id": f"invite/encode/{name}",
                "kind": "invite.encode",
                "fields": fields(of),
                "line": pasted,
            }
            for name, pasted, of in both
        ]
        + [
            {
                "id": f"invite/decode/{name}",
                "kind": "invite.decode",
                "line": pasted,
                "fields": fields(of),
            }
            for name, pasted, of in both + readings
        ]
        + [
            {
                "id": f"invite/decode/{name}",
                "kind": "invite.decode",
                "line": pasted,
                "error": "refused",
            }
            for name, pasted in wrong
        ]
    )


def retry_cookies() -> list[Vector]:
    secret = bytes(range(0x40, 0x60))
    vectors = []
    for name, seconds, original, source, ip, port in (
        ("v4", 1000, bytes(range(8)), bytes(range(8, 16)), "192.0.2.10", 50000),
        ("v6", 2**32 - 1, bytes(range(20)), bytes(range(20, 28)), "2001:db8::10", 1),
        ("empty-cid", 0, b"", bytes(8), "192.0.2.10", 65535),
    ):
        token = struct.pack(">BIB", 1, seconds, len(original)) + original
        token += bytes((len(source),)) + source
        bound = struct.pack(">H", port) + ipaddress.ip_address(ip).packed
        token += blake2s(token + bound, digest_size=16, key=secret, person=b"LS retry").digest()
        vectors.append(
            {
                "id": f"retry/{name}",
                "kind": "retry.token",
                "secret": secret.hex(),
                "seconds": seconds,
                "original_cid": original.hex(),
                "retry_cid": source.hex(),
                "ip": ip,
                "port": port,
                "hex": token.hex(),
            }
        )
    return vectors


def build() -> dict[str, Any]:
    vectors = [
        *seal_keys(),
        *sealed_packets(),
        *seal_openings(),
        *windows(),
        *reports(),
        *asks(),
        *probes(),
        *tlv_lists(),
        *extension_blocks(),
        *messages(),
        *invites(),
        *retry_cookies(),
    ]
    constants = {
        "SEALED_BYTES": 36,
        "SEALED6_BYTES": 60,
        "TAG_BYTES": 8,
        "WINDOW": 1024,
        "PREVIOUS_S": 30,
    }
    return {
        "format": 1,
        "byte_order": "big",
        "constants": constants,
        "count": len(vectors),
        "vectors": vectors,
    }


def written() -> str:
    return json.dumps(build(), indent=0, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
