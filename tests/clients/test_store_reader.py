"""The Python reader opens stores that the real program made, and finds every value and every event; what was done to a
store, it finds and the program finds."""
import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

import vault_reader
from servers import Server, wait_for
from test_server import basic, put, secrets_of
from test_vault_reader import flip
from test_vectors import copy_private
from vault_reader import VaultError, read_store, read_vault, u64
from wire import hang_up, log_text


def read(store):
    return read_store(store / "data", store / "config")


def post(server, key, route, **body):
    status, _, answer = server.ask("POST", f"/dkusecrets/v1/secrets/{route}", basic(key), body)
    assert status == 200, answer


def by_login(found, login):
    """The id and the secrets of a person."""
    person = bytes(json.loads(found["documents"][f"person:{login}"])["id"]).hex()
    return person, found["people"][person]["secrets"]


def events_of(server):
    """All events, oldest first, as the program tells them."""
    return json.loads(server.command("--json", "audit", "list", "--most", "100000"))[::-1]


def shown(event):
    """An event as the program tells it, which is not whom it is about."""
    told = {field: event[field] for field in event if field not in ("number", "about")}
    return {"seq": event["number"], **told, "claims": dict(event["claims"])}


ONE_MIB = "0123456789abcde\n" * 65536
VALUES = {
    "empty": "",
    "multi-line": "first\n\n\tsecond\r\nthird\n",
    "emoji \U0001f511": "\u05e9\u05dc\u05d5\u05dd \u202e",
    "1 MiB": ONE_MIB,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store that was served, as it was halfway and is now; its people's ids and what the program says happened."""
    server = Server(tmp_path_factory.mktemp("made"), "--allow-impersonation").start()
    try:
        for login in ("bob", "carol", "dave"):
            server.user(login)
        keys = {login: server.key(login) for login in ("alice", "bob", "carol", "dave")}
        for login in ("bob", "carol"):
            for name, value in VALUES.items():
                put(server, keys[login], name, value)
            put(server, keys[login], "whose", login)
        bob = keys["bob"]
        for i in range(1, 13):
            put(server, bob, "many versions", f"version {i}")
        for name in ("removed", "restored", "put back", "purged"):
            put(server, bob, name, "one")
            put(server, bob, name, "two")
        server.stop()
        halfway = server.directory / "halfway"
        shutil.copytree(server.data, halfway)

        server.start()
        for name in ("removed", "restored", "purged"):
            post(server, bob, "remove", name=name)
        post(server, bob, "restore", name="restored")
        post(server, bob, "restore", name="put back", version=1)
        post(server, bob, "purge", name="purged")
        post(server, bob, "rename", name="whose", new_name="renamed")
        post(server, bob, "describe", name="renamed", description="for \U0001f327\n\ttwo lines", expires="2031-12-31")
        put(server, keys["dave"], "gone", "with its owner")
        server.command("user", "remove", "dave")
        assert server.ask("GET", "/dkusecrets/v1/secrets", basic("nonsense"))[0] == 401
        assert secrets_of(server, keys["carol"])["whose"] == "carol"
        told = events_of(server)
        assert server.stop() == 0
        yield server, server.data, halfway, told
    finally:
        server.stop()


def test_every_value_and_every_event(made):
    server, data, _, told = made
    found = read(data)
    assert {name for name in found["documents"] if name.startswith("person:")} == {
        f"person:{login}" for login in ("alice", "bob", "carol")
    }
    bob, secrets = by_login(found, "bob")
    expected = {name: {1: value} for name, value in VALUES.items()}
    expected["renamed"] = {1: "bob"}
    expected["many versions"] = {n: f"version {n}" for n in range(3, 13)}
    expected["removed"] = expected["restored"] = {1: "one", 2: "two"}
    expected["put back"] = {1: "one", 2: "two", 3: "one"}
    assert {n: {v["version"]: v["value"] for v in s["versions"]} for n, s in secrets.items()} == expected
    assert [name for name, secret in secrets.items() if secret["removed"]] == ["removed"]
    renamed = secrets["renamed"]
    assert (renamed["description"], renamed["versions"][-1]["expires"]) == ("for \U0001f327\n\ttwo lines", 22644)
    carol, secrets = by_login(found, "carol")
    assert {n: [v["value"] for v in s["versions"]] for n, s in secrets.items()} == {
        name: [value] for name, value in {**VALUES, "whose": "carol"}.items()
    }
    alice, secrets = by_login(found, "alice")
    assert secrets == {} and set(found["people"]) == {alice, bob, carol}

    events = found["log"]["events"]
    assert (found["log"]["floor"], found["log"]["last"]) == (0, len(told))
    assert [shown(event) for event in events] == told
    about = {(event["action"], *event["names"]): event["about"] for event in events}
    assert about["user added", "bob"] == [bob] and about["renamed", "whose", "renamed"] == [bob]
    # Who is gone is in the log.
    (gone,) = about["user removed", "dave"]
    assert about["user added", "dave"] == [gone] and gone not in found["people"]
    assert any(event["outcome"] != "ok" and event["about"] == [] for event in events)


def test_a_store_that_is_served_or_was_killed(store):
    server = store.start()
    try:
        key = server.key("alice")
        with pytest.raises(VaultError) as error:
            read(server.data)
        assert error.value.kind == "in_use"
    finally:
        server.stop(signal.SIGKILL)
    # What it has written last is in the write-ahead log, which a reader leaves as it is.
    wal = server.data / "data/store.db-wal"
    before = {path: path.read_bytes() for path in server.data.rglob("*") if path.is_file()}
    assert wal.stat().st_size > 0 and key
    found = read(server.data)
    assert {path: path.read_bytes() for path in server.data.rglob("*") if path.is_file()} == before
    assert [shown(event) for event in found["log"]["events"]] == events_of(server)
    assert found["log"]["events"][-1]["action"] == "key made"


def test_events_are_let_go_as_the_settings_say(store):
    """On the checked-in store, whose events are old. A day is counted from the last of them to now, and one more at the
    restore that was accepted in between, when the clock was ahead."""
    shutil.rmtree(store.data)
    store.data.mkdir(mode=0o700)
    before = copy_private("store", store.data)["log"]
    settings = store.data / "config/settings.toml"

    def log():
        store.stop()
        found = read(store.data)["log"]
        numbers = [event["number"] for event in found["events"]]
        assert numbers == list(range(found["floor"] + 1, found["last"] + 1))
        return found

    # Not unless it is set, and not before they are old enough.
    store.start()
    settings.write_text("audit-retention-days = 3\n")
    hang_up(store, "settings read again")
    assert json.loads(store.command("--json", "audit", "verify"))["events"] == len(before["events"])
    assert log()["events"] == before["events"]

    # At once when the settings are read again; the log tells of it.
    store.start()
    settings.write_text("audit-retention-days = 1\n")
    hang_up(store, "events let go: they are older than audit-retention-days")
    assert json.loads(store.command("--json", "audit", "verify"))["events"] == 1
    found = log()
    assert found["floor"] == before["last"]
    (told,) = found["events"]
    assert (told["who"], told["action"]) == ("the server", "events let go")
    assert told["names"] == ["older than 1 days", f"events {before['floor'] + 1} to {before['last']}"]

    # And when a server begins with it. Of those who are gone there is nothing left.
    shutil.rmtree(store.data)
    store.data.mkdir(mode=0o700)
    copy_private("store", store.data)
    settings.write_text("audit-retention-days = 1\n")
    (store.directory / "log").unlink()
    store.start()
    wait_for(lambda: "events let go" in log_text(store))
    assert log()["floor"] == before["last"]


def test_a_store_in_a_vaults_place(made, tmp_path):
    _, data, _, _ = made
    store = tmp_path / "store"
    shutil.copytree(data, store)
    (store / "data/store.db").rename(store / "data/vault.db")
    with pytest.raises(VaultError) as error:
        read_vault(store / "data", store / "config")
    assert error.value.kind == "server_store"


def test_command_line(made):
    _, data, _, _ = made
    command = [sys.executable, vault_reader.__file__, data / "data", data / "config"]
    printed = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", check=True).stdout
    assert json.loads(printed) == read(data)


# What is done to a store


class Copy:
    """A store as it was made, its rows as anyone can write them, and as it was halfway."""

    def __init__(self, home, data, halfway, server):
        self.path, self.halfway, self.server = home / "store", halfway, server
        shutil.copytree(data, self.path)
        self.last = max(int.from_bytes(key[1:], "big") for key in self.rows(b"\x07"))

    def sql(self, statement, *arguments, of=None):
        with contextlib.closing(sqlite3.connect((of or self.path) / "data/store.db")) as connection, connection:
            return connection.execute(statement, arguments).fetchall()

    def rows(self, tag, of=None):
        return dict(self.sql("SELECT key, value FROM row WHERE substr(key, 1, ?) = ?", len(tag), tag, of=of))

    def row(self, key):
        (value,) = self.rows(key).values()
        return value

    def put(self, key, value):
        self.sql("REPLACE INTO row (key, value) VALUES (?, ?)", key, value)

    def delete(self, key):
        assert self.rows(key)
        self.sql("DELETE FROM row WHERE key = ?", key)

    def take_from_another_line(self, number):
        """Has an event as it is where the store went on in another way from halfway: a genuine one of that number."""
        other = self.path.with_name("other")
        shutil.copytree(self.halfway, other)
        key, login = b"\x07" + u64(number), 0
        while key not in (found := self.rows(key, of=other)):
            self.server.tell("--data", other, "group", "add", f"group {login}")
            login += 1
        self.drop_event(number)
        self.put(key, found[key])
        assert not [key for key in self.rows(b"\x09", of=other) if key[17:] == u64(number)]

    def drop_event(self, number):
        self.delete(b"\x07" + u64(number))
        self.sql("DELETE FROM row WHERE substr(key, 1, 1) = x'09' AND substr(key, 18) = ?", u64(number))


CASES = {}


def case(kind, name=None):
    return lambda act: CASES.setdefault(name or act.__name__.replace("_", " "), (act, kind)) and act


for which, number in {"first": lambda last: 1, "middle": lambda last: last // 2, "last": lambda last: last}.items():

    @case("damaged", f"{which} event dropped")
    def _(v, number=number):
        v.drop_event(number(v.last))

    @case("damaged", f"{which} event changed")
    def _(v, number=number):
        key = b"\x07" + u64(number(v.last))
        v.put(key, flip(v.row(key), -1))

    @case("damaged", f"{which} event replaced by the one before")
    def _(v, number=number):
        n = number(v.last)
        v.put(b"\x07" + u64(n), v.row(b"\x07" + u64(n - 1 or n + 1)))


@case("damaged")
def an_event_of_another_line(v):
    first = max(int.from_bytes(key[1:], "big") for key in v.rows(b"\x07", of=v.halfway)) + 1
    assert first < v.last
    v.take_from_another_line(first)


@case("damaged")
def the_last_event_of_another_line(v):
    v.take_from_another_line(v.last)
    # Nor if all between are of that line.
    other = v.path.with_name("other")
    for key, value in v.rows(b"\x07", of=other).items():
        v.drop_event(int.from_bytes(key[1:], "big"))
        v.put(key, value)
    for key, value in v.rows(b"\x09", of=other).items():
        v.put(key, value)


@case("damaged")
def two_events_swapped(v):
    one, other = b"\x07" + u64(3), b"\x07" + u64(4)
    first, second = v.row(one), v.row(other)
    v.put(one, second)
    v.put(other, first)


@case("damaged")
def an_event_hidden_from_whom_it_is_about(v):
    v.delete(max(v.rows(b"\x09")))


@case("damaged")
def an_event_after_the_last(v):
    v.put(b"\x07" + u64(v.last + 1), v.row(b"\x07" + u64(v.last)))


@case("damaged")
def an_event_shown_to_somebody_else(v):
    alice = min(key[1:17] for key in v.rows(b"\x09") if key[17:] == u64(1))
    other = next(key for key in v.rows(b"\x09") if key[1:17] != alice)
    v.put(b"\x09" + alice + other[17:], b"")


@case("damaged")
def the_head_changed(v):
    v.put(b"\x08", flip(v.row(b"\x08"), -1))


@case("damaged")
def the_head_with_another_number(v):
    v.put(b"\x08", flip(v.row(b"\x08"), 7))


@case("rolled_back")
def the_head_dropped_and_all_events(v):
    v.sql("DELETE FROM row WHERE substr(key, 1, 1) IN (x'07', x'08', x'09')")


@case("rolled_back")
def the_log_as_it_was_halfway(v):
    old = {key: value for tag in (b"\x07", b"\x08", b"\x09") for key, value in v.rows(tag, of=v.halfway).items()}
    v.sql("DELETE FROM row WHERE substr(key, 1, 1) IN (x'07', x'08', x'09')")
    for key, value in old.items():
        v.put(key, value)


@case("rolled_back")
def the_directory_as_it_was_halfway(v):
    store = v.row(b"\0")[4:20]
    for key, value in {**v.rows(b"\x04" + store, of=v.halfway), **v.rows(b"\x06" + store, of=v.halfway)}.items():
        v.put(key, value)


@case("rolled_back")
def the_database_as_it_was_halfway(v):
    shutil.copyfile(v.halfway / "data/store.db", v.path / "data/store.db")


@case("rolled_back")
def the_anchor_gone(v):
    (v.path / "config/anchor").unlink()


@case("rolled_back")
def the_cell_of_the_log_gone(v):
    anchor = v.path / "config/anchor"
    owner = bytes(byte ^ 0xFF for byte in v.row(b"\0")[4:20])
    cells = anchor.read_bytes()
    assert owner in cells
    anchor.write_bytes(cells.replace(owner, bytes(16)))


@case("damaged")
def a_page_of_the_directory_changed(v):
    store = v.row(b"\0")[4:20]
    key = min(v.rows(b"\x06" + store))
    v.put(key, flip(v.row(key), -1))


@case("key_missing")
def the_key_gone(v):
    next((v.path / "config").glob("root-*.key")).unlink()


@pytest.mark.parametrize("name", CASES)
def test_what_was_done_to_a_store(name, made, tmp_path):
    server, data, halfway, _ = made
    act, kind = CASES[name]
    v = Copy(tmp_path, data, halfway, server)
    act(v)
    with pytest.raises(VaultError) as error:
        read(v.path)
    assert error.value.kind == kind
    said = server.tell("--data", v.path, "audit", "verify", status=1)
    words = {"damaged": "damaged", "rolled_back": "not the copy last used here", "key_missing": "is missing"}
    assert words[kind] in said, said


def test_nothing_done_to_a_store(made, tmp_path):
    server, data, halfway, told = made
    v = Copy(tmp_path, data, halfway, server)
    assert read(v.path) == read(data)
    verified = json.loads(server.tell("--json", "--data", v.path, "audit", "verify"))
    assert verified == {"events": len(told), "verified": True}


# What only a reader of everything sees at once


@pytest.mark.parametrize("tag", [2, 3, 4, 6], ids=["key", "records", "manifest", "pages"])
def test_one_person_changed_or_put_back(tag, made, tmp_path):
    server, data, halfway, _ = made
    person = bytes.fromhex(by_login(read(data), "bob")[0])
    v = Copy(tmp_path, data, halfway, server)
    for key, value in v.rows(bytes([tag]) + person).items():
        v.put(key, flip(value, -1))
    with pytest.raises(VaultError) as error:
        read(v.path)
    assert error.value.kind == "damaged"


def test_one_person_as_it_was_halfway(made, tmp_path):
    server, data, halfway, _ = made
    person = bytes.fromhex(by_login(read(data), "bob")[0])
    v = Copy(tmp_path, data, halfway, server)
    for tag in (3, 4, 6):
        for key, value in v.rows(bytes([tag]) + person, of=halfway).items():
            v.put(key, value)
    with pytest.raises(VaultError) as error:
        read(v.path)
    assert error.value.kind == "rolled_back"
