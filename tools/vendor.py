"""Readies `cargo vendor`'s folder for CRAN: python3 tools/vendor.py <vendor folder> <authors file>

Small: crates that the package is not built from (other systems, tests) are emptied, cargo wants to
read their Cargo.toml and no more; from the others, folders with tests and examples are dropped.
Named: the authors file lists who wrote each crate that is left, and under which licence.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tomllib

SYSTEMS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin", "x86_64-apple-darwin"]
DROP = {"tests", "test-data", "benches", "examples", "fuzz"}


def needed():
    """(name, version) of each crate the package is built from, on any of SYSTEMS."""
    crates = set()
    for system in SYSTEMS:
        tree = ["cargo", "tree", "--locked", "--package=dkusecrets", "--package=server", "--edges=normal,build", "--prefix=none"]
        out = subprocess.run([*tree, "--target", system], check=True, capture_output=True, text=True).stdout
        for line in filter(None, out.splitlines()):
            name, version = line.split()[:2]
            crates.add((name, version.lstrip("v")))
    return crates


def keep_only(crate, keep):
    """Removes the files of a crate that `keep` does not want, also from cargo's list of checksums."""
    path = crate / ".cargo-checksum.json"
    sums = json.loads(path.read_text())
    for name in list(sums["files"]):
        if not keep(pathlib.PurePath(name)):
            (crate / name).unlink()
            del sums["files"][name]
    path.write_text(json.dumps(sums))


def dropped(crate):
    """Of DROP, the folders that the crate's own sources do not include anything from, as clap does for its help."""
    sources = "".join(path.read_text(errors="replace") for path in crate.glob("src/**/*.rs"))
    return {folder for folder in DROP if f"../{folder}/" not in sources}


def main(vendor, authors):
    wanted = needed()
    lines = ["The Rust crates in src/rust/vendor.tar.xz, their licences and authors.", ""]
    for crate in sorted(vendor.iterdir()):
        package = tomllib.loads((crate / "Cargo.toml").read_text())["package"]
        if (package["name"], package["version"]) in wanted:
            drop = dropped(crate)
            keep_only(crate, lambda name: name.parts[0] not in drop)
            people = ", ".join(package.get("authors", [])) or package.get("repository", "the project's authors")
            lines.append(f"{package['name']} {package['version']} ({package['license']}): {people}")
        else:
            keep_only(crate, lambda name: name == pathlib.PurePath("Cargo.toml"))
            shutil.rmtree(crate / "src", ignore_errors=True)
            (crate / "src").mkdir()
            (crate / "src/lib.rs").touch()
    authors.parent.mkdir(exist_ok=True)
    authors.write_text("\n".join([*lines, ""]))


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
