# Sourced by the Makefile: brings what a fresh machine lacks, says what it does,
# and keeps it in $TEST_CACHE, outside the tree.
: "${TEST_CACHE:=/var/cache/cleanroom}"
export TEST_CACHE
mkdir -p "$TEST_CACHE"

say() { echo "[setup] $*" >&2; }

# apt_need PROGRAM PACKAGE: install PACKAGE when PROGRAM is missing.
apt_need() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null || { say "$1 is missing and this is no Debian machine: install it"; return 1; }
  [ -n "${APT_UPDATED:-}" ] || { say "apt-get update"; apt-get -qq update; APT_UPDATED=1; }
  say "installing $2"
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$2" >/dev/null
}

setup_engine() {
  [ "$(id -u)" = 0 ] || { say "this needs root: it makes containers and looks for what they leave"; return 1; }
  apt_need git git
  docker info >/dev/null 2>&1 && return
  apt_need dockerd docker.io
  apt_need docker docker-cli # a package of its own in newer Debians
  say "starting the Docker Engine"
  service docker start >/dev/null 2>&1 || (setsid dockerd >"$TEST_CACHE/dockerd.log" 2>&1 &)
  for _ in $(seq 240); do docker info >/dev/null 2>&1 && return; sleep 0.5; done
  say "the Docker Engine does not answer; see $TEST_CACHE/dockerd.log"; return 1
}

# shown passes lines on and shows them as they come. (tee /dev/stderr would open a log file anew, and empty it.)
shown() { tee >(sed 's/^/[setup] /' >&2); }

# The runner: $GITLAB_RUNNER, or a stock one on PATH with its helper, or built from its Go module.
setup_runner() {
  local built
  built=$(integration/runner/build.sh "$TEST_CACHE/runner" | shown)
  HELPER_BINARY=$(grep -m1 'gitlab-runner-helper$' <<<"$built")
  if [ -z "${GITLAB_RUNNER:-}" ]; then
    GITLAB_RUNNER=$(command -v gitlab-runner || grep -m1 '/gitlab-runner$' <<<"$built")
  fi
  export GITLAB_RUNNER HELPER_BINARY
  say "runner: $("$GITLAB_RUNNER" --version | head -1)"
}

# Debian's container registry, for tests of pulling. It needs no service: each test starts its own.
setup_registry() {
  command -v docker-registry >/dev/null && return
  apt_need docker-registry docker-registry
  service docker-registry stop >/dev/null 2>&1 || true
}

# gVisor's runtime, for tests of rooms with a kernel of their own.
setup_runsc() {
  local built
  built=$(integration/runsc/build.sh "$TEST_CACHE/runsc" | shown)
  RUNSC=$(tail -1 <<<"$built")
  export RUNSC
  [ -x "$RUNSC" ] || { say "runsc was not built"; return 1; }
}

# A Vault server, for tests of the vault provider.
setup_vault() {
  local built
  built=$(integration/gobuild.sh vault "$TEST_CACHE/vault" | shown)
  VAULT_SERVER=$(tail -1 <<<"$built")
  export VAULT_SERVER
  [ -x "$VAULT_SERVER" ] || { say "the Vault server was not built"; return 1; }
}

# What the records of audits are forwarded to: an OpenTelemetry Collector, and Debian's rsyslog, which needs no service
# either.
setup_receivers() {
  local built had
  built=$(integration/gobuild.sh collector "$TEST_CACHE/collector" | shown)
  COLLECTOR=$(tail -1 <<<"$built")
  export COLLECTOR
  [ -x "$COLLECTOR" ] || { say "the OpenTelemetry Collector was not built"; return 1; }
  compgen -G '/usr/lib/*/rsyslog/lmnsd_ossl.so' >/dev/null && return
  had=$(command -v rsyslogd || true)
  apt_need lmnsd_ossl.so rsyslog-openssl # no command of that name: it is the driver that is missing
  [ -n "$had" ] || service rsyslog stop >/dev/null 2>&1 || true
}

# A witness, for tests of what the audit log is shown to.
setup_witness() {
  local built
  built=$(integration/gobuild.sh witness "$TEST_CACHE/witness" | shown)
  WITNESS_SERVER=$(tail -1 <<<"$built")
  export WITNESS_SERVER
  [ -x "$WITNESS_SERVER" ] || { say "the witness was not built"; return 1; }
}

setup_images() { integration/images/build.sh "$@"; }

# What tests call by name: most machines have all of it.
setup_tools() {
  apt_need tini tini && apt_need pgrep procps && apt_need setpriv util-linux && apt_need nsenter util-linux &&
    apt_need ip iproute2 && apt_need iptables iptables
}

# What the sample needs, what unit tests need, and what all tests need.
setup_base() { setup_engine && setup_runner && setup_images; }
setup_unit() { setup_base && setup_tools && setup_vault && setup_receivers; }
setup_all() { setup_unit && setup_registry && setup_runsc && setup_witness; }
