# PostgreSQL as a CI service. See entrypoint.sh for how it starts in a second under any user.
FROM=base
PACKAGES=(postgresql-15)
# Just-in-time compiling: half of the size, and switched off.
EXCLUDE=('/usr/lib/*/libLLVM*' '/usr/lib/*/libz3.so*' '/usr/lib/postgresql/15/lib/llvmjit*' '/usr/lib/postgresql/15/lib/bitcode/*')
CONFIG=(
	'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
	'ENV LANG=C.UTF-8'
	'ENV PGDATA=/var/lib/postgresql/data'
	'VOLUME /var/lib/postgresql/data'
	'EXPOSE 5432'
	'USER postgres'
	'ENTRYPOINT ["/usr/local/bin/postgres-entrypoint"]'
	'CMD ["postgres"]'
	# Healthy only where a check sees the service's variables: an executor that hides them from the engine
	# has to hand them to its own checks.
	'HEALTHCHECK --interval=1s --timeout=3s --retries=30 CMD test -n "$POSTGRES_PASSWORD" && pg_isready -q -h 127.0.0.1 -U "${POSTGRES_USER:-postgres}" -d "${POSTGRES_DB:-postgres}"'
)
STOPSIGNAL=SIGINT # postgres: end the sessions and stop, rather than wait for them

before() {
	mkdir -p "$1/etc/postgresql-common"
	echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
}

fill() {
	# Debian's wrappers, and the Perl that only they need.
	rm -rf "$1"/usr/share/postgresql-common "$1"/usr/share/perl "$1"/usr/lib/*/perl "$1"/usr/lib/*/libperl.so*
	find "$1/usr/bin" -lname '*postgresql-common*' -delete
	install -m 755 "$dir/entrypoint.sh" "$1/usr/local/bin/postgres-entrypoint"

	# initdb takes seconds, so it is done here. Small WAL segments keep the template at 25 MB.
	chroot "$1" setpriv --reuid=postgres --regid=postgres --clear-groups \
		/usr/lib/postgresql/15/bin/initdb --no-sync --no-instructions --username=postgres --auth=trust \
		--encoding=UTF8 --locale=C.UTF-8 --wal-segsize=1 -D /tmp/template
	cat "$dir/postgresql.conf" >>"$1/tmp/template/postgresql.conf"
	cat "$dir/pg_hba.conf" >"$1/tmp/template/pg_hba.conf"
	tar -C "$1/tmp/template" --owner=0 --group=0 -cf "$1/usr/local/share/postgres-template.tar" .
	rm -rf "$1/tmp/template"
	chroot "$1" install -d -m 700 -o postgres -g postgres /var/lib/postgresql/data
}
