# What the scripts that work with real programs have in common; they source it. Programs that are there already are named
# by STEEPLE_PROGRAM, SPIRE_SERVER and SPIRE_AGENT; others are built.

adapter=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
chmod 755 "$work"
processes=()
# Commands that end what is no process of ours.
at_end=()
cleanup() {
    {
        for command in "${at_end[@]}"; do $command || true; done
        [ ${#processes[@]} -eq 0 ] || kill -9 "${processes[@]}" || true
        wait || true
    } >/dev/null 2>&1
    rm -rf "$work"
}
trap cleanup EXIT
fail() {
    echo "FAILED: $*" >&2
    for log in "$work"/*.log; do
        [ ! -s "$log" ] || { echo "--- $(basename "$log") ends with"; tail -n 15 "$log"; } >&2
    done
    exit 1
}

# Milliseconds, and a step with the time at which it was done.
now() { date +%s%3N; }
begun=$(now)
step() { printf '%6d ms  %s\n' "$(($(now) - begun))" "$*"; }
# Repeats a command until it succeeds.
until_so() {
    local seconds=$1 what=$2
    shift 2
    local end=$(($(now) + seconds * 1000))
    until "$@" >/dev/null 2>&1; do
        [ "$(now)" -lt "$end" ] || fail "$what: not within $seconds s"
        sleep 0.05
    done
}

needs_go() { # what is built, variable that names one
    command -v go >/dev/null && return
    echo "Go is not installed. SPIRE is written in Go, so building $1 takes Go 1.26.6 or newer (https://go.dev/dl)${2:+; or name a program with $2}." >&2
    exit 1
}
need_steeple() {
    [ -z "${STEEPLE_PROGRAM:-}" ] || return 0
    command -v cargo >/dev/null || { echo "cargo is not installed, so there is no steeple. Name one with STEEPLE_PROGRAM." >&2; exit 1; }
    (cd "$adapter/../.." && cargo build --release --locked)
    STEEPLE_PROGRAM=${CARGO_TARGET_DIR:-$adapter/../../target}/release/steeple
}
need_spire() { # flags for building the server
    [ -n "${SPIRE_SERVER:-}" ] || needs_go "a spire-server" SPIRE_SERVER
    [ -n "${SPIRE_AGENT:-}" ] || needs_go "a spire-agent" SPIRE_AGENT
    if [ -z "${SPIRE_SERVER:-}" ]; then
        SPIRE_SERVER=$work/spire-server
        "$adapter/build-server" "$@" --output "$SPIRE_SERVER"
    fi
    if [ -z "${SPIRE_AGENT:-}" ]; then
        SPIRE_AGENT=$work/spire-agent
        echo "Building spire-agent ..."
        local source
        source=$(cd "$adapter" && go mod download github.com/spiffe/spire && go list -m -f '{{.Dir}}' github.com/spiffe/spire)
        (cd "$source" && go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$SPIRE_AGENT" ./cmd/spire-agent)
    fi
}

# Three nodes with mutual TLS, on 30 ports from this one. The first start only makes certificates and a configuration for each.
nodes=()
start_nodes() { # port
    local port=$1 first data=$work/steeple
    begun=$(now)
    "$STEEPLE_PROGRAM" dev --nodes 3 --data "$data" --listen "127.0.0.1:$port" --http-listen "127.0.0.1:$((port + 1))" \
        >"$work/dev.log" 2>&1 &
    first=$!
    until_so 60 "nodes have a leader" grep -q "is serving with 3 nodes" "$work/dev.log"
    kill -INT $first
    wait $first || true
    for node in 1 2 3; do start_node $node; done
    export STEEPLE_ENDPOINT=https://127.0.0.1:$port,https://127.0.0.1:$((port + 10)),https://127.0.0.1:$((port + 20))
    export STEEPLE_CLIENT_CA=$data/certificates/authority.pem
    export STEEPLE_CLIENT_CERTIFICATE=$data/certificates/operator.pem
    export STEEPLE_CLIENT_KEY=$data/certificates/operator-key.pem
    # What a server's block says of them.
    steeple_block="endpoints = [\"127.0.0.1:$port\", \"127.0.0.1:$((port + 10))\", \"127.0.0.1:$((port + 20))\"]
            ca_file = \"$STEEPLE_CLIENT_CA\"
            cert_file = \"$STEEPLE_CLIENT_CERTIFICATE\"
            key_file = \"$STEEPLE_CLIENT_KEY\""
    until_so 30 "the nodes have a leader" has_leader
    step "three Steeple nodes serve, encrypted; node $(leader) leads"
}
start_node() {
    "$STEEPLE_PROGRAM" serve --config "$work/steeple/node-$1.toml" >>"$work/node-$1.log" 2>&1 &
    nodes[$1]=$!
    processes+=($!)
}
kill_node() {
    {
        kill -9 "${nodes[$1]}"
        wait "${nodes[$1]}" || true
    } 2>/dev/null
}
leader() { "$STEEPLE_PROGRAM" cluster status 2>/dev/null | sed -n 's/^ *leader *\(node \)\{0,1\}\([0-9]\).*/\2/p' | head -1; }
has_leader() { [ -n "$(leader)" ]; }

# What an agent is told. Its server's bundle is in a file.
agent_configuration() { # name, port of its server, file of the bundle
    mkdir -p "$work/$1"
    cat >"$work/$1.conf" <<CONFIGURATION
agent {
    server_address = "127.0.0.1"
    server_port = "$2"
    socket_path = "$work/$1.sock"
    data_dir = "$work/$1"
    trust_domain = "example.org"
    trust_bundle_path = "$3"
    log_level = "INFO"
    experimental { sync_interval = "1s" }
}
plugins {
    NodeAttestor "join_token" { plugin_data {} }
    KeyManager "memory" { plugin_data {} }
    WorkloadAttestor "unix" { plugin_data {} }
}
CONFIGURATION
}
start_agent() { # name, join token; sets agent_process
    "$SPIRE_AGENT" run -config "$work/$1.conf" -joinToken "$2" >"$work/$1.log" 2>&1 &
    agent_process=$!
    processes+=($!)
}
fetch() { # agent, what, more
    "$SPIRE_AGENT" api fetch "$2" -socketPath "$work/$1.sock" "${@:3}"
}
has_identity() { # agent, name
    local found
    found=$(fetch "$1" x509 -timeout 2s) && grep -q "spiffe://example.org/$2\$" <<<"$found"
}
fetch_jwt() { fetch "$1" jwt -audience test | sed -n 's/^\t\(.*\..*\..*\)$/\1/p' | head -1; }
jwt_is_valid() { # agent, file
    "$SPIRE_AGENT" api validate jwt -audience test -svid "$(cat "$2")" -socketPath "$work/$1.sock" >/dev/null
}
