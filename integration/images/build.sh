#!/bin/bash
# Makes the images of the integration tests from Debian's packages and our own Go sources, because no container
# registry can be reached from where the tests run.
#
#   build.sh [NAME...]      all images, or those named; tagged cleanroom/NAME:latest
#
#   TEST_CACHE   where root file systems and packages are kept (default /var/cache/cleanroom). An engine
#                     starts empty in every session; with the cache warm, it is filled by `docker import` alone.
#   HELPER_BINARY     the runner's helper, for cleanroom/helper (default: the newest one below $TEST_CACHE/runner)
#
# A folder with a recipe.sh is a root file system; unless it says IMAGE=no it becomes an image. A recipe sets
#   FROM      the recipe whose root file system it starts from
#   PACKAGES  Debian packages to install, with what they depend on
#   EXCLUDE   paths in those packages that are left out
#   UNPACK    Debian packages to unpack, without dependencies or scripts, for roots that hold no package manager
#   PROGRAMS  static Go programs, from src/NAME, put at /NAME
#   INPUTS    other files its content depends on
#   CONFIG    the image's configuration, as Dockerfile instructions
#   before, fill   functions that get the root as $1: before the packages, and after everything
# Everything that a root is made from is hashed. The hash names the cached tarball and is the image's label
# cleanroom.recipe, so a second run has nothing to do. Debian's point releases are not part of the hash: to take
# them in, remove $TEST_CACHE/images.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store=${TEST_CACHE:-/var/cache/cleanroom}
cache=$store/images
log=$cache/build.log
suite=bookworm
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 DOCKER_BUILDKIT=0 BUILDKIT_PROGRESS=plain

say() { printf 'images: %s\n' "$*"; }
die() { printf 'images: %s\n' "$*" >&2; exit 1; }

recipe() {
	FROM='' IMAGE=yes STOPSIGNAL=''
	PACKAGES=() EXCLUDE=() UNPACK=() PROGRAMS=() INPUTS=() CONFIG=()
	before() { :; }
	fill() { :; }
	dir=$here/$1
	# shellcheck source=/dev/null
	. "$dir/recipe.sh"
}

hash_of() (
	recipe "$1"
	files=("$here/build.sh" "$dir"/* "${INPUTS[@]}")
	for program in "${PROGRAMS[@]}"; do files+=("$here/src/$program"/*); done
	{ [ -z "$FROM" ] || hash_of "$FROM"; cat "${files[@]}"; } | sha256sum | cut -c 1-16
)

# The helper image needs a binary that somebody else builds.
helper_binary() {
	local found
	if [ -n "${HELPER_BINARY:-}" ]; then echo "$HELPER_BINARY"; return; fi
	found=$(find "$store/runner" -type f -perm -u+x -name 'gitlab-runner-helper*' -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 1) || true
	echo "${found#* }"
}

# Lists are refreshed once a run, and only by a run that has something to install.
apt_ready() {
	[ -z "${apt_is_ready:-}" ] || return 0
	apt_is_ready=yes
	say 'refreshing the package lists'
	# A source of the host that cannot be reached is no reason to stop: Debian's may still be fine.
	apt-get update -qq >>"$log" 2>&1 || say 'some package lists could not be refreshed; going on with what is there'
	command -v mmdebstrap >/dev/null && return
	say 'installing mmdebstrap on this host'
	apt-get install -y -qq --no-install-recommends mmdebstrap >>"$log" 2>&1
}

# Installs into a root with the host's apt, so that a root needs neither apt nor its lists, and all roots share
# one folder of downloaded packages. Nothing but dpkg's own scripts runs inside.
apt_into() {
	local root=$1; shift
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no package may start its daemon here
	chmod +x "$root/usr/sbin/policy-rc.d"
	apt-get install -y -qq --no-install-recommends \
		-o Dir::State::status="$root/var/lib/dpkg/status" -o Dir::State::extended_states="$root/var/lib/extended_states" \
		-o Dir::Cache::archives="$cache/debs" -o Dir::Log="$work" -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 \
		-o DPkg::Options::=--root="$root" -o DPkg::Options::=--log=/dev/null \
		-o DPkg::Options::=--force-unsafe-io -o DPkg::Options::=--force-confold \
		"${lean[@]/#/-oDPkg::Options::=--}" "${EXCLUDE[@]/#/-oDPkg::Options::=--path-exclude=}" "$@" </dev/null
	rm -f "$root/usr/sbin/policy-rc.d" "$root/var/lib/extended_states" "$root"/var/cache/ldconfig/* "$root"/var/cache/debconf/*
}
# What nobody reads in a test. An engine on fuse-overlayfs takes about a second for each 80 MB of an image.
lean=(path-exclude='/usr/share/doc/*' path-exclude='/usr/share/man/*' path-exclude='/usr/share/info/*'
	path-exclude='/usr/share/locale/*' path-exclude='/usr/share/i18n/*' path-exclude='/usr/share/lintian/*'
	path-exclude='/usr/share/bash-completion/*' path-exclude='/usr/lib/*/gconv/*')

rootfs() (
	recipe "$1"
	tarball=$cache/$1-$(hash_of "$1").tar
	[ ! -e "$tarball" ] || exit 0
	[ -z "$FROM" ] || rootfs "$FROM"
	began=$EPOCHREALTIME
	work=$(mktemp -d "$cache/work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	root=$work/root
	mkdir "$root"
	say "making the root file system of $1"
	{
		echo "=== $1"
		[ -z "$FROM" ] || tar -C "$root" -xpf "$cache/$FROM-$(hash_of "$FROM").tar"
		before "$root"
		[ ${#PACKAGES[@]} -eq 0 ] || apt_into "$root" "${PACKAGES[@]}"
		if [ ${#UNPACK[@]} -gt 0 ]; then
			(cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "${UNPACK[@]}")
			for deb in "$work"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" -x --exclude='./usr/share/*'; done
		fi
		for program in "${PROGRAMS[@]}"; do
			# Standard library only, so GOPATH mode: independent of the module around it.
			GO111MODULE=off CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$root/$program" "$here/src/$program/main.go"
		done
		fill "$root"
	} >>"$log" 2>&1
	# A parent keeps its device nodes, since package scripts need /dev/null; in an image they would be dead weight.
	leave_out=(); [ "$IMAGE" = no ] || leave_out=(--exclude='./dev/*')
	tar -C "$root" --numeric-owner "${leave_out[@]}" -cf "$work/tar" .
	mv "$work/tar" "$tarball"
	# Two helper binaries or two checkouts may take turns: keep the last three of a name.
	find "$cache" -maxdepth 1 -regex ".*/$1-[0-9a-f]*\.tar" -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d ' ' -f 2- | xargs -r rm -f
	say "  $1: $(du -m "$tarball" | cut -f 1) MB in $(since "$began") s"
)

since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

import() (
	recipe "$1"
	hash=$(hash_of "$1") began=$EPOCHREALTIME changes=() ref=cleanroom/$1:latest
	for line in "${CONFIG[@]}" "LABEL cleanroom.recipe=$hash"; do changes+=(--change "$line"); done
	old=$(docker image inspect --format '{{.Id}}' "$ref" 2>/dev/null) || old=''
	docker import "${changes[@]}" "$cache/$1-$hash.tar" "$ref" >>"$log" 2>&1
	if [ -n "$STOPSIGNAL" ]; then # the one instruction that import refuses
		printf 'FROM %s\nSTOPSIGNAL %s\n' "$ref" "$STOPSIGNAL" | docker build -q -t "$ref" - >>"$log" 2>&1
	fi
	[ -z "$old" ] || docker image rm "$old" >>"$log" 2>&1 || true # a container may still use it
	say "  $ref imported in $(since "$began") s"
)

mkdir -p "$cache/debs/partial"
exec 9>"$cache/lock"
flock 9 # tests of several packages may ask at once
: >"$log"
trap 'status=$?; [ $status -eq 0 ] || { echo "images: failed; the end of $log:"; tail -n 25 "$log"; } >&2; exit $status' EXIT

HELPER_BINARY=$(helper_binary)
export HELPER_BINARY
wanted=()
if [ $# -eq 0 ]; then
	for file in "$here"/*/recipe.sh; do wanted+=("$(basename "$(dirname "$file")")"); done
else
	for name in "$@"; do
		[ -e "$here/$name/recipe.sh" ] || die "there is no recipe for '$name' in $here"
		[ "$name" != helper ] || [ -n "$HELPER_BINARY" ] || die "cleanroom/helper needs HELPER_BINARY=<gitlab-runner-helper>, or one below $store/runner"
		wanted+=("$name")
	done
fi
[ -z "$HELPER_BINARY" ] || [ -x "$HELPER_BINARY" ] || die "HELPER_BINARY=$HELPER_BINARY is not a program"

# One question to the engine for all; what it does not know, it complains of on stderr.
present=$(docker image inspect --format '{{index .Config.Labels "cleanroom.recipe"}} {{join .RepoTags " "}} ' "${wanted[@]/#/cleanroom/}" 2>/dev/null) || true
began=$EPOCHREALTIME made=0
for name in "${wanted[@]}"; do
	if [ "$name" = helper ] && [ -z "$HELPER_BINARY" ]; then
		say "leaving out cleanroom/helper: set HELPER_BINARY, or build the runner's helper below $store/runner"
		continue
	fi
	(recipe "$name"; [ "$IMAGE" = yes ]) || continue
	hash=$(hash_of "$name")
	if grep -q "^$hash .*cleanroom/$name:latest " <<<"$present"; then continue; fi
	if [ ! -e "$cache/$name-$hash.tar" ]; then
		[ "$(id -u)" = 0 ] || die 'run this as root: it unpacks root file systems with their owners'
		apt_ready
		rootfs "$name"
	fi
	import "$name"
	made=$((made + 1))
done
if [ $made -eq 0 ]; then say 'all present'; else say "$made made in $(since "$began") s"; fi
