#!/bin/sh
# Starts PostgreSQL for one job.
#
#   POSTGRES_PASSWORD  required
#   POSTGRES_USER      default postgres; a superuser
#   POSTGRES_DB        default: the user's name
#
# As root (docker run --user 0) it needs CHOWN, DAC_OVERRIDE, SETUID and SETGID, and becomes postgres by setpriv,
# which works under no-new-privileges. As any other uid it needs no capability and no entry in /etc/passwd, and
# writes to PGDATA and /tmp only.
set -eu

[ "${1:-postgres}" = postgres ] || exec "$@"
[ $# -gt 0 ] || set -- postgres
if [ -z "${POSTGRES_PASSWORD:-}" ]; then
	echo 'postgres: POSTGRES_PASSWORD is not set; give the service one with variables:' >&2
	exit 1
fi
export POSTGRES_USER="${POSTGRES_USER:-postgres}"
export POSTGRES_DB="${POSTGRES_DB:-$POSTGRES_USER}"

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chown postgres:postgres "$PGDATA"
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

# PostgreSQL wants to own its folder. A uid that the image does not know owns none but what it makes.
if ! [ -O "$PGDATA" ]; then
	export PGDATA=/tmp/pgdata
	mkdir -p "$PGDATA"
fi
if ! [ -s "$PGDATA/PG_VERSION" ]; then
	tar -C "$PGDATA" --no-same-owner -xf /usr/local/share/postgres-template.tar
	chmod 700 "$PGDATA"
	# Role and database are made before the port opens, so that an open port means ready. A server on the socket
	# alone does it: single-user mode would need a passwd entry.
	postgres -c listen_addresses= -c autovacuum=off -c log_min_messages=fatal &
	server=$!
	tries=3000
	until pg_isready -q -h /tmp -U postgres; do # a user must be named: libpq would look for one in /etc/passwd
		tries=$((tries - 1))
		if [ $tries = 0 ] || ! kill -0 $server 2>/dev/null; then
			echo 'postgres: the first start failed' >&2
			exit 1
		fi
		sleep 0.01
	done
	psql -q -X -v ON_ERROR_STOP=1 -h /tmp -U postgres -d postgres <<'SQL'
\getenv user POSTGRES_USER
\getenv password POSTGRES_PASSWORD
\getenv db POSTGRES_DB
select :'user' <> 'postgres' as is_new_user, :'db' not in ('postgres', 'template1') as is_new_db \gset
\if :is_new_user
create role :"user" superuser login password :'password';
\else
alter role postgres password :'password';
\endif
\if :is_new_db
create database :"db" owner :"user" strategy file_copy;
\endif
SQL
	kill -INT $server
	wait $server || true
fi
exec "$@"
