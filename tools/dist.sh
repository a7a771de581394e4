#!/bin/sh
# Makes .build/dist/dkusecrets_<version>.tar.gz: the source package with every crate in it, so that
# it installs without a network. Works on a copy: src/rust/vendor.tar.xz would turn builds of this
# folder into offline ones.
set -eu
cd "$(dirname "$0")/.."

dist=$PWD/.build/dist
stage=$dist/dkusecrets
rm -rf "$dist"
mkdir -p "$stage"
# What git knows or would add, as it is now; a file that was removed is not an error.
git ls-files -z --cached --others --exclude-standard |
    tar -c --null --files-from=- --ignore-failed-read 2>/dev/null | tar -x -C "$stage"

echo "dist: collecting the crates"
cd "$stage/src/rust"
# Its output is a configuration for cargo, which src/Makevars.in already has.
cargo vendor --locked --quiet vendor >/dev/null
python3 "$stage/tools/vendor.py" vendor "$stage/inst/AUTHORS"
tar -c --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 vendor | xz -9e -T0 >vendor.tar.xz
rm -rf vendor

echo "dist: building the package"
cd "$dist"
R CMD build dkusecrets
rm -rf "$stage"
ls -l "$dist"/*.tar.gz
