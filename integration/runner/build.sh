#!/usr/bin/env bash
# Usage: build.sh OUTDIR
#
# Builds gitlab-runner and gitlab-runner-helper from this folder, static and reproducible, and prints their two paths last.
# They go to OUTDIR/KEY, where KEY is a hash of the sources and of the Go version: what is already there is not built again.
# GOARCH is heeded. The first time takes about two minutes on two cores, and 150 MB of downloads where Go has no modules yet.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

# A workspace, or a user's flags, must not change what is built.
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 GOOS=linux

key=$({
	go env GOVERSION GOOS GOARCH
	find . -type f \( -name '*.go' -o -name 'go.*' -o -name build.sh \) ! -name '*_test.go' -print0 |
		LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum | cut -c1-16)
dir=$out/$key

# Of two calls at once, the second waits and finds the first one's work.
exec 9>"$out/.lock"
flock 9

if [ -d "$dir" ]; then
	echo "cached: gitlab-runner $key"
else
	runner=gitlab.com/gitlab-org/gitlab-runner
	echo "building gitlab-runner $key: about two minutes, once"
	go mod download $runner
	read -r module_dir module_version < <(go list -m -f '{{.Dir}} {{.Version}}' $runner)
	# v1.11.1-0.20260903214710-fc1f1862bd91: the commit's time, and its hash.
	[[ $module_version =~ ([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})-([0-9a-f]{8}) ]] ||
		{ echo "go.mod names no commit of $runner: $module_version" >&2; exit 1; }
	t=("${BASH_REMATCH[@]}")
	x="-X $runner/common"
	ldflags="-s -w $x.VERSION=$(<"$module_dir/VERSION") $x.REVISION=${t[7]}"
	ldflags+=" $x.BUILT=${t[1]}-${t[2]}-${t[3]}T${t[4]}:${t[5]}:${t[6]}Z"

	tmp=$(mktemp -d "$out/.building.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$tmp/" ./cmd/gitlab-runner ./cmd/gitlab-runner-helper
	chmod 755 "$tmp"
	mv "$tmp" "$dir"
fi

echo "$dir/gitlab-runner"
echo "$dir/gitlab-runner-helper"
