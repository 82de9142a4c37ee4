# The image of the helper container: git and the runner's helper binary. It is also a valid helper_image for
# GitLab Runner's own docker executor, which benchmarks compare us with: that one starts
# `gitlab-runner-build` and pipes scripts into it. What the runner's scripts call a dozen times a job is busybox's, as
# in GitLab's own helper image.
FROM=git
PACKAGES=(git-lfs busybox-static)
INPUTS=("$HELPER_BINARY")
CONFIG=(
	'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
	'ENV LANG=C.UTF-8'
	'CMD ["/usr/bin/gitlab-runner-build"]'
)

fill() {
	local applet
	for applet in chmod hostname mkdir rm touch; do ln -sf busybox "$1/bin/$applet"; done
	install -m 755 "$HELPER_BINARY" "$1/usr/bin/gitlab-runner-helper"
	ln -s gitlab-runner-helper "$1/usr/bin/gitlab-runner"
	install -m 755 "$dir/gitlab-runner-build" "$1/usr/bin/gitlab-runner-build"
}
