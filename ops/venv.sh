#!/bin/sh
# Make or refresh .venv: `ops/venv.sh run` for what the programs need, `dev` for the tools too.
# Decides which Python is used and when something has to be installed again. Quick when nothing
# has changed: what is installed is compared by a checksum, not by file times.
set -eu

want=${1:-run}
case $want in
run | dev) ;;
*)
    echo "usage: ops/venv.sh run|dev" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.."
python=.venv/bin/python

say() { echo "venv: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# A name on PATH may be a version manager's shim that only prints an error: each one is run.
find_python() {
    for name in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14; do
        if new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    fail "needs Python 3.11 or newer and found none; install it (Debian 12: apt-get install" \
        "python3 python3-venv) or name one: make PYTHON=/path/to/python3"
}

# Debian's python3 comes without venv and ensurepip.
with_venv_module() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "this Python lacks venv: installing $package"
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y -q --no-install-recommends "$package" >&2 ||
            { apt-get update -q >&2 &&
                apt-get install -y -q --no-install-recommends "$package" >&2; } ||
            fail "could not install $package; install it and run make again"
    fi
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        fail "this Python lacks venv; run: sudo apt-get install $package"
}

# Everything that decides what gets installed. The working directory is part of it, because a
# moved checkout leaves the editable installs pointing at the old place.
key() {
    {
        pwd -P
        "$python" -VV
        cat constraints.txt ops/venv.sh pyproject.toml lightspeed_*/pyproject.toml \
            lightspeed_*/src/lightspeed_*/__init__.py
    } | cksum
}

pip() {
    # One constraint list for everything, the build back end included; the path is relative so
    # that a space in the checkout's path cannot split it.
    "$python" -m pip --disable-pip-version-check --no-input install -q -c constraints.txt "$@" ||
        fail "pip could not install; is the package index reachable? its own words are above"
}

if ! new_enough "$python" || ! "$python" -c "import pip" >/dev/null 2>&1; then
    base=$(find_python)
    with_venv_module "$base"
    say "making .venv with $("$base" --version)"
    "$base" -m venv --clear .venv || fail "could not make .venv here; is the disk full or read-only?"
fi

now=$(key)
if [ "$(cat .venv/stamp-run 2>/dev/null)" != "$now" ]; then
    rm -f .venv/stamp-run .venv/stamp-dev
    say "installing LightSpeed and what it needs (once; under a minute on a usual line)"
    pip hatchling editables
    pip --no-build-isolation -e "./lightspeed_protocol[runtime]" -e ./lightspeed_proxy \
        -e ./lightspeed_client
    echo "$now" >.venv/stamp-run
fi

if [ "$want" = dev ] && [ "$(cat .venv/stamp-dev 2>/dev/null)" != "$now" ]; then
    say "installing the developer's tools"
    # The list is the `dev` group in pyproject.toml; pip learnt to read it only in 25.1.
    tools=$("$python" -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    print(" ".join(tomllib.load(file)["dependency-groups"]["dev"]))')
    # shellcheck disable=SC2086  # one word per tool
    pip $tools
    echo "$now" >.venv/stamp-dev
fi
