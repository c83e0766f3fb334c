#!/usr/bin/env bash
# From a bare Debian to a fine-tuned model: installs what is missing, builds the command and runs
# its demo.
set -euo pipefail
if [[ ${1-} == -h || ${1-} == --help ]]; then
    echo "usage: demo.sh [--keep DIR]; installs what is missing, builds, runs graft demo"
    exit
fi
here=$(cd "$(dirname "$0")" && pwd)
"$here/install_dependencies.sh"
"$here/build.sh" demo graft
exec "$here/../build/graft" demo "$@"
