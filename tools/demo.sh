#!/bin/sh
# Shows what the package does, in a scratch vault and with a secret made up for it: stores it from
# standard input, looks for it on the disk, and reads it back with the documented DSS snippet in a
# recipe, a notebook and a plugin recipe (inst/examples). Needs the package installed: `make demo`.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "demo: $*" >&2
    exit 1
}

# run <what> <command...>: fails with the command's output, or leaves it in $scratch/output.
run() {
    what=$1
    shift
    "$@" >"$scratch/output" 2>&1 </dev/null && return
    cat "$scratch/output" >&2
    fail "$what failed, see above"
}

Rscript -e 'library(dkusecrets)' >/dev/null 2>&1 || fail "the package is not installed; run: make install"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/dkusecrets-demo.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM
mkdir -m 0700 "$scratch/vault" "$scratch/work"
unset DKU_API_TICKET DKU_DSS_URL DKU_API_KEY DKUSECRETS_SOCKET
DKUSECRETS_HOME=$scratch/vault
export DKUSECRETS_HOME
top=$PWD
examples=$top/inst/examples

# Letters from the system's random numbers: a value that is nowhere else.
secret=demo-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
expected="credential-for-my-api has ${#secret} characters"

# The last line that the documented snippet's example prints, wherever it ran.
check() {
    grep -qF "$expected" "$2" || fail "$1 did not read the secret"
    if grep -qF "$secret" "$2"; then fail "$1 shows the secret"; fi
    echo "   $expected"
}

echo "1. Storing a secret from standard input, in a scratch vault"
cat <<'EOF'
   printf '%s\n' "$secret" | Rscript -e 'dkusecrets::dkuSetSecret("credential-for-my-api", readLines("stdin", 1))'
EOF
printf '%s\n' "$secret" |
    Rscript -e 'dkusecrets::dkuSetSecret("credential-for-my-api", readLines("stdin", 1))'
run "listing" Rscript -e 'dkusecrets::dkuListSecrets()[c("name", "version", "created")]'
sed 's/^/   /' "$scratch/output"

echo "2. Looking for it on the disk"
files=$(find "$scratch/vault" -type f)
for file in $files; do
    if grep -qF -e "$secret" -e credential-for-my-api "$file"; then fail "$file holds plaintext"; fi
    echo "   $(stat -c '%A %6s bytes' "$file")  ${file#"$scratch/"}: neither name nor value in it"
done

cd "$scratch/work"
echo "3. A recipe: Rscript recipe.R"
run "the recipe" Rscript "$examples/recipe.R"
check "the recipe" "$scratch/output"

echo "4. A notebook: Jupyter with the R kernel"
run "the notebook" sh "$top/tools/notebook.sh" "$examples/notebook.ipynb" "$scratch/work/notebook.ipynb" "$scratch/jupyter"
check "the notebook on disk, with its outputs," "$scratch/work/notebook.ipynb"

echo "5. A plugin recipe: custom-recipes/credential-length in a fresh R"
run "the plugin recipe" R --quiet --no-save --no-restore \
    --file="$examples/plugin/custom-recipes/credential-length/recipe.R"
check "the plugin recipe" "$scratch/output"

echo "6. A name that is not there"
Rscript -e 'dkusecrets::dkuRemoveSecret("credential-for-my-api")'
if Rscript "$examples/recipe.R" >"$scratch/output" 2>&1 </dev/null; then fail "the recipe found a removed secret"; fi
grep -q "no secret matched" "$scratch/output" || fail "the recipe does not say that no secret matched"
sed -n '/^Error/,/dkuSetSecret/s/^/   /p' "$scratch/output"

echo "Done. Your own vault: library(dkusecrets), then dkuSetSecret(\"<name>\") asks for the value."
