#!/usr/bin/env bash
# Runs docker-compose.yml for real, with four runners, and checks that it does what it is for; then takes it down.
#
# What is missing is got from Debian packages: the Docker Engine (docker.io, installed), compose v2 (docker-compose of
# Debian unstable, unpacked to target/compose/). A daemon that runs already is used; else one is started by hand, with
# all its data in target/compose/, and stopped at the end.
#
# Where no registry can be reached, the base images are made here under the same names: Debian by debootstrap with this
# machine's Rust for the build, the C library for what runs, Debian's Prometheus, Alertmanager and node exporter. The
# Dockerfile is the same. Grafana's image cannot be made that way, so Grafana is left out, and its files are checked by
# the tests: every query of every dashboard against a real Prometheus, and here once more.
#
# KEEP=1 leaves everything running.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

readonly PLACE="$PWD/target/compose" RUNNERS=4
readonly PROMETHEUS=http://127.0.0.1:9090 EVALUATOR=http://127.0.0.1:9743
export DOCKER_CONFIG="$PLACE/docker" DOCKER_BUILDKIT=0 COMPOSE_PROJECT_NAME=ebb-check

[[ $EUID == 0 ]] || fail "the Docker Engine is started and asked as root. Try: sudo $0"

say() { echo "compose-check: $*"; }

# --- what it needs ---

command -v dockerd >/dev/null && command -v debootstrap >/dev/null && command -v python3 >/dev/null ||
    apt_install docker.io iptables debootstrap python3
mkdir -p "$PLACE" "$DOCKER_CONFIG/cli-plugins"
if [[ ! -x $DOCKER_CONFIG/cli-plugins/docker-compose ]]; then
    say "fetching compose, Prometheus, Alertmanager and node exporter from Debian unstable"
    rm -rf "$PLACE/unstable"
    mkdir -p "$PLACE/unstable"
    debian_unpack sid "$PLACE/unstable" \
        docker-compose prometheus prometheus-alertmanager prometheus-node-exporter
    cp "$PLACE/unstable/usr/libexec/docker/cli-plugins/docker-compose" "$DOCKER_CONFIG/cli-plugins/"
fi

daemon=
if ! docker info >/dev/null 2>&1; then
    say "starting a Docker daemon"
    export DOCKER_HOST="unix://$PLACE/docker.sock"
    dockerd --host "$DOCKER_HOST" --data-root "$PLACE/data" --exec-root "$PLACE/run" --pidfile "$PLACE/docker.pid" \
        >"$PLACE/dockerd.log" 2>&1 &
    daemon=$!
fi

compose() { docker compose "$@"; }

finish() {
    local status=$?
    trap - EXIT
    if [[ $status != 0 ]]; then
        compose ps --all || true
        compose logs --tail 20 || true
    fi
    if [[ -z ${KEEP:-} ]]; then
        compose down --volumes --timeout 15 >/dev/null 2>&1 || true
        if [[ -n $daemon ]]; then
            kill "$daemon" && wait "$daemon" || true
        fi
    fi
    [[ $status == 0 ]] || say "failed"
    exit "$status"
}
trap finish EXIT

# Tries a command until it succeeds.
until_true() { # <seconds> <what> <command>…
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "waited in vain: $what" "last tried: $*"
        sleep 1
    done
    say "$what"
}

until_true 60 "the Docker daemon answers" docker info

# --- base images ---

# Adds a tree to Docker as an image. What it is imported with are Dockerfile instructions.
import() { # <image> <folder> <instruction>…
    local image=$1 folder=$2 instruction changes=()
    shift 2
    for instruction in "$@"; do changes+=(--change "$instruction"); done
    tar -C "$folder" -c . | docker import "${changes[@]}" - "$image" >/dev/null
    rm -rf "$folder"
    say "made $image"
}

# The image is here, or comes from its registry.
has_image() { docker image inspect "$1" >/dev/null 2>&1 || timeout 60 docker pull --quiet "$1" >/dev/null 2>&1; }

# What programs linked to the C library need, and nothing else. Unpacked once.
libraries() { # <folder>
    local libraries="$PLACE/libraries"
    if [[ ! -e $libraries/etc/passwd ]]; then
        rm -rf "$libraries"
        mkdir -p "$libraries"
        debian_unpack bookworm "$libraries" libc6 libgcc-s1 busybox-static
        rm -rf "$libraries"/usr/share/{doc,man,lintian,locale}
        mkdir -p "$libraries"/{etc/ssl/certs,tmp,proc,sys,dev}
        chmod 1777 "$libraries/tmp"
        cp /etc/ssl/certs/ca-certificates.crt "$libraries/etc/ssl/certs/"
        printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532::/:/sbin/nologin \
            nobody:x:65534:65534::/:/sbin/nologin >"$libraries/etc/passwd"
    fi
    rm -rf "$1"
    cp -a "$libraries" "$1"
}

# A program of Debian unstable, laid out as in its official image; `wget` is for health checks.
server() { # <image> <program> <data folder> [<package's program>]
    local image=$1 program=$2 data=$3 folder="$PLACE/image"
    has_image "$image" && return
    libraries "$folder"
    cp "$PLACE/unstable/usr/bin/${4:-$program}" "$folder/bin/$program"
    ln -s busybox "$folder/bin/wget"
    # Alertmanager's templates, which are part of the official program.
    if [[ -d $PLACE/unstable/usr/share/prometheus/$program ]]; then
        mkdir -p "$folder/usr/share/prometheus"
        cp -a "$PLACE/unstable/usr/share/prometheus/$program" "$folder/usr/share/prometheus/"
    fi
    local instructions=("USER 65534" "WORKDIR $data" "ENTRYPOINT [\"/bin/$program\"]")
    if [[ $data != / ]]; then
        mkdir -p "$folder$data"
        chown 65534:65534 "$folder$data"
        instructions+=("VOLUME $data")
    fi
    import "$image" "$folder" "${instructions[@]}"
}

image_of() { sed -n "s#^ *image: \($1:.*\)#\1#p" docker-compose.yml; }

rust=$(sed -n 's/^ARG RUST_VERSION=//p' Dockerfile)
debian=$(sed -n 's/^ARG DEBIAN=//p' Dockerfile)
# The image made here has the crates of one state of the lock files: another state needs another image. One from a registry
# has no such label.
lock=$(cat Cargo.lock guests/Cargo.lock | sha256sum | cut -c1-16)
made_for() { docker image inspect --format '{{index .Config.Labels "ebb.lock"}}' "$1" 2>/dev/null; }
image="rust:$rust-$debian"
if ! has_image "$image" || [[ -n $(made_for "$image") && $(made_for "$image") != "$lock" ]]; then
    system="$PLACE/$debian" folder="$PLACE/image"
    if [[ ! -d $system ]]; then
        rm -rf "$system.part"
        debootstrap --variant=minbase --include=gcc,libc6-dev,make,ca-certificates "$debian" "$system.part" "$(debian_mirror)" \
            >/dev/null
        rm -rf "$system.part"/var/cache/apt/archives/*.deb "$system.part"/var/lib/apt/lists/*
        mv "$system.part" "$system"
    fi
    rm -rf "$folder"
    cp -a "$system" "$folder"
    cp -a /etc/ssl/certs/. "$folder/etc/ssl/certs/"
    # As in the official image, this machine's toolchain instead of one fetched by rustup.
    sysroot=$(rustc --print sysroot)
    mkdir -p "$folder/usr/local/rustup/toolchains" "$folder/usr/local/cargo/bin"
    cp -a "$sysroot" "$folder/usr/local/rustup/toolchains/$rust.0-x86_64-unknown-linux-gnu"
    rm -rf "$folder"/usr/local/rustup/toolchains/*/share
    cp -a "$(dirname "$(command -v rustup)")"/{rustup,cargo,rustc} "$folder/usr/local/cargo/bin/"
    # The crates of this repository, so that the build need not fetch them.
    cargo fetch --quiet --locked
    cargo fetch --quiet --locked --manifest-path guests/Cargo.toml
    cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$folder/usr/local/cargo/"
    import "$image" "$folder" "LABEL ebb.lock=$lock" \
        "ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true PATH=/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin"
fi
base=$(sed -n 's/^FROM \(gcr.*\) AS runner/\1/p' Dockerfile)
if ! has_image "$base"; then
    libraries "$PLACE/image"
    rm -f "$PLACE/image/bin/busybox"
    import "$base" "$PLACE/image" "USER 65532" "ENV PATH=/usr/bin:/bin"
fi
server "$(image_of prom/prometheus)" prometheus /prometheus
server "$(image_of prom/alertmanager)" alertmanager /alertmanager prometheus-alertmanager
server "$(image_of prom/node-exporter)" node_exporter / prometheus-node-exporter

# --- the stack ---

compose config --quiet
say "docker compose config is clean"
say "building; the first time takes a quarter of an hour"
compose build --quiet runner evaluator >"$PLACE/build.log" 2>&1 || { tail -n 40 "$PLACE/build.log"; exit 1; }
say "built: $(docker image inspect --format '{{.Size}}' ebb-runner ebb-evaluator | numfmt --to=iec | xargs)"
compose up --detach --no-build --scale runner=$RUNNERS \
    runner evaluator prometheus alertmanager node-exporter >"$PLACE/up.log" 2>&1 || { cat "$PLACE/up.log"; exit 1; }

# The value of an instant query, of its first series; nothing where there is none.
value() { # <query>
    curl -sfG "$PROMETHEUS/api/v1/query" --data-urlencode "query=$1" |
        python3 -c 'import json, sys; r = json.load(sys.stdin)["data"]["result"]; print(r[0]["value"][1] if r else "")'
}
holds() { # <query that yields a series when it holds>
    [[ -n $(value "$1") ]]
}
healthy() { # <service> <how many>
    [[ $(compose ps --format '{{.Health}}' "$1" | grep -c '^healthy$') == "$2" ]]
}

for service in evaluator prometheus alertmanager node-exporter; do
    until_true 180 "$service is healthy" healthy "$service" 1
done
until_true 180 "all $RUNNERS runners are healthy" healthy runner "$RUNNERS"
until_true 120 "all $RUNNERS runners were found through DNS and are scraped" \
    holds "count(up{job=\"ebb-runner\"} == 1) == $RUNNERS"
until_true 60 "evaluator, node exporter and Prometheus are scraped" \
    holds 'sum(up{job=~"ebb-evaluator|node|prometheus"}) == 3'
until_true 60 "the evaluator is ready" curl -sf "$EVALUATOR/-/ready"

# Containers are what the compose file promises.
for service in runner evaluator; do
    container=$(compose ps --quiet "$service" | head -n 1)
    found=$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.HostConfig.CapDrop}}' "$container")
    [[ $found == "true 65532:65532 [ALL]" ]] || fail "$service is not hardened: $found"
done
say "runner and evaluator have a read-only root, no capabilities, and are not root"

curl -sfT Makefile http://127.0.0.1:8080/Makefile >/dev/null
for _ in 1 2 3 4 5; do curl -sf http://127.0.0.1:8080/Makefile?download | cmp -s - Makefile || fail "the storage guest gave another file back"; done
say "an HTTP guest answers"

# Rules: every alert of the file is loaded, and Alertmanager is known.
python3 - "$PROMETHEUS" <<'PYTHON'
import json, re, sys, urllib.request
get = lambda path: json.load(urllib.request.urlopen(sys.argv[1] + path))["data"]
groups = get("/api/v1/rules")["groups"]
rules = [rule for group in groups for rule in group["rules"]]
loaded = {rule["name"] for rule in rules if rule["type"] == "alerting"}
expected = set(re.findall(r"^ *- alert: (\w+)", open("config/alerts.yml").read(), re.M))
assert expected and expected == loaded, f"loaded {loaded}, expected {expected}"
broken = [rule["name"] for rule in rules if rule["health"] == "err"]
assert not broken, f"rules that fail: {broken}"
assert get("/api/v1/alertmanagers")["activeAlertmanagers"], "Prometheus knows no Alertmanager"
print(f"compose-check: {len(loaded)} alerts are loaded, none fails, Alertmanager is known")
PYTHON

readonly RESTARTS='sum(wasm_instance_restarts_total{reason="threshold"})'
until_true 600 "an instance was restarted by its threshold" holds "$RESTARTS > 0"
[[ $(value 'sum(wasm_instance_restarts_total{module="steady",reason="threshold"})') == 0 ]] ||
    fail "an instance that does not grow was restarted by its threshold"
say "no steady instance was"

# A first restart may come before any lifetime is old enough to count (min_age).
until_true 180 "lifetimes of all four modules count" holds "count(count by (module) (ebb_evaluator_sample_stddev_bytes)) == 4"
scripts/check-dashboards.sh --prometheus "$PROMETHEUS"

# What is killed comes back, and what it did goes on.
before=$(value "$RESTARTS")
compose restart --timeout 15 evaluator >/dev/null 2>&1
until_true 120 "the evaluator is ready again after a restart" curl -sf "$EVALUATOR/-/ready"
until_true 600 "it goes on restarting instances" holds "$RESTARTS > $before"
victim=$(compose ps --quiet runner | head -n 1)
kill -KILL "$(docker inspect --format '{{.State.Pid}}' "$victim")"
until_true 60 "Prometheus saw a killed runner go" holds "count(up{job=\"ebb-runner\"} == 1) < $RUNNERS or sum(changes(process_start_time_seconds{job=\"ebb-runner\"}[2m])) > 0"
until_true 180 "it is back" holds "count(up{job=\"ebb-runner\"} == 1) == $RUNNERS"
until_true 180 "all runners are healthy again" healthy runner "$RUNNERS"
until_true 120 "nothing is held" holds "ebb_evaluator_holding == 0"
say "passed"
