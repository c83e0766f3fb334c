#!/usr/bin/env bash
# Makes a Python environment with the peers of requirements.txt, or brings one up to date.
# usage: make_environment.sh DIR     then: DIR/bin/python
# pip takes torch from where it is told to look: PIP_EXTRA_INDEX_URL may name PyTorch's index of
# builds for CPUs, which are smaller and otherwise the same.
set -euo pipefail
dir=${1:?usage: make_environment.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
cmp -s "$here/requirements.txt" "$dir/peers.txt" && exit 0  # they are all there
python3 -m venv "$dir"
"$dir/bin/pip" install -q -r "$here/requirements.txt"
cp "$here/requirements.txt" "$dir/peers.txt"
