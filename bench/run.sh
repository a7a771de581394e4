#!/bin/sh
# Measures and prints one table, in Markdown, to standard output; everything else goes to standard error.
# Run it by `make bench`. BENCH_ROUNDS=5 makes it shorter, and its numbers less certain.
set -eu
cd "$(dirname "$0")/.."
exec 3>&1 1>&2 </dev/null

top=$PWD
scratch=$top/.build/bench
PATH=$PATH:$HOME/.cargo/bin
sh tools/install-deps.sh bench

mkdir -p "$top/.build"
exec 4>"$top/.build/bench.lock"
flock -n 4 || {
    echo "bench: another run is measuring here; two at once would measure each other"
    exit 1
}

# Away from what the tests install and from the user's own library.
rm -rf "$scratch"
mkdir -p "$scratch/lib"
echo "bench: building"
R CMD INSTALL --no-test-load --library="$scratch/lib" . >"$scratch/install.log" 2>&1 || {
    cat "$scratch/install.log"
    exit 1
}
limit=$(
    cd src/rust
    cargo bench --locked --quiet --package vault --bench limit --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
)

# Nothing of the user's: neither profiles, nor environment files, nor a vault.
unset DKUSECRETS_HOME R_USER_DATA_DIR R_USER_CONFIG_DIR XDG_DATA_HOME XDG_CONFIG_HOME R_PROFILE R_ENVIRON
unset DKU_API_TICKET DKU_DSS_URL DKU_API_KEY DKUSECRETS_SOCKET
R_PROFILE_USER=/dev/null
R_ENVIRON_USER=/dev/null
R_LIBS=$scratch/lib
export R_PROFILE_USER R_ENVIRON_USER R_LIBS
cd "$scratch"
Rscript "$top/bench/bench.R" "$top/bench" "$limit" "${BENCH_ROUNDS:-20}" >&3
