# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the commands: where the sources and the cloud's own virtual environment are.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${NOVA_REBALANCER_CLOUD_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/nova-rebalancer/test-cloud-venv}
python=$venv/bin/python

# Runs a module of tests.cloud in place of this shell. Nothing is written into the source tree.
run_module() {
    local module=$1
    shift
    if ! command -v "$python" >/dev/null; then
        echo "$(basename "$0"): $python does not run here; tests/cloud/up makes it" >&2
        exit 1
    fi
    PYTHONPATH=$root PYTHONDONTWRITEBYTECODE=1 exec "$python" -m "tests.cloud.$module" "$@"
}
