# Databases for the scripts here, which source it: PostgreSQL and MariaDB (or MySQL) where they are installed (Debian's packages are
# postgresql and mariadb-server), on ports of their own and with data that is thrown away. As root, their servers run as the
# users postgres and mysql, as they must.

# As another user, where this one may become it.
as() {
    local user=$1
    shift
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u "$user" -- "$@"); else "$@"; fi
}
has_user() { [ "$(id -u)" != 0 ] || id "$1" >/dev/null 2>&1; }
data_directory() { # name, user
    mkdir "$work/$1"
    [ "$(id -u)" != 0 ] || chown "$2" "$work/$1"
}

postgres_programs=$(dirname "$(readlink -f "$(command -v postgres || echo /nowhere/postgres)")")
for directory in /usr/lib/postgresql/*/bin; do
    [ -x "$postgres_programs/initdb" ] || postgres_programs=$directory
done
mysql_server=$(command -v mariadbd || command -v mysqld || true)

has_database() { # sqlite3, postgres or mysql
    case $1 in
        sqlite3) true ;;
        postgres) [ -x "$postgres_programs/initdb" ] && has_user postgres ;;
        mysql) [ -n "$mysql_server" ] && has_user mysql ;;
    esac
}
missing_database() {
    case $1 in
        postgres) echo "PostgreSQL (no initdb found; Debian's package is postgresql)" ;;
        mysql) echo "MariaDB (no mariadbd found; Debian's package is mariadb-server)" ;;
    esac
}
# Starts one with an empty database. Sets what SPIRE's configuration has as connection_string, what an import has as --from,
# and what the database is called.
start_database() { # kind, port
    case $1 in
        sqlite3)
            connection=$work/datastore.sqlite3
            source=sqlite:$connection
            database_name=SQLite
            ;;
        postgres)
            start_postgres "$2"
            connection="host=127.0.0.1 port=$2 user=spire dbname=postgres sslmode=disable"
            source="postgres://spire@127.0.0.1:$2/postgres?sslmode=disable"
            database_name=PostgreSQL
            ;;
        mysql)
            start_mysql "$2"
            connection="spire:se:cr@t@tcp(127.0.0.1:$2)/spire?parseTime=true"
            source=mysql:$connection
            database_name=$("$mysql_server" --version | grep -q MariaDB && echo MariaDB || echo MySQL)
            ;;
    esac
}
start_postgres() {
    data_directory postgres postgres
    as postgres "$postgres_programs/initdb" -D "$work/postgres" -U spire --auth trust -E UTF8 >"$work/initdb.log" 2>&1 || fail "initdb"
    at_end+=(stop_postgres)
    as postgres "$postgres_programs/pg_ctl" -D "$work/postgres" -w -l "$work/postgres/server.log" \
        -o "-p $1 -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgres -c fsync=off" start \
        >"$work/postgres.log" 2>&1 || fail "PostgreSQL does not start"
}
stop_postgres() { as postgres "$postgres_programs/pg_ctl" -D "$work/postgres" -m immediate stop; }
start_mysql() {
    local data=$work/mysql
    data_directory mysql mysql
    if command -v mariadb-install-db >/dev/null; then
        as mysql mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal >"$work/install.log" 2>&1 ||
            fail "mariadb-install-db"
    else
        as mysql "$mysql_server" --no-defaults --initialize-insecure --datadir="$data" >"$work/install.log" 2>&1 || fail "mysqld --initialize"
    fi
    at_end+=(stop_mysql)
    as mysql "$mysql_server" --no-defaults --datadir="$data" --port="$1" --bind-address=127.0.0.1 \
        --socket="$data/socket" --pid-file="$data/pid" --innodb-flush-log-at-trx-commit=0 >"$work/mysql.log" 2>&1 &
    processes+=($!)
    until_so 60 "MySQL serves" sql "SELECT 1"
    sql "CREATE DATABASE spire; CREATE USER spire@'127.0.0.1' IDENTIFIED BY 'se:cr@t'; GRANT ALL ON spire.* TO spire@'127.0.0.1';"
}
sql() { "$(command -v mariadb || command -v mysql)" --no-defaults --user=root --socket="$work/mysql/socket" --execute="$1"; }
stop_mysql() {
    kill -9 "$(cat "$work/mysql/pid")" && rm "$work/mysql/pid"
}
