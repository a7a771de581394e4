#!/bin/sh
# Executes a Jupyter notebook with R and writes it with its outputs:
#   notebook.sh <notebook> <result> <folder>
# All that Jupyter keeps goes to <folder>, with a kernel made there: nothing of the user's own is
# read or changed.
set -eu

notebook=$1
result=$2
folder=$3
mkdir -p "$folder/kernels/ir" "$folder/tmp"
cat >"$folder/kernels/ir/kernel.json" <<'EOF'
{
  "argv": ["R", "--no-echo", "--no-save", "--no-restore", "-e", "IRkernel::main()", "--args", "{connection_file}"],
  "display_name": "R",
  "language": "R"
}
EOF
JUPYTER_DATA_DIR=$folder
JUPYTER_CONFIG_DIR=$folder/config
JUPYTER_RUNTIME_DIR=$folder/runtime
JUPYTER_NO_CONFIG=1
IPYTHONDIR=$folder/ipython
TMPDIR=$folder/tmp
export TMPDIR JUPYTER_DATA_DIR JUPYTER_CONFIG_DIR JUPYTER_RUNTIME_DIR JUPYTER_NO_CONFIG IPYTHONDIR
exec jupyter-nbconvert --execute --to notebook --log-level WARN \
    --output-dir "$(dirname "$result")" --output "$(basename "$result")" "$notebook"
