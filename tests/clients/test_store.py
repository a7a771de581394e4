"""The store under the server: restores, what is destroyed, people who come and go, and programs beside R on one's own vault."""
import concurrent.futures
import json
import os
import shutil
import subprocess
import time

import pytest

from servers import Server, program, wait_for
from test_processes import finish, home, start  # noqa: F401 (a fixture)
from test_server import BOTH, basic, put, secrets_of


def wait_until_tidy(server):
    """Until the file was written anew: the mark that it is still to be done is gone."""
    wait_for(lambda: not rows_of(server, "0a"))


def rows_of(server, tag):
    """Rows under a tag, as another process sees them."""
    code = f"""import sqlite3, sys
db = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
for key, value in db.execute("SELECT hex(key), hex(value) FROM row WHERE substr(key, 1, 1) = x'{tag}'"): print(key, value)
"""
    done = subprocess.run(["python3", "-c", code, server.data / "data/store.db"], capture_output=True, text=True, check=True)
    return dict(line.split(" ") for line in done.stdout.splitlines())


def test_a_restore_is_refused_until_its_owner_accepts_it(server, tmp_path):
    key = server.key("alice")
    put(server, key, "a", "old")
    server.stop()
    shutil.copytree(server.data, tmp_path / "backup")
    server.start()
    put(server, key, "a", "new")
    put(server, key, "b", "lost")
    refused = server.command("accept-restore", status=3)
    assert "must be stopped" in refused
    server.stop()
    assert json.loads(server.command("--json", "accept-restore")) == {"accepted": False}

    shutil.copyfile(tmp_path / "backup/data/store.db", server.data / "data/store.db")
    refused = server.tell("serve", "--data", server.data, "--listen", "127.0.0.1:0", status=1)
    assert "not the copy last used here" in refused
    accepted = json.loads(server.command("--json", "accept-restore"))
    assert accepted["accepted"] and accepted["people_with_older_secrets"] == 1
    assert accepted["last_event_seen"] > accepted["last_event"]
    server.start()
    assert secrets_of(server, key) == {"a": "old"}
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]
    own = server.ask("GET", "/dkusecrets/v1/audit", basic(key))[2]["events"]
    told = next(event for event in own if event["action"] == "restore accepted")
    assert told["who"] == "the owner of the store" and told["from"] == f"uid {os.getuid()}"
    assert f"event {accepted['last_event']} was the last" in told["names"][0]
    put(server, key, "a", "newest")
    server.stop()

    # The anchor of the line before does not open this one.
    now = (server.data / "config/anchor").read_bytes()
    shutil.copyfile(tmp_path / "backup/config/anchor", server.data / "config/anchor")
    assert "another restore" in server.tell("serve", "--data", server.data, "--listen", "127.0.0.1:0", status=1)
    (server.data / "config/anchor").write_bytes(now)
    server.start()
    assert secrets_of(server, key) == {"a": "newest"}


def test_what_is_purged_is_in_no_file_of_the_store(server):
    key = server.key("alice")
    for i in range(20):
        put(server, key, f"name {i}", "x" * (i * 150))
    before = rows_of(server, "03")
    for i in range(0, 20, 2):
        for route in ("remove", "purge"):
            status, _, answer = server.ask("POST", f"/dkusecrets/v1/secrets/{route}", basic(key), {"name": f"name {i}"})
            assert status == 200, answer
    left = rows_of(server, "03")
    gone = {bytes.fromhex(value)[70:] for row, value in before.items() if row not in left}
    assert len(gone) == 10 and len(left) == 10
    wait_until_tidy(server)
    files = [path for path in server.data.rglob("*") if path.is_file()]
    everything = [path.read_bytes() for path in files]
    assert {path.name for path in files} >= {"store.db", "anchor"}
    for box in gone:
        for at in range(0, len(box) - 16, 16):
            assert not any(box[at : at + 16] in content for content in everything)
    for value in left.values():
        assert any(bytes.fromhex(value)[70:86] in content for content in everything)
    assert len(secrets_of(server, key)) == 10


def test_a_large_store_is_written_anew_when_nobody_asks_for_anything(server):
    """Each read is in the log first, so it would wait for as long as that takes."""
    server.user("bob")
    alice, bob = server.key("alice"), server.key("bob")
    for i in range(20):
        put(server, alice, f"name {i}", "x" * 1024 * 1024)
    put(server, bob, "mine", "v")
    for route in ("remove", "purge"):
        assert server.ask("POST", f"/dkusecrets/v1/secrets/{route}", basic(alice), {"name": "name 7"})[0] == 200
    # For longer than it waits, somebody reads.
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert server.ask("POST", "/dkusecrets/v1/secrets/get", basic(bob), {"name": "mine"})[0] == 200
        time.sleep(0.3)
    assert rows_of(server, "0a")
    wait_for(lambda: not rows_of(server, "0a"), seconds=30)
    # A command has the store alone, and does it at once.
    assert server.ask("POST", "/dkusecrets/v1/secrets/remove", basic(alice), {"name": "name 8"})[0] == 200
    assert server.ask("POST", "/dkusecrets/v1/secrets/purge", basic(alice), {"name": "name 8"})[0] == 200
    server.stop()
    assert rows_of(server, "0a")
    server.command("user", "list")
    assert not rows_of(server, "0a")


def test_whoever_else_holds_the_database_s_lock_keeps_nobody_waiting_for_long(server):
    key = server.key("alice")
    put(server, key, "mine", "v")
    hold = """import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(["python3", "-c", hold, server.data / "data/store.db"], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"

        def timed(path, body):
            began = time.monotonic()
            status, headers, answer = server.ask("POST", f"/dkusecrets/v1/secrets/{path}", basic(key), body)
            assert "Retry-After" in headers or "retry-after" in headers
            return status, answer["kind"], answer["message"], time.monotonic() - began

        # Those who wait for each other and for the lock wait together, not one after the other.
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            told = [pool.submit(timed, "get", {"name": "mine"}) for _ in range(8)]
            told += [pool.submit(timed, "set", {"name": f"n{i}", "value": "v"}) for i in range(8)]
            for one in told:
                status, kind, message, took = one.result()
                assert status == 503 and kind in ("unavailable", "busy") and took < 20, (status, kind, took)
                assert "another process is writing to it" in message
        holder.stdin.close()
        holder.wait(timeout=10)
    assert secrets_of(server, key) == {"mine": "v"}
    put(server, key, "mine", "w")
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]


def test_a_login_is_linked_to_its_own_account_only(server):
    if os.getuid() != 0:
        pytest.skip("only root can make accounts")
    account, other = f"dkulinka{os.getpid()}", f"dkulinkb{os.getpid()}"
    server.user(account)
    for name in (account, other):
        subprocess.run(["useradd", "--no-create-home", name], check=True)
    uids = {}
    try:
        for name in (account, other):
            found = subprocess.run(["id", "-u", name], capture_output=True, text=True, check=True).stdout
            uids[name] = int(found)
        for uid, why in [(uids[other], other), (1, "service"), (65534, "nobody is known"), (54_321, "no account")]:
            assert why in server.command("user", "link", account, "--uid", uid, status=1), uid
        listed = json.loads(server.command("--json", "user", "list"))
        assert next(person for person in listed if person["login"] == account)["uid"] is None
        server.command("user", "link", account, "--uid", uids[account])
        info = server.ask_socket("GET", f"{BOTH[0]}/auth/info", uid=uids[account])
        assert info[0] == 200 and info[1]["authIdentifier"] == account
    finally:
        for name in (account, other):
            subprocess.run(["userdel", name], check=True)


def test_who_is_removed_while_reading_is_told_so(server):
    """Never an error of the server's: the answer is as before the removal, or as after it."""
    statuses = set()
    for round in range(15):
        server.user("bob")
        key = server.key("bob")
        for i in range(5):
            put(server, key, f"n{i}", "v")

        def read(i):
            if i % 3 == 2:
                body = {"name": f"w{i}", "value": "v"}
                return server.ask("POST", "/dkusecrets/v1/secrets/set", basic(key), body)[0]
            path = "/dkusecrets/v1/secrets" if i % 3 else f"{BOTH[0]}/auth/info?withSecrets=True"
            return server.ask("GET", path, basic(key))[0]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            readings = [pool.submit(read, i) for i in range(60)]
            time.sleep(0.01 * (round % 4))
            server.command("user", "remove", "bob")
            statuses |= {reading.result() for reading in readings}
        assert server.ask("GET", f"{BOTH[0]}/auth/info", basic(key))[0] == 401
    assert {200, 401} == statuses


def test_one_person_cannot_fill_the_store(server):
    key = server.key("alice")
    path = "/dkusecrets/v1/secrets/set"
    # A hundred MiB, with versions and what was removed.
    value = "x" * 1_048_576
    kept = 0
    while True:
        status, _, answer = server.ask("POST", path, basic(key), {"name": f"n{kept // 8}", "value": value})
        if status != 200:
            break
        kept += 1
    assert (status, answer["kind"]) == (400, "too_many") and "100 MiB" in answer["message"] and kept == 99
    size = sum(path.stat().st_size for path in (server.data / "data").iterdir())
    assert size < 220 * 2**20
    # Nobody else is held up by that, and it ends with a purge.
    server.user("bob")
    put(server, server.key("bob"), "a", "b")
    assert put(server, key, "small", "v")
    for route in ("remove", "purge"):
        assert server.ask("POST", f"/dkusecrets/v1/secrets/{route}", basic(key), {"name": "n0"})[0] == 200
    assert put(server, key, "n0", value) == 1


def test_a_store_that_is_moved_while_it_is_served_takes_no_more(server, tmp_path):
    key = server.key("alice")
    put(server, key, "a", "1")
    moved = tmp_path / "elsewhere"
    server.data.rename(moved)
    body = {"name": "a", "value": "2"}
    for _ in range(2):
        status, _, answer = server.ask("POST", "/dkusecrets/v1/secrets/set", basic(key), body)
        assert status == 503 and "moved" in answer["message"]
        # What cannot be written to the log is not answered.
        status, _, answer = server.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=True", basic(key))
        assert status == 503 and "moved" in answer["message"]
        # Another one in its place changes nothing.
        shutil.copytree(moved, server.data, ignore=shutil.ignore_patterns("*-wal", "*-shm"), dirs_exist_ok=True)
    shutil.rmtree(server.data)
    moved.rename(server.data)
    assert put(server, key, "a", "2") == 2
    assert secrets_of(server, key) == {"a": "2"}


def test_the_program_and_r_write_to_one_vault_at_once(home):
    """One's own vault, from a shell and from R: nothing is lost, and the database keeps its rollback journal."""
    writes = 60
    env = {**os.environ, "DKUSECRETS_HOME": str(home)}
    tool = program()

    def tell(*arguments, value=None):
        done = subprocess.run([tool, *arguments], input=value, capture_output=True, text=True, env=env, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = """
    for (i in seq_len({writes})) {{
      version <- dkuSetSecret("r-{me}", paste("{me}", i))
      if (version != i) stop("write ", i, " became version ", version)
      if (i %% 10 == 0) dkuSetSecret(sprintf("r-kept-{me}-%d", i), "kept")
    }}
    """

    def write(me):
        for i in range(1, writes + 1):
            tell("set", f"p-{me}", value=f"{me} {i}")
            assert tell("get", f"p-{me}") == f"{me} {i}"
            if i % 10 == 0:
                tell("set", f"p-kept-{me}-{i}", value="kept")
                tell("set", "gone", value="x") if me == 0 else None
        if me == 0:
            tell("remove", "gone")

    writers = [start(home, code.format(me=me, writes=writes)) for me in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, me) for me in range(4)]:
            done.result()
    for writer in writers:
        finish(writer)
    listed = {secret["name"]: secret["version"] for secret in json.loads(tell("--json", "list"))}
    expected = {f"{who}-{me}": writes for who in "rp" for me in range(4)}
    expected |= {f"{who}-kept-{me}-{i}": 1 for who in "rp" for me in range(4) for i in range(10, writes + 1, 10)}
    assert listed == expected
    assert all(tell("get", f"r-{me}") == f"{me} {writes}" for me in range(4))
    status = json.loads(tell("--json", "status"))
    assert status["secrets"] == len(expected) and status["problems"] == []
    assert [path.name for path in (home / "data").iterdir()] == ["vault.db"]
    # Bytes 18 and 19 of a SQLite file: 1 for a rollback journal, 2 for a write-ahead log.
    assert (home / "data/vault.db").read_bytes()[18:20] == b"\x01\x01"
    assert finish(start(home, 'cat(nrow(dkuListSecrets()))')) == str(len(expected))

    # It is one person's: there is nothing to serve.
    before = (home / "data/vault.db").read_bytes()
    for command in (["serve", "--listen", "127.0.0.1:0"], ["status"], ["user", "list"], ["accept-restore"]):
        done = subprocess.run([tool, "--data", home, *command], capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 1 and "is a vault of one person" in done.stderr, done.stderr
    done = subprocess.run([tool, "init", "--data", home, "--admin", "a"], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1 and "is a vault of one person" in done.stderr
    assert (home / "data/vault.db").read_bytes() == before
    assert sorted(path.name for path in (home / "data").iterdir()) == ["vault.db"]
