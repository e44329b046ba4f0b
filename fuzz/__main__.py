"""`make fuzz`: every target for a while, what was run and what was found.

    python -m fuzz [--seconds 20] [NAME ...]      each target in a process of its own
    python -m fuzz --replay NAME FILE             one input again, without the engine

A finding prints its traceback and is kept under dist/fuzz; the exit status is then 1. The engine
is atheris (libFuzzer): `make fuzz` installs it, 2 is the status where it is missing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import attrs

NAMES: Final = (
    *("control", "extensions", "repair-words", "invite", "sealed", "window", "honest-window"),
    *("unwrap", "xor", "telemetry", "cookie", "quic"),
)
ROOT: Final = Path(__file__).parents[1]
FINDINGS: Final = Path("dist", "fuzz")
LARGEST: Final = 2048  # bytes of an input
SHORT: Final = {"honest-window": 128}  # each byte is a packet there
ONE_S: Final = 10  # an input that takes longer is a finding
MEMORY_MB: Final = 1024  # a process over this is a finding
GRACE_S: Final = 120  # beyond its seconds, then a process is ended and that is a finding
NOISE: Final = ("#", "INFO:", "WARNING:", "stat::", "MS:", "0x", "\\", "Base64:")  # of the engine
FOUND: Final = re.compile(r"=== Uncaught Python exception|ERROR: libFuzzer")
MISSING: Final = (
    "atheris is not installed and could not be: it has packages for Linux on x86-64 and arm64."
    " There: .venv/bin/python -m pip install atheris. Elsewhere: the same targets run on"
    " hypothesis's bytes in tests/protocol/test_fuzz_targets.py, without an engine."
)


@attrs.frozen
class Outcome:
    name: str
    executions: int
    trouble: str = ""  # what was printed, where something was found or the target did not run

    @property
    def verdict(self) -> str:
        if not self.trouble:
            return "nothing found"
        return "FOUND SOMETHING" if FOUND.search(self.trouble) else "DID NOT RUN TO ITS END"


def load(name: str) -> tuple[Any, list[bytes]]:
    """The target and its seeds. Imported here, so that the engine can watch the imports."""
    if name != "quic":
        targets = importlib.import_module("fuzz.targets")
        return targets.TARGETS[name], targets.seeds(name)
    quic_target = importlib.import_module("fuzz.quic_target")
    certs = importlib.import_module("tests.support.certs")
    return quic_target.QuicTarget(certs.throw_away_identity()), quic_target.seeds()


def inside_trio(run: Any) -> None:
    """With a clock that stands still."""
    trio = importlib.import_module("trio")
    testing = importlib.import_module("trio.testing")

    async def main() -> None:
        run()

    trio.run(main, clock=testing.MockClock())


def fuzz(name: str, corpus: str, seconds: int) -> None:
    """The child: never returns; the engine ends the process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["lightspeed_protocol", "fuzz"]):
        target, seeds = load(name)
    for number, seed in enumerate(seeds):
        Path(corpus, f"seed-{number:03}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={SHORT.get(name, LARGEST)}",
        "-len_control=0",  # long ones at once: in seconds it would not come to them
        f"-timeout={ONE_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={FINDINGS}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, corpus], target)
    inside_trio(atheris.Fuzz)


def run(name: str, seconds: int) -> Outcome:
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, "-m", "fuzz", "--child", corpus, "--seconds", str(seconds), name]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(name, 0, f"did not end within {GRACE_S} s after its time")
    printed = done.stdout + done.stderr
    counted = re.search(r"number_of_executed_units:\s*(\d+)", printed)
    executions = int(counted[1]) if counted else 0
    if done.returncode == 0 and executions:
        return Outcome(name, executions)
    return Outcome(name, executions, printed or f"ended with status {done.returncode}")


def story(printed: str) -> str:
    """The traceback and where the input is kept, out of all that the engine prints."""
    found = FOUND.search(printed)
    lines = printed[found.start() if found else 0 :].splitlines()
    told = [line for line in lines if line.strip() and not line.startswith(NOISE)]
    return "\n".join(f"    {line}" for line in (told[:40] if found else told[-10:]))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "FILE"))
    parser.add_argument("--child", metavar="CORPUS", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    wrong = sorted(set(options.names) - set(NAMES))
    if wrong or options.seconds < 1:
        parser.error(f"no target {wrong[0]}" if wrong else "want at least 1 second")
    if options.replay:
        target, _ = load(options.replay[0])
        data = Path(options.replay[1]).read_bytes()
        inside_trio(lambda: target(data))
        print("nothing was raised")
        return 0
    if options.child:
        fuzz(options.names[0], options.child, options.seconds)
    if find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 2
    os.makedirs(ROOT / FINDINGS, exist_ok=True)
    findings = 0
    for name in options.names or NAMES:
        outcome = run(name, options.seconds)
        findings += bool(outcome.trouble)
        print(f"{name:14} {outcome.executions:>10,} executions   {outcome.verdict}", flush=True)
        if outcome.trouble:
            print(story(outcome.trouble), flush=True)
    print(f"{findings} of {len(options.names or NAMES)} targets found something or did not run")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
