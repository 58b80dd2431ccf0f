# Runs PostgreSQL and PgBouncer in a folder of its own until standard input ends, which it does when the test process does,
# however that ends; then removes the folder. A line on standard input ends PostgreSQL without a goodbye, and starts it again.
# Arguments: PostgreSQL's programs, PgBouncer, the port of each, whether commits are synced (on or off); for a standby, the port
# of its primary.
set -eu
bin=$1 pgbouncer=$2 port=$3 pooled_port=$4 fsync=$5 primary=${6-}
dir=$(mktemp -d "${TMPDIR:-/tmp}/tidings-postgres.XXXXXX")
cd "$dir"
as=
# Neither runs as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$dir"
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
finish() {
    trap - EXIT
    kill -INT $postgres $pooler 2>/dev/null || true
    wait || true
    cd /
    rm -rf "$dir"
}
postgres= pooler=
trap finish EXIT
trap 'exit 1' HUP INT TERM
if [ -n "$primary" ]; then
    $as "$bin/pg_basebackup" -h 127.0.0.1 -p "$primary" -U tidings -D "$dir/data" -R -X stream -c fast --no-sync >backup.log 2>&1 || { cat backup.log >&2; exit 1; }
else
    $as "$bin/initdb" -D "$dir/data" -U tidings -A trust -E UTF8 --locale=C --no-sync >initdb.log 2>&1 || { cat initdb.log >&2; exit 1; }
fi
serve() {
    $as "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir" \
        -c fsync="$fsync" -c full_page_writes="$fsync" -c max_connections=1000 -c shared_buffers=64MB -c autovacuum_naptime=5s \
        -c log_min_messages=panic -c deadlock_timeout=200ms >&2 </dev/null &
    postgres=$!
}
serve
cat >pgbouncer.ini <<EOF
[databases]
* = host=127.0.0.1 port=$port user=tidings
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pooled_port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 1000
server_idle_timeout = 5
log_connections = 0
log_disconnections = 0
log_stats = 0
EOF
$as "$pgbouncer" -q pgbouncer.ini >&2 </dev/null &
pooler=$!
while read -r _; do
    kill -QUIT "$postgres"
    wait "$postgres" || true
    serve
done
