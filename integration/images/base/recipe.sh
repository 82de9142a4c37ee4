# Debian's essential packages: bash, coreutils, util-linux. No apt inside: build.sh installs with the host's.
IMAGE=no

fill() {
	# The host's own Debian sources, wherever they point; others would only slow this down or fail.
	local sources=()
	mapfile -t sources < <(grep -lE "(^|[[:space:]])$suite([[:space:]/]|$)" /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null)
	mmdebstrap --quiet --mode=root --variant=essential --format=directory --dpkgopt=force-unsafe-io "${lean[@]/#/--dpkgopt=}" \
		"$suite" "$1" "${sources[@]}"
	# What mmdebstrap copied from this host, and where the packages came from, is nobody's business.
	rm -rf "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/apt/* "$1"/var/lib/apt/* "$1"/var/cache/* "$1"/var/log/*
	mkdir -p "$1"/var/cache/debconf "$1"/var/cache/ldconfig
	# The first packages are unpacked by tar, before dpkg could exclude anything.
	rm -rf "$1"/usr/share/{doc,man,info,locale,i18n,lintian,bash-completion}/* "$1"/usr/lib/*/gconv/*
	[ -c "$1/dev/null" ] || mknod -m 666 "$1/dev/null" c 1 3
	[ -c "$1/dev/urandom" ] || mknod -m 666 "$1/dev/urandom" c 1 9
}
