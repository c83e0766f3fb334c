#!/usr/bin/env bash
# Installs what building and testing need on Debian 12 or 13. Does nothing, not even apt-get update,
# when everything is there. GRAFT_SKIP_INSTALL=1 leaves it out (other distributions).
set -euo pipefail

# libgmock-dev and zlib1g-dev are pulled in by others on some releases and not on all: named here.
packages=(
    g++ cmake ninja-build python3
    libdnnl-dev libhwy-dev libfmt-dev nlohmann-json3-dev libcli11-dev
    libjpeg-dev libspng-dev libwebp-dev libgif-dev libtiff-dev zlib1g-dev libre2-dev libeigen3-dev
    libtomlplusplus-dev libsqlite3-dev libjs-chart.js
    libopenmpi-dev openmpi-bin
    libgtest-dev libgmock-dev libbenchmark-dev
)

[[ ${GRAFT_SKIP_INSTALL:-0} == 1 ]] && exit 0

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
    echo "install_dependencies.sh: this is no Debian; install these by hand, then set" >&2
    echo "GRAFT_SKIP_INSTALL=1: ${packages[*]}" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
(( ${#missing[@]} == 0 )) && exit 0

as_root=()
if (( EUID != 0 )); then
    if ! command -v sudo > /dev/null; then
        echo "install_dependencies.sh: neither root nor sudo; ask an administrator to run" >&2
        echo "    apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "installing: ${missing[*]}"
# Passed through env: sudo drops variables of the caller.
export_noninteractive=(env DEBIAN_FRONTEND=noninteractive)
"${as_root[@]}" "${export_noninteractive[@]}" apt-get update -qq
"${as_root[@]}" "${export_noninteractive[@]}" apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" > /dev/null
