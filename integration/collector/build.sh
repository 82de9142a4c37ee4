#!/usr/bin/env bash
# Usage: build.sh OUTDIR
#
# Builds the OpenTelemetry Collector of tests and prints its path last. It goes to OUTDIR/KEY, where KEY is a hash of the sources
# here and of the Go version: what is already there is not built again. The first time takes one to three minutes on two
# cores.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

# A workspace, or a user's flags, must not change what is built.
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 GOOS=linux

key=$({
	go env GOVERSION GOOS GOARCH
	sha256sum go.mod go.sum ./*.go build.sh
} | sha256sum | cut -c1-16)
dir=$out/$key

# Of two calls at once, the second waits and finds the first one's work.
exec 9>"$out/.lock"
flock 9

if [ -d "$dir" ]; then
	echo "cached: collector $key"
else
	echo "building collector $key: one to three minutes, once"
	tmp=$(mktemp -d "$out/.building.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$tmp/collector" .
	chmod 755 "$tmp"
	mv "$tmp" "$dir"
fi

echo "$dir/collector"
