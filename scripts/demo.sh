#!/usr/bin/env bash
# From a bare Debian to a fine-tuned model: installs what is missing, builds the command and runs
# its demo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install_dependencies.sh"
"$here/build.sh" demo graft
exec "$here/../build/graft" demo "$@"
