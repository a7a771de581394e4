#!/bin/sh
# Installs from Debian what a task needs and this machine does not have:
#   install-deps.sh [demo] [test] [check] [bench] [bench-server]
set -eu

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

# What compiles and runs the package is needed by all.
packages="r-base-core gcc libc6-dev make xz-utils r-cran-askpass r-cran-curl r-cran-jsonlite"
for task in "$@"; do
    case $task in
    demo) packages="$packages pandoc r-cran-rmarkdown r-cran-irkernel jupyter-nbconvert" ;;
    test) packages="$packages chromium chromium-driver r-cran-shiny git iproute2 keyutils locales openssl strace python3 python3-venv r-cran-testthat r-cran-withr r-cran-callr r-cran-httpuv r-cran-roxygen2" ;;
    check) packages="$packages git python3 qpdf tidy devscripts pandoc r-cran-knitr r-cran-rmarkdown r-cran-testthat r-cran-withr r-cran-callr r-cran-httpuv" ;;
    bench) packages="$packages r-cran-keyring r-cran-bench" ;;
    bench-server) packages="$packages curl libssl-dev pkg-config python3 python3-venv r-cran-bench wrk" ;;
    *) fail "no such task: $task (demo, test, check, bench, bench-server)" ;;
    esac
done

PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null || fail "Rust is missing; https://www.rust-lang.org/tools/install says how to get it"

if ! command -v dpkg-query >/dev/null; then
    echo "install-deps: this is not Debian; needed, under the names your system has for them: $packages"
    exit 0
fi

missing=
for package in $packages; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
    *" installed") ;;
    *) case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac ;;
    esac
done
[ -n "$missing" ] || exit 0

echo "install-deps: installing from Debian:$missing"
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo; as root, run: apt-get install$missing"
    sudo=sudo
fi
apt() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null
}
apt update || fail "apt-get update failed, see above"
# Word splitting is wanted: one package each.
# shellcheck disable=SC2086
apt install -y --no-install-recommends $missing || fail "apt-get install failed, see above"
