#!/usr/bin/env bash
# The common way to drive Docker from a custom executor, to compare with: `docker run -d` of a helper and of the job's
# image, which sleep, `docker exec` for each script, `docker rm -f` at the end. Containers start side by side, nothing
# waits longer than it must. It hardens, limits and hides nothing.
set -euo pipefail
trap 'exit "${SYSTEM_FAILURE_EXIT_CODE:-1}"' ERR

ours=runner-${CUSTOM_ENV_CI_RUNNER_SHORT_TOKEN,,}-exec
job=$ours-$CUSTOM_ENV_CI_JOB_ID
services=${CUSTOM_ENV_CI_JOB_SERVICES:-}

# field NAME: that of each service, a line each; names of images and aliases have no quotes in them.
field() { grep -o "\"$1\":\"[^\"]*\"" <<<"$services" | cut -d '"' -f 4; }

# answers CONTAINER: waits until the first port that its image exposes takes a connection.
answers() {
	local port address
	port=$(docker inspect --format '{{range $p, $_ := .Config.ExposedPorts}}{{$p}} {{end}}' "$1" | cut -d / -f 1)
	address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1")
	[ -n "$port" ] || return 0
	for _ in $(seq 300); do (: <"/dev/tcp/$address/$port") 2>/dev/null && return 0; sleep 0.1; done
	echo "service $1 does not answer" >&2
	return 1
}

prepare() {
	local network=bridge env=() v i=0 names aliases starting=()
	if [ -n "$services" ]; then
		network=$job
		docker network create "$network" >/dev/null
		for v in "${!CUSTOM_ENV_POSTGRES_@}"; do export "${v#CUSTOM_ENV_}=${!v}"; env+=(-e "${v#CUSTOM_ENV_}"); done
		mapfile -t names < <(field name)
		mapfile -t aliases < <(field alias)
		for i in "${!names[@]}"; do
			docker run -d --name "$job-service-$i" --network "$network" --network-alias "${aliases[$i]}" "${env[@]}" "${names[$i]}" >/dev/null &
			starting+=($!)
		done
	fi
	local folders=(-v "$job-builds:/builds" -v "$ours-cache:/cache")
	docker run -d --name "$job-helper" --network "$network" "${folders[@]}" cleanroom/helper sleep 86400 >/dev/null &
	starting+=($!)
	docker run -d --name "$job-job" --network "$network" "${folders[@]}" "$CUSTOM_ENV_CI_JOB_IMAGE" sleep 86400 >/dev/null &
	starting+=($!)
	for i in "${starting[@]}"; do wait "$i"; done
	[ -z "$services" ] || for i in "${!names[@]}"; do answers "$job-service-$i"; done
}

# run SCRIPT STAGE
run() {
	local where=helper code=0
	case $2 in step_* | build_script | after_script) where=job ;; esac
	docker exec -i "$job-$where" sh -c 'if command -v bash >/dev/null; then exec bash; else exec sh; fi' <"$1" || code=$?
	[ $code = 0 ] || exit "$BUILD_FAILURE_EXIT_CODE"
}

cleanup() {
	local all
	mapfile -t all < <(docker ps --all --format '{{.Names}}' --filter "name=^$job-")
	docker rm --force --volumes "${all[@]}" >/dev/null
	[ -z "$services" ] || docker network rm "$job" >/dev/null
	docker volume rm "$job-builds" >/dev/null
}

"$@"
