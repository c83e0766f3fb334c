#!/usr/bin/env bash
# The promise "works on a bare Debian": makes a Debian of that release with nothing in it, copies a
# fresh clone in, and runs demo.sh and test.sh there. Needs root and debootstrap.
# usage: chroot.sh bookworm|trixie [FOLDER]
#   FOLDER (new, empty, or of an earlier run) is kept; without it a temporary one is used.
set -euo pipefail
release=${1:?usage: chroot.sh bookworm|trixie [FOLDER]}
repository=$(cd "$(dirname "$0")/.." && pwd)
temporary=
[[ -n ${2:-} ]] || temporary=$(mktemp -d)
folder=$(realpath -m "${2:-$temporary}")
if [[ $folder == / || ( ! -e $folder/.graft-chroot && -n $(ls -A "$folder" 2> /dev/null) ) ]]; then
    echo "chroot.sh: $folder holds something else" >&2
    exit 1
fi
(( EUID == 0 )) || { echo "chroot.sh: needs root" >&2; exit 1; }
command -v debootstrap > /dev/null || { echo "chroot.sh: needs debootstrap" >&2; exit 1; }

host_release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# The mirror, certificates and proxies of this machine: no registry is written down here.
sources=()
for source in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [[ -s $source ]] && sources+=("$source")
done
mirror=$(awk '/^(URIs:|deb )/ { for (i = 2; i <= NF; ++i) if ($i ~ /:\/\//) { print $i; exit } }' \
    "${sources[@]}")
[[ -n $mirror ]] || { echo "chroot.sh: no mirror in the apt sources of this machine" >&2; exit 1; }

clean_up() {
    for mount in proc dev sys; do umount "$folder/$mount" 2> /dev/null || true; done
    # Never while something of the host is still mounted inside.
    if [[ -n $temporary ]] && ! grep -q " $folder/" /proc/mounts; then
        rm -rf --one-file-system "$temporary"
    fi
}
trap clean_up EXIT

started=$SECONDS
mkdir -p "$folder"
touch "$folder/.graft-chroot"
if [[ ! -e $folder/etc/debian_version ]]; then
    debootstrap --variant=minbase --include=ca-certificates "$release" "$folder" "$mirror" \
        > /dev/null
fi
echo "debootstrap $release: $((SECONDS - started)) s"

mkdir -p "$folder/etc/apt/apt.conf.d" "$folder/usr/local/share/ca-certificates"
cp -a /etc/apt/apt.conf.d/. "$folder/etc/apt/apt.conf.d/"
# Hooks of the host name programs that the chroot lacks.
grep -lE 'Invoke|Pkgs' "$folder"/etc/apt/apt.conf.d/* 2> /dev/null | xargs -r rm -f
sed "s/\b$host_release\b/$release/g" "${sources[0]}" > "$folder${sources[0]}"
[[ ${sources[0]} == *.sources ]] && : > "$folder/etc/apt/sources.list"
cp /etc/resolv.conf "$folder/etc/resolv.conf"
# Certificates that the machine trusts beside the usual ones (a proxy's).
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"

mkdir -p "$folder/proc" "$folder/dev" "$folder/sys"
mount -t proc proc "$folder/proc"
mount --bind /dev "$folder/dev"
mount --bind /sys "$folder/sys"

rm -rf "$folder/opt/graft"
git clone -q "$repository" "$folder/opt/graft"
if [[ -n ${GRAFT_DATA:-} || -d $repository/../shared ]]; then
    rm -rf "$folder/opt/shared"
    cp -r "${GRAFT_DATA:-$repository/../shared}" "$folder/opt/shared"
fi

inside=(env -i HOME=/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        LANG=C.UTF-8)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY GRAFT_JOBS; do
    [[ -n ${!name:-} ]] && inside+=("$name=${!name}")
done
for script in demo.sh test.sh; do
    started=$SECONDS
    code=0
    chroot "$folder" "${inside[@]}" bash -c "cd /opt/graft && scripts/$script" || code=$?
    echo "$release: $script: exit code $code, $((SECONDS - started)) s"
    (( code == 0 )) || exit "$code"
done
