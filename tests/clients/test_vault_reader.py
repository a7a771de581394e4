"""The Python reader opens vaults that R made and finds every value; what was done to a vault, it finds and R finds."""
import contextlib
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest

import vault_reader
from vault_reader import Fields, VaultError, read_vault, u32, u64

PASSPHRASE = "cafe\u0301 correct horse"


class Home:
    """A vault's two directories, and its rows as anyone can write them."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.data, self.config = self.path / "data", self.path / "config"
        self.database, self.anchor = self.data / "vault.db", self.config / "anchor"

    def copy_to(self, other):
        shutil.copytree(self.path, other.path, symlinks=True, dirs_exist_ok=True)
        return other

    @property
    def key_file(self):
        return next(self.config.glob("root-*.key"))

    def sql(self, statement, *arguments):
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(statement, arguments).fetchall()

    def rows(self):
        return dict(self.sql("SELECT key, value FROM row"))

    def put(self, *rows):
        for key, value in rows:
            self.sql("REPLACE INTO row (key, value) VALUES (?, ?)", key, value)

    def delete(self, key):
        self.sql("DELETE FROM row WHERE key = ?", key)

    def key(self, tag):
        """The key of the first row of a kind, the directory's left out."""
        rows = self.rows()
        store = rows[b"\0"][4:20]
        return min(key for key in rows if key[0] == tag and (tag < 2 or key[1:17] != store))

    def directory_key(self, tag):
        rows = self.rows()
        return min(key for key in rows if key[0] == tag and key[1:17] == rows[b"\0"][4:20])

    def page_key(self, number):
        return b"\x06" + self.key(6)[1:17] + u32(number)

    def record_key(self, name, version):
        secret = read_vault(self.data, self.config)["secrets"][name]
        return self.key(3)[:17] + bytes.fromhex(secret["id"]) + u64(version)


def run_r(code, home, halfway=None):
    """What R code prints. `halfway` is done where it says that it is waiting, before it gets a line of input."""
    env = {**os.environ, "DKUSECRETS_HOME": str(home.path)}
    with tempfile.NamedTemporaryFile("w", suffix=".R", encoding="utf-8") as script:
        script.write(code)
        script.flush()
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(["Rscript", script.name], env=env, encoding="utf-8", **pipes) as r:
            if halfway:
                assert r.stdout.readline() == "waiting\n"
                halfway()
            printed, said = r.communicate("\n", timeout=300)
    assert r.returncode == 0, said
    return printed


def in_r(text):
    """A string as R code, in ASCII: no locale can change it."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{{{ord(c):x}}}" for c in text) + '"'


@pytest.fixture(scope="session")
def new_home():
    """Makes an empty directory; in memory, where there is such a place, as these tests are not about the disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as top:
        yield lambda: Home(tempfile.mkdtemp(dir=top))


@pytest.fixture(scope="session")
def made_by_r(new_home):
    """Makes a vault with R code that follows library(dkusecrets)."""

    def make(code):
        home = new_home()
        run_r("library(dkusecrets)\n" + code, home)
        return home

    return make


# Every value

VALUES = {
    "empty": "",
    "multi-line": "first\n\n\tsecond\r\nthird",
    "trailing newline": "value\n",
    "emoji \U0001f511": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600",
    "\u05e1\u05d5\u05d3": "\u05e9\u05dc\u05d5\u05dd left \u202eright",
    "caf\u00e9": "cafe\u0301",
    "n" * 255: "the longest name",
    **{f"{length} bytes": "x" * length for length in (62, 63, 64, 65)},
}
ONE_MIB = "0123456789abcde\n" * 65536


def test_every_value_that_r_stored(made_by_r):
    code = [f"dkuSetSecret({in_r(name)}, {in_r(value)})" for name, value in VALUES.items()]
    code.append(r"""
        dkuSetSecret("1 MiB", strrep("0123456789abcde\n", 65536))
        for (i in 1:12) dkuSetSecret("many versions", paste("version", i))
        dkuSetSecret("removed", "one"); dkuSetSecret("removed", "two"); dkuRemoveSecret("removed")
        dkuSetSecret("restored", "value"); dkuRemoveSecret("restored"); dkuRestoreSecret("restored")
        dkuSetSecret("put back", "one"); dkuSetSecret("put back", "two"); dkuRestoreSecret("put back", 1)
        dkuSetSecret("before", "value"); dkuRenameSecret("before", "renamed")
        dkuSetSecret("described", "value", description = "for \U{1f327}\n\ttwo lines", expires = "2031-12-31")
        dkuSetSecret("expired", "value", expires = "1969-12-31")
        dkuSetSecret("purged", "value"); dkuRemoveSecret("purged"); dkuPurgeSecret("purged")
    """)
    home = made_by_r("\n".join(code))
    secrets = read_vault(home.data, home.config)["secrets"]

    expected = {name: {1: value} for name, value in VALUES.items()}
    expected |= {name: {1: "value"} for name in ("restored", "renamed", "described", "expired")}
    expected["1 MiB"] = {1: ONE_MIB}
    expected["many versions"] = {n: f"version {n}" for n in range(3, 13)}
    expected["removed"] = {1: "one", 2: "two"}
    expected["put back"] = {1: "one", 2: "two", 3: "one"}
    assert {n: {v["version"]: v["value"] for v in s["versions"]} for n, s in secrets.items()} == expected

    assert [name for name, secret in secrets.items() if secret["removed"]] == ["removed"]
    described = {name: secret["description"] for name, secret in secrets.items() if secret["description"]}
    assert described == {"described": "for \U0001f327\n\ttwo lines"}
    expires = {name: secret["versions"][-1]["expires"] for name, secret in secrets.items()}
    assert {name: day for name, day in expires.items() if day is not None} == {"described": 22644, "expired": -1}
    # R tells the same of it, times included.
    listed = run_r(
        """
        library(dkusecrets)
        l <- dkuListSecrets(removed = TRUE)
        ms <- function(x) format(round(as.numeric(x) * 1000), scientific = FALSE, trim = TRUE)
        hex <- vapply(l$name, function(n) paste(as.character(charToRaw(n)), collapse = ""), "")
        cat(paste(hex, l$version, ms(l$created), ms(l$updated), ms(l$removed)), sep = "\n")
        """,
        home,
    )
    expected = [
        f"{name.encode().hex()} {s['versions'][-1]['version']} {s['created']} {s['updated']} {s['removed'] or 'NA'}"
        for name, s in secrets.items()
    ]
    assert sorted(listed.split("\n")[:-1]) == sorted(expected)


def test_a_thousand_secrets(made_by_r):
    home = made_by_r('for (i in 1:1000) dkuSetSecret(sprintf("secret %04d", i), paste("value", i))')
    secrets = read_vault(home.data, home.config)["secrets"]
    found = {name: [v["value"] for v in secret["versions"]] for name, secret in secrets.items()}
    assert found == {f"secret {i:04}": [f"value {i}"] for i in range(1, 1001)}
    pages = [key for key in home.rows() if key[:17] == b"\x06" + home.key(6)[1:17]]
    assert len(pages) >= 8


def test_a_new_vault(made_by_r):
    home = made_by_r("dkuCreateVault(keep_versions = 3, keep_days = 7)")
    found = read_vault(home.data, home.config)
    assert (found["secrets"], found["keep_versions"], found["keep_days"]) == ({}, 3, 7)
    # Only a vault that was never written to may lack its anchor.
    home.anchor.unlink()
    assert read_vault(home.data, home.config)["secrets"] == {}


@pytest.fixture(scope="session")
def with_passphrase(made_by_r):
    return made_by_r(f'dkuCreateVault("passphrase", {in_r(PASSPHRASE)}); dkuSetSecret("a", "one")')


@pytest.mark.parametrize("passphrase", [PASSPHRASE, PASSPHRASE.replace("e\u0301", "\u00e9")], ids=["NFD", "NFC"])
def test_a_vault_with_a_passphrase(with_passphrase, passphrase):
    secrets = read_vault(with_passphrase.data, with_passphrase.config, passphrase)["secrets"]
    assert secrets["a"]["versions"][0]["value"] == "one"
    assert r_unlocks(with_passphrase, passphrase) == {"unlock": "", "get a": "one"}


def test_command_line(small):
    command = [sys.executable, vault_reader.__file__, str(small.data), str(small.config)]
    printed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert json.loads(printed) == read_vault(small.data, small.config)


# What is done to a vault

# The vault that the cases below begin with, and the state that some of them put back.
BEFORE = """
    dkuSetSecret("a", "a one"); dkuSetSecret("a", "a two")
    dkuSetSecret("b", "b one")
    dkuSetSecret("c", "c one")
    dkuSetSecret("gone", "gone")
    for (i in 1:9) dkuSetSecret(sprintf("filler %d", i), paste("value", i), description = strrep("d", 1000))
"""
AFTER = """
    dkuSetSecret("a", "a three")
    dkuSetSecret("b", "b two")
    dkuRemoveSecret("gone")
"""
CURRENT = {"a": "a three", "b": "b two", "c": "c one", **{f"filler {i}": f"value {i}" for i in range(1, 10)}}
ABSENT = ["gone", "never"]


@pytest.fixture(scope="session")
def small(made_by_r, new_home):
    home = made_by_r(BEFORE)
    home.old = home.copy_to(new_home())
    run_r("library(dkusecrets)\n" + AFTER, home)
    return home


@pytest.fixture(scope="session")
def another(made_by_r):
    return made_by_r(BEFORE + AFTER)


CASES = {}
READS = {f"get {name}" for name in CURRENT} | {"all", "list"}
EVERYTHING = READS | {"write"}


def case(kind, fails, name=None):
    """A case: what is done to a vault, the kind of error it must end in, and which calls must end in it. The others
    must end in it too or answer rightly."""

    def add(act):
        CASES[name or act.__name__.replace("_", " ")] = (act, kind, fails)
        return act

    return add


def flip(data, at):
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def flip_file(path, at):
    path.write_bytes(flip(path.read_bytes(), at))


def swap(v, one, other):
    rows = v.rows()
    v.put((one, rows[other]), (other, rows[one]))


# Records

for where, at in {"version": 0, "suite": 1, "epoch": 5, "salt": 6, "commitment": 40, "ciphertext": 70, "tag": -1}.items():

    @case("damaged", {"get a", "all"}, f"record: {where} flipped")
    def _(v, at=at, **_):
        key = v.record_key("a", 3)
        v.put((key, flip(v.rows()[key], at)))


for what, change in {"cut": lambda r: r[:-1], "longer": lambda r: r + bytes(64), "empty": lambda r: b""}.items():

    @case("damaged", {"get a", "all"}, f"record: {what}")
    def _(v, change=change, **_):
        key = v.record_key("a", 3)
        v.put((key, change(v.rows()[key])))


@case("damaged", {"get a", "get b", "all"})
def records_swapped_between_names(v, **_):
    swap(v, v.record_key("a", 3), v.record_key("b", 2))


@case("damaged", {"get a", "all"})
def records_swapped_between_versions(v, **_):
    swap(v, v.record_key("a", 3), v.record_key("a", 1))


@case("damaged", {"get a", "all"})
def record_of_an_older_version_put_in_the_place_of_the_current_one(v, **_):
    v.put((v.record_key("a", 3), v.rows()[v.record_key("a", 2)]))


@case("damaged", {"get a", "all"})
def record_of_another_vault(v, another, **_):
    v.put((v.record_key("a", 3), another.rows()[another.record_key("a", 3)]))


@case("damaged", {"get a", "all"})
def record_deleted(v, **_):
    v.delete(v.record_key("a", 3))


@case("damaged", set())
def record_of_an_older_version_deleted(v, **_):
    v.delete(v.record_key("a", 1))


@case("damaged", set())
def record_of_a_removed_secret_deleted(v, **_):
    v.delete(v.record_key("gone", 1))


@case("damaged", {"all"} | {f"get {name}" for name in CURRENT})
def all_records_deleted(v, **_):
    v.sql("DELETE FROM row WHERE substr(key, 1, 1) = x'03'")


# The index

for where, at in {"salt": 6, "commitment": 40, "ciphertext": 70, "tag": -1}.items():

    @case("damaged", {"all", "list"}, f"page: {where} flipped")
    def _(v, at=at, **_):
        v.put((v.page_key(0), flip(v.rows()[v.page_key(0)], at)))


@case("damaged", READS)
def pages_swapped(v, **_):
    swap(v, v.page_key(0), v.page_key(1))


@case("damaged", {"all", "list"})
def page_deleted(v, **_):
    v.delete(v.page_key(1))


# A page in which nothing was changed since is still the right one.
@case("damaged", {"get a", "get b", "all", "list"})
def pages_of_the_old_state(v, old, **_):
    v.put(*((key, value) for key, value in old.rows().items() if key[0] == 6))


@case("damaged", READS)
def pages_of_another_vault(v, another, **_):
    v.put(*((v.page_key(n), another.rows()[another.page_key(n)]) for n in (0, 1)))


@case("damaged", EVERYTHING)
def manifest_deleted(v, **_):
    v.delete(v.key(4))


for where, at in {"sequence number": 7, "commitment": 48, "ciphertext": 80, "tag": -1}.items():

    @case("damaged", EVERYTHING, f"manifest: {where} flipped")
    def _(v, at=at, **_):
        v.put((v.key(4), flip(v.rows()[v.key(4)], at)))


@case("damaged", EVERYTHING)
def manifest_cut(v, **_):
    v.put((v.key(4), v.rows()[v.key(4)][:7]))


@case("damaged", EVERYTHING)
def manifests_swapped(v, **_):
    swap(v, v.key(4), v.directory_key(4))


@case("rolled_back", EVERYTHING)
def manifest_of_the_old_state(v, old, **_):
    v.put((v.key(4), old.rows()[v.key(4)]))


@case("rolled_back", EVERYTHING)
def index_of_the_old_state(v, old, **_):
    v.put(*((key, value) for key, value in old.rows().items() if key[0] in (4, 6)))


@case("rolled_back", EVERYTHING)
def all_rows_of_the_old_state(v, old, **_):
    v.sql("DELETE FROM row")
    v.put(*old.rows().items())


# Store, slots, directory

for where, at in {"store id": 4, "incarnation": 20}.items():

    @case("damaged", EVERYTHING, f"store: {where} flipped")
    def _(v, at=at, **_):
        v.put((b"\0", flip(v.rows()[b"\0"], at)))


@case("newer_format", EVERYTHING)
def store_of_a_newer_format(v, **_):
    v.put((b"\0", u32(2) + b"whatever that format has"))


@case("newer_format", EVERYTHING)
def other_tables_of_a_newer_format(v, **_):
    v.sql("DROP TABLE row")
    v.sql("PRAGMA user_version = 2")


@case("damaged", EVERYTHING)
def store_of_format_0(v, **_):
    v.put((b"\0", u32(0) + v.rows()[b"\0"][4:]))


@case("damaged", EVERYTHING)
def store_cut(v, **_):
    v.put((b"\0", v.rows()[b"\0"][:-1]))


for tag, what in {0: "store", 1: "slots"}.items():

    @case("damaged", EVERYTHING, f"{what} deleted")
    def _(v, tag=tag, **_):
        v.delete(bytes([tag]))


# Count, number, length of the parameters, kind; length of the key id and the id; length of the box and the box.
for what, at in {"number": 1, "box": 20, "tag": -1}.items():

    @case("damaged", EVERYTHING, f"slot: {what} flipped")
    def _(v, at=at, **_):
        v.put((b"\x01", flip(v.rows()[b"\x01"], at)))


@case("damaged", EVERYTHING)
def slot_cut(v, **_):
    v.put((b"\x01", v.rows()[b"\x01"][:-1]))


@case("damaged", EVERYTHING)
def slot_of_an_unknown_kind(v, **_):
    slots = bytearray(v.rows()[b"\x01"])
    assert slots[2:5] == b"\x0a\x00\x08"
    slots[3] = 2
    v.put((b"\x01", bytes(slots)))


@case("damaged", EVERYTHING)
def no_slots(v, **_):
    v.put((b"\x01", b"\0"))


@case("damaged", EVERYTHING)
def seventeen_slots(v, **_):
    slots = v.rows()[b"\x01"]
    v.put((b"\x01", b"\x11" + slots[1:] * 17))


@case("key_missing", EVERYTHING)
def slot_with_another_key_id(v, **_):
    v.put((b"\x01", flip(v.rows()[b"\x01"], 5)))


@case("key_missing", EVERYTHING)
def slot_of_another_vault(v, another, **_):
    v.put((b"\x01", another.rows()[b"\x01"]))


@case("damaged", EVERYTHING)
def slot_of_another_vault_with_its_key(v, another, **_):
    shutil.copy2(another.key_file, v.config)
    v.put((b"\x01", another.rows()[b"\x01"]))


@case("damaged", EVERYTHING)
def directory_deleted(v, **_):
    v.delete(v.directory_key(4))


@case("damaged", EVERYTHING)
def page_of_the_directory_deleted(v, **_):
    v.delete(v.directory_key(6))


@case("damaged", EVERYTHING)
def page_of_the_directory_from_the_index(v, **_):
    v.put((v.directory_key(6), v.rows()[v.page_key(0)]))


@case("damaged", EVERYTHING)
def user_key_deleted(v, **_):
    v.delete(v.key(2))


@case("damaged", EVERYTHING)
def user_key_flipped(v, **_):
    v.put((v.key(2), flip(v.rows()[v.key(2)], -1)))


@case("damaged", EVERYTHING)
def user_key_of_another_vault(v, another, **_):
    v.put((v.key(2), another.rows()[another.key(2)]))


# The database

@case("rolled_back", EVERYTHING)
def old_file(v, old, **_):
    shutil.copy2(old.database, v.database)


@case("rolled_back", EVERYTHING)
def old_file_without_the_anchor(v, old, **_):
    shutil.copy2(old.database, v.database)
    v.anchor.unlink()


@case("rolled_back", EVERYTHING)
def old_file_with_the_anchor_of_another_vault(v, old, another, **_):
    shutil.copy2(old.database, v.database)
    shutil.copy2(another.anchor, v.anchor)


@case("key_missing", EVERYTHING)
def file_of_another_vault(v, another, **_):
    shutil.copy2(another.database, v.database)


@case("rolled_back", EVERYTHING)
def file_of_another_vault_with_its_key(v, another, **_):
    shutil.copy2(another.database, v.database)
    shutil.copy2(another.key_file, v.config)


@case("vault_missing", EVERYTHING)
def file_deleted(v, **_):
    v.database.unlink()


@case("vault_missing", EVERYTHING)
def data_directory_deleted(v, **_):
    shutil.rmtree(v.data)


for what, change in {
    "empty": lambda d: b"",
    "cut in half": lambda d: d[: len(d) // 2],
    "cut to 100 bytes": lambda d: d[:100],
    "of zeroes": lambda d: bytes(len(d)),
    "of text": lambda d: b"no database\n" * 1000,
}.items():

    @case("damaged", EVERYTHING, f"file {what}")
    def _(v, change=change, **_):
        v.database.write_bytes(change(v.database.read_bytes()))


@case("damaged", EVERYTHING)
def no_table(v, **_):
    v.sql("DROP TABLE row")


@case("damaged", EVERYTHING)
def rows_of_text(v, **_):
    rows = v.rows()
    v.sql("DROP TABLE row")
    v.sql("CREATE TABLE row (key BLOB NOT NULL UNIQUE, value NOT NULL)")
    v.put(*((key, value.hex()) for key, value in rows.items()))


# Key and anchor

@case("key_missing", EVERYTHING)
def key_deleted(v, **_):
    v.key_file.unlink()


@case("key_missing", EVERYTHING)
def configuration_directory_deleted(v, **_):
    shutil.rmtree(v.config)


@case("key_missing", EVERYTHING)
def key_under_another_name(v, **_):
    v.key_file.rename(v.config / "root-0123456789abcdef.key")


@case("wrong_key", EVERYTHING)
def key_of_another_vault_under_this_name(v, another, **_):
    shutil.copy2(another.key_file, v.key_file)


@case("wrong_key", EVERYTHING)
def key_with_another_digit(v, **_):
    text = v.key_file.read_text()
    v.key_file.write_text(text[:-2] + ("0" if text[-2] != "0" else "1") + "\n")


for what, change in {
    "empty": lambda d: b"",
    "cut": lambda d: d[:-3],
    "with another title": lambda d: d.replace(b"format 1", b"format 2"),
    "in upper case": lambda d: d[:-65] + d[-65:].upper(),
}.items():

    @case("wrong_key", EVERYTHING, f"key {what}")
    def _(v, change=change, **_):
        v.key_file.write_bytes(change(v.key_file.read_bytes()))


@case("rolled_back", EVERYTHING)
def anchor_deleted(v, **_):
    v.anchor.unlink()


@case("rolled_back", EVERYTHING)
def anchor_of_another_vault(v, another, **_):
    shutil.copy2(another.anchor, v.anchor)


for what, change in {
    "empty": lambda d: b"",
    "cut to the directory's cell": lambda d: d[:256],
    "cut to the index's cell": lambda d: d[256:],
    "of zeroes": lambda d: bytes(len(d)),
    "with flipped MACs": lambda d: bytes(b ^ 1 if at % 128 == 96 else b for at, b in enumerate(d)),
    "with flipped sequence numbers": lambda d: bytes(b ^ 1 if at % 128 == 43 else b for at, b in enumerate(d)),
}.items():

    @case("rolled_back", EVERYTHING, f"anchor {what}")
    def _(v, change=change, **_):
        v.anchor.write_bytes(change(v.anchor.read_bytes()))


# Modes

for what, path, mode in [
    ("database", "data/vault.db", 0o640),
    ("database", "data/vault.db", 0o602),
    ("data directory", "data", 0o750),
    ("configuration directory", "config", 0o701),
    ("anchor", "config/anchor", 0o604),
    ("key", None, 0o640),
]:

    @case("unsafe", EVERYTHING, f"{what} with mode {mode:o}")
    def _(v, path=path, mode=mode, **_):
        (v.path / path if path else v.key_file).chmod(mode)


for what, path in {"database": "data/vault.db", "anchor": "config/anchor", "key": None}.items():

    @case("path", EVERYTHING, f"{what} is a link")
    def _(v, path=path, **_):
        file = v.path / path if path else v.key_file
        link = file.rename(file.with_name("moved"))
        file.symlink_to(link)


# What a process needs no more that has opened the vault before: it must not lead to a wrong answer, and to be found
# when everything is looked at.
REMEMBERED = {
    "page of the directory deleted",
    "page of the directory from the index",
    "user key deleted",
    "user key flipped",
    "user key of another vault",
}

# What is no damage


def record_of_no_secret(v):
    v.put((v.key(3)[:17] + bytes(24), v.rows()[v.key(3)]))


def purged_record_put_back(v):
    key = v.record_key("gone", 1)
    value = v.rows()[key]
    run_r('library(dkusecrets); dkuPurgeSecret("gone")', v)
    v.put((key, value))


def newest_copies_of_the_anchor_torn(v):
    # The anchor may lag; what it forgot is one write.
    cells = bytearray(v.anchor.read_bytes())
    newest = max(range(4), key=lambda n: cells[128 * n + 36 : 128 * n + 44])
    cells[128 * newest + 100] ^= 1
    v.anchor.write_bytes(cells)


def sixteen_slots(v):
    slots = v.rows()[b"\x01"]
    v.put((b"\x01", b"\x10" + slots[1:] * 16))


def row_of_something_destroyed(v):
    v.put((b"\x0a", u64(3)))


def anchor_with_its_cells_swapped(v):
    anchor = v.anchor.read_bytes()
    v.anchor.write_bytes(anchor[256:] + anchor[:256])


SOUND = [record_of_no_secret, purged_record_put_back, newest_copies_of_the_anchor_torn, anchor_with_its_cells_swapped]
SOUND += [sixteen_slots, row_of_something_destroyed]

# R's answers, each a line of: what was asked, and "=" with the answer in hexadecimal or the kind of error.
LOOK = r"""
library(dkusecrets)
hex <- function(x) paste(as.character(charToRaw(x)), collapse = "")
answer <- function(what, expr) {
  said <- tryCatch(
    paste0("=", hex(expr)),
    dkusecrets_error = function(e) sub("^dkusecrets_error_", "", class(e)[[1]])
  )
  cat(what, "\t", said, "\n", sep = "")
}
pairs <- function(secrets) paste(vapply(secrets, function(s) paste(s$key, s$value, sep = "="), ""), collapse = ";")
look <- function(names) {
  for (name in names) answer(paste("get", name), dkuGetSecret(name))
  answer("all", pairs(dkuGetAuthInfo(with_secrets = TRUE)$secrets))
  answer("list", paste(dkuListSecrets()$name, collapse = ";"))
  answer("verify", paste(names(dkuVaultInfo(verify = TRUE)$problems), collapse = ";"))
  answer("write", as.character(dkuSetSecret("new", "value")))
}
"""


REMEMBER = r"""
stopifnot(dkuGetSecret("a") == "a three")
cat("waiting\n")
invisible(readLines("stdin", 1))
"""


def answers(printed):
    said = dict(line.split("\t") for line in printed.splitlines())
    return {what: bytes.fromhex(s[1:]).decode() if s[0] == "=" else VaultError(s, "") for what, s in said.items()}


def r_looks(home, beforehand="", halfway=None):
    names = ", ".join(map(in_r, [*CURRENT, *ABSENT]))
    return answers(run_r(f"{LOOK}\n{beforehand}\nlook(c({names}))", home, halfway))


def r_unlocks(home, passphrase):
    unlock = f'answer("unlock", {{ dkuUnlock({in_r(passphrase)}); "" }})'
    return answers(run_r(f'{LOOK}\n{unlock}\nanswer("get a", dkuGetSecret("a"))', home))


RIGHT = {
    **{f"get {name}": value for name, value in CURRENT.items()},
    "all": ";".join(f"{name}={CURRENT[name]}" for name in sorted(CURRENT)),
    "list": ";".join(sorted(CURRENT)),
    "write": "1",
}


def kind_of(answer):
    return answer.kind if isinstance(answer, VaultError) else None


def check(found, kind, fails):
    """R never answers with a wrong value or denies what is there, and says what is wrong."""
    for what, right in RIGHT.items():
        if what in fails or found[what] != right:
            assert kind_of(found[what]) == kind, what
    for name in ABSENT:
        assert kind_of(found[f"get {name}"]) in ("not_found", kind)
    assert kind in found["verify"].split(";")


@pytest.fixture
def v(small, new_home):
    return small.copy_to(new_home())


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_found(name, small, another, v):
    act, kind, fails = CASES[name]
    act(v, old=small.old, another=another)
    with pytest.raises(VaultError) as error:
        read_vault(v.data, v.config)
    assert error.value.kind == kind
    check(r_looks(v), kind, fails)


@pytest.mark.parametrize("name", CASES)
def test_what_is_done_while_a_process_runs_is_found(name, small, another, v):
    """As above, in a process that has opened the vault before and remembers its keys."""
    act, kind, fails = CASES[name]
    found = r_looks(v, REMEMBER, lambda: act(v, old=small.old, another=another))
    check(found, kind, set() if name in REMEMBERED else fails)


@pytest.mark.parametrize("act", SOUND, ids=lambda act: act.__name__.replace("_", " "))
def test_what_is_no_damage(act, v):
    act(v)
    secrets = read_vault(v.data, v.config)["secrets"]
    assert {n: s["versions"][-1]["value"] for n, s in secrets.items() if not s["removed"]} == CURRENT
    found = r_looks(v)
    assert found["verify"] == ""
    assert {what: found[what] for what in RIGHT} == RIGHT


def test_r_answers_rightly_where_nothing_is_wrong(v):
    found = r_looks(v)
    assert found["verify"] == ""
    assert {what: found[what] for what in RIGHT} == RIGHT
    assert [kind_of(found[f"get {name}"]) for name in ABSENT] == ["not_found"] * 2


# What is done to the slot of a passphrase, which must fail before or after the passphrase was tried


def varint(n):
    return bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80]) + varint(n >> 7)


def with_cost(**changed):
    def change(salt, box):
        cost = {"memory": 65_536, "passes": 3, "lanes": 4} | changed
        return b"\x01\x10" + salt + b"".join(map(varint, cost.values())), box

    return change


def with_parts(salt=lambda salt: salt, box=lambda box: box):
    return lambda old_salt, old_box: (with_cost()(salt(old_salt), b"")[0], box(old_box))


SLOTS = {
    "another salt": (with_parts(salt=lambda salt: flip(salt, 0)), "wrong_passphrase"),
    "another cost": (with_cost(passes=4), "wrong_passphrase"),
    "another commitment": (with_parts(box=lambda box: flip(box, 40)), "wrong_passphrase"),
    "another tag": (with_parts(box=lambda box: flip(box, -1)), "damaged"),
    "another suite": (with_parts(box=lambda box: flip(box, 1)), "damaged"),
    "too much memory": (with_cost(memory=2_097_153), "damaged"),
    "too many passes": (with_cost(passes=17), "damaged"),
    "too many lanes": (with_cost(lanes=17), "damaged"),
    "too little memory": (with_cost(memory=31), "damaged"),
    "no passes": (with_cost(passes=0), "damaged"),
    "no lanes": (with_cost(lanes=0), "damaged"),
}


@pytest.mark.parametrize("name", SLOTS)
def test_the_slot_of_a_passphrase(name, with_passphrase, new_home):
    change, kind = SLOTS[name]
    v = with_passphrase.copy_to(new_home())
    fields = Fields(v.rows()[b"\x01"])
    ((number, parameters, box),) = fields.sequence(lambda: (fields.unsigned(), fields.bytes(), fields.bytes()))
    assert with_cost()(parameters[2:18], box) == (parameters, box)
    parameters, box = change(parameters[2:18], box)
    row = b"\x01" + varint(number) + b"".join(varint(len(part)) + part for part in (parameters, box))
    v.put((b"\x01", row))
    with pytest.raises(VaultError) as error:
        read_vault(v.data, v.config, PASSPHRASE)
    assert error.value.kind == kind
    assert {what: kind_of(said) for what, said in r_unlocks(v, PASSPHRASE).items()} == {"unlock": kind, "get a": "locked"}


@pytest.mark.parametrize(("passphrase", "kind"), [(None, "locked"), ("another one", "wrong_passphrase")])
def test_without_the_passphrase(passphrase, kind, with_passphrase):
    with pytest.raises(VaultError) as error:
        read_vault(with_passphrase.data, with_passphrase.config, passphrase)
    assert error.value.kind == kind
    if passphrase is not None:
        assert kind_of(r_unlocks(with_passphrase, passphrase)["unlock"]) == kind
    printed = run_r(f'{LOOK}\nanswer("get a", dkuGetSecret("a"))', with_passphrase)
    assert kind_of(answers(printed)["get a"]) == "locked"
