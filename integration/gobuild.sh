#!/usr/bin/env bash
# Usage: gobuild.sh NAME OUTDIR
#
# Builds the program of the module in the folder NAME beside this script (a server that tests want real) and prints its path
# last. It goes to OUTDIR/KEY, where KEY is a hash of the sources and of the Go version: what is already there is not built
# again. The first time takes half a minute to five minutes on two cores.
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: $0 NAME OUTDIR" >&2; exit 2; }
name=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/$name"

# A workspace, or a user's flags, must not change what is built.
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 GOOS=linux

key=$({
	go env GOVERSION GOOS GOARCH
	sha256sum go.mod go.sum ./*.go ../gobuild.sh
} | sha256sum | cut -c1-16)
dir=$out/$key

# Of two calls at once, the second waits and finds the first one's work.
exec 9>"$out/.lock"
flock 9

if [ -d "$dir" ]; then
	echo "cached: $name $key"
else
	echo "building $name $key: up to five minutes, once"
	tmp=$(mktemp -d "$out/.building.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$tmp/$name" .
	chmod 755 "$tmp"
	mv "$tmp" "$dir"
fi

echo "$dir/$name"
