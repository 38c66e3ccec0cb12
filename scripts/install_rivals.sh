#!/usr/bin/env bash
# Installs the systems that benchmarks compare with, from Debian's packages. Needs root only when one is missing.
# Redis Sentinel needs no package of its own: it is `redis-server --sentinel`.
set -euo pipefail

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v redis-server >/dev/null || missing+=(redis-server)
# Only for those who ask for it by argument.
[ "${1:-}" = h2load ] && ! command -v h2load >/dev/null && missing+=(nghttp2-client)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; install these packages first" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# The packages would start servers of their own on the default ports.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
apt-get install -y -qq "${missing[@]}"
