#!/bin/sh
# Makes .venv and fills it; make calls it in the folder of the Makefile.
#
#   sh tools/venv.sh make [--fetch] PYTHON...   .venv anew, from the first of these that fits; with
#                                               --fetch, where none does, uv fetches a Python
#   sh tools/venv.sh fill LOCK...               install locks into it: uv does, or pip where it can't
#   sh tools/venv.sh add LOCK...                the same of locks that say all there is to install
set -eu

FETCHED=3.13 # ENVIRONMENT_PYTHON of tools/lock.py
FITTING='Python 3.11 to 3.13 with its venv module, and no 3.14 with that and a C compiler'
REMEDY='install one (on Debian: apt-get install python3-venv) or uv, which fetches one, or name one:'
REMEDY="$REMEDY make PYTHON=/path/to/python3.12"

# immutables, which Snakemake needs, has no wheel for 3.14 and is compiled.
fits='
import ensurepip, os, shutil, sys, sysconfig, venv
compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
header = os.path.join(sysconfig.get_path("include"), "Python.h")
version = sys.version_info[:2]
compiles = version == (3, 14) and shutil.which(compiler) and os.path.exists(header)
sys.exit(not ((3, 11) <= version < (3, 14) or compiles))
'

pip_install() {
    .venv/bin/python -m pip install --no-input --disable-pip-version-check --require-hashes "$@"
}

# The uv of the lock, whatever Python .venv has; the reason stands in .venv/uv.log if it can't be.
install_uv() {
    sed -n '/^uv==/,/# via/p' requirements-dev.lock >.venv/uv.txt
    pip_install --quiet --requirement .venv/uv.txt >.venv/uv.log 2>&1
}

# What a log ends with, without its "cause:" or "ERROR:".
reason() {
    sed -n '$s/^ *[A-Za-z]*: *//; $p' "$1"
}

# Sets $python to one that uv has fetched, or fails with the reason in .venv/uv.log.
fetch() {
    rm -rf .venv
    mkdir .venv
    if ! uv=$(command -v uv); then
        uv=.venv/bin/uv
        echo 'no Python that can install uv' >.venv/uv.log
        for python; do
            if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
                "$python" -m venv .venv
                install_uv
                break
            fi
        done
        [ -x "$uv" ] || return 1
    fi
    export UV_PYTHON_PREFERENCE=only-managed UV_PYTHON_INSTALL_BIN=0
    echo "No $FITTING, here: uv fetches Python $FETCHED into $("$uv" python dir)"
    "$uv" python install "$FETCHED" >.venv/uv.log 2>&1 &&
        python=$("$uv" python find "$FETCHED" 2>.venv/uv.log)
}

make_venv() {
    may_fetch=
    if [ "$1" = --fetch ]; then
        may_fetch=1
        shift
    fi
    rm -rf .venv
    for python; do
        if "$python" -c "$fits" 2>/dev/null; then
            "$python" -m venv .venv
            return
        fi
    done
    failure=
    if [ "$may_fetch" ]; then
        if fetch "$@"; then
            "$python" -m venv --clear .venv
            return
        fi
        failure=", and uv fetched none ($(reason .venv/uv.log))"
    fi
    echo "error: no $FITTING, here$failure; $REMEDY" >&2
    exit 1
}

fill() {
    locks=
    for lock; do locks="$locks --requirement $lock"; done
    # uv does not read pip's settings.
    index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || :)}
    if [ "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
    # Bytecode for all, as pip makes it: .venv may be read-only to those who run it.
    if { [ -x .venv/bin/uv ] || install_uv; } && .venv/bin/uv pip install \
        --python .venv/bin/python --require-hashes --compile-bytecode $alone $locks; then
        return
    fi
    echo 'uv could not install them; pip tries'
    pip_install $alone $locks || {
        echo 'error: .venv: not filled, for the reason above; run the same command again' >&2
        exit 1
    }
}

command=$1
alone=
shift
case $command in
make) make_venv "$@" ;;
fill) fill "$@" ;;
add) alone=--no-deps && fill "$@" ;;
esac
