#!/usr/bin/env bash
# Makes a virtual environment: make_venv.sh DIRECTORY [PYTHON]
#
# Debian ships python3 without ensurepip unless python3-venv is installed, so `python3 -m venv` alone is not
# enough on a fresh machine. Order of tries: venv, an installed virtualenv, virtualenv fetched by pip into a
# folder beside (which touches nothing of the system); after that, a message that says what to install.
set -euo pipefail

target=${1:?usage: make_venv.sh DIRECTORY [PYTHON]}
wanted=${2:-}

find_python() {
    local candidate
    for candidate in ${wanted:+"$wanted"} python3.11 python3.12 python3.13 python3.14 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "replcache needs Python 3.11 or newer; none of python3.11 .. python3.14, python3 is one." >&2
    echo "On Debian 12: apt-get install python3 python3-venv" >&2
    return 1
}

works() { [ -x "$target/bin/python" ] && "$target/bin/python" -m pip --version >/dev/null 2>&1; }

python=$(find_python)
if works; then exit 0; fi
echo "making $target with $python"
rm -rf "$target"
if "$python" -m venv "$target" >/dev/null 2>&1 && works; then exit 0; fi

rm -rf "$target"
if "$python" -m virtualenv --quiet "$target" >/dev/null 2>&1 && works; then exit 0; fi

rm -rf "$target"
bootstrap="$target-bootstrap"
if "$python" -m pip --version >/dev/null 2>&1 &&
    "$python" -m pip install --quiet --target "$bootstrap" virtualenv &&
    PYTHONPATH="$bootstrap" "$python" -m virtualenv --quiet "$target" && works; then
    rm -rf "$bootstrap"
    exit 0
fi

rm -rf "$target" "$bootstrap"
echo "No virtual environment could be made: $python has neither ensurepip nor virtualenv nor pip." >&2
echo "On Debian and Ubuntu: apt-get install python3-venv   (then run make again)" >&2
exit 1
