#!/bin/sh
# Runs every suite, each to its end, and adds them up (tools/count.py). All it makes is in .build/
# and src/rust/target/: the package goes to .build/lib, and a test that forgets to say where its
# vault is finds .build/home, not the user's own.
set -u
cd "$(dirname "$0")/.." || exit 1
exec </dev/null

top=$PWD/.build
results=$top/results
PATH=$PATH:$HOME/.cargo/bin
R_LIBS=$top/lib
DKUSECRETS_HOME=$top/home
# Snapshots are compared, as on no check by CRAN; Python leaves no bytecode in the tree.
NOT_CRAN=true
PYTHONDONTWRITEBYTECODE=1
LC_ALL=C.UTF-8
LANGUAGE=en
# A test that forgets to say where its secrets are must not find those of a server.
unset DKU_API_TICKET DKU_DSS_URL DKU_API_KEY DKUSECRETS_SOCKET
export PATH R_LIBS DKUSECRETS_HOME NOT_CRAN PYTHONDONTWRITEBYTECODE LC_ALL LANGUAGE
rm -rf "$results" "$top/home" "$top/lib"
mkdir -p "$results" "$top/lib"
mkdir -m 700 "$top/home"

# suite <name> <command...>: runs it, keeps its output and its exit status.
suite() {
    name=$1
    shift
    echo "== $name: $*"
    { "$@" 2>&1; echo $? >"$results/$name.status"; } | tee "$results/$name.log"
}

install() {
    R CMD INSTALL --no-test-load --library="$top/lib" . >"$top/install.log" 2>&1 && return
    cat "$top/install.log"
    return 1
}

venv() {
    wanted=tests/clients/requirements.txt
    cmp -s "$wanted" "$top/venv/requirements.txt" && return
    rm -rf "$top/venv"
    python3 -m venv "$top/venv" &&
        "$top/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" &&
        cp "$wanted" "$top/venv/requirements.txt"
}

python() {
    venv && "$top/venv/bin/python" -m pytest tests/clients -p no:cacheprovider --junitxml="$results/python.xml"
}

rust() {
    (cd src/rust && cargo test --release --locked --workspace --no-fail-fast)
}

# The package first: it and the Rust tests share what cargo builds.
echo "== installing the package into .build/lib"
install || echo "the package does not install: the suites that need it will fail"
suite rust rust
suite r Rscript tools/test.R "$results/r.tsv"
suite generated Rscript tools/generated.R "$results/generated.tsv"
suite python python

python3 tools/count.py "$results" rust r generated python
