# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the commands with their arguments: where the sources and the cloud's own virtual
# environment are. An existing cloud keeps its release; a new one takes it from --release.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# Nothing is written into the source tree.
export PYTHONPATH=$root PYTHONDONTWRITEBYTECODE=1
read -r release venv < <(python3 -m tests.cloud.settings "$@") || exit 1
# shellcheck disable=SC2034  # "up" uses it
constraints=$here/constraints-$release.txt
[[ -e $constraints ]] || constraints=$here/constraints.txt
python=$venv/bin/python

# Runs a module of tests.cloud in place of this shell.
run_module() {
    local module=$1
    shift
    if ! command -v "$python" >/dev/null; then
        echo "$(basename "$0"): $python does not run here; tests/cloud/up makes it" >&2
        exit 1
    fi
    exec "$python" -m "tests.cloud.$module" "$@"
}
