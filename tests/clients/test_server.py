"""The server, by its command line, over HTTP and over its socket."""
import base64
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import threading

import pytest

from servers import Server, dss_client, program

BOTH = ["/dip/publicapi", "/public/api"]


def basic(key):
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


def secrets_of(server, key, prefix=BOTH[0]):
    status, _, info = server.ask("GET", f"{prefix}/auth/info?withSecrets=True", basic(key))
    assert status == 200, info
    return {secret["key"]: secret["value"] for secret in info["secrets"]}


def put(server, key, name, value):
    status, _, answer = server.ask("POST", "/dkusecrets/v1/secrets/set", basic(key), {"name": name, "value": value})
    assert status == 200, answer
    return answer["version"]


@pytest.mark.parametrize("prefix", BOTH)
def test_both_prefixes_and_every_way_to_show_a_key(server, prefix):
    key = server.key("alice")
    put(server, key, "name", "välue\n2")
    half = lambda text: {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}
    ticket = server.ask("POST", f"{prefix}/auth/ticket", basic(key))[2]["ticket"]
    ways = [half(f"{key}:"), half(f":{key}"), {"Authorization": f"Bearer {key}"}, {"X-DKU-APITicket": ticket}]
    for headers in ways:
        for flag in ["True", "true", "TRUE"]:
            status, answered, info = server.ask("GET", f"{prefix}/auth/info?withSecrets={flag}", headers)
            assert (status, info["secrets"]) == (200, [{"key": "name", "value": "välue\n2"}])
            assert info["authIdentifier"] == info["associatedDSSUser"] == "alice"
            assert {"dss-version", "dss-api-version", "dkusecrets-version"} <= {name.lower() for name in answered}
        assert "secrets" not in server.ask("GET", f"{prefix}/auth/info", headers)[2]
    assert server.ask("GET", f"/{prefix}/auth/info/", basic(key))[0] == 200


def test_a_wrong_credential_is_refused_and_never_followed_by_another(server):
    key = server.key("alice")
    for headers in [basic("dkuaps-" + "x" * 32), {"Authorization": "nonsense"}, {"X-DKU-APITicket": "x"}]:
        for path in [f"{BOTH[0]}/auth/info", "/dkusecrets/v1/secrets", "/dkusecrets/v1/info"]:
            status, _, problem = server.ask("GET", path, headers)
            assert status == 401 and problem["errorType"].endswith("NotAuthenticatedException")
    status, _, problem = server.ask("GET", f"{BOTH[0]}/auth/info", {**basic(key), "X-DKU-APITicket": "x"})
    assert status == 401
    assert server.ask("GET", f"{BOTH[0]}/auth/info")[0] == 401
    # Over the socket the kernel knows who asks, and a wrong key is refused all the same.
    refused = subprocess.run(
        ["curl", "--silent", "--unix-socket", server.socket, "-u", "wrong:", "http://localhost/dip/publicapi/auth/info"],
        capture_output=True, text=True, check=True,
    )
    assert json.loads(refused.stdout)["message"] == "Unknown API Key"


def test_a_key_that_is_over_or_revoked_opens_nothing(server):
    key = server.key("alice")
    made = server.ask("POST", f"{BOTH[0]}/personal-api-keys/", basic(key), {"label": "l", "expiresOn": 1})
    assert made[0] == 400
    status, _, made = server.ask("POST", f"{BOTH[0]}/personal-api-keys", basic(key), {"label": "l"})
    assert status == 200 and secrets_of(server, made["key"]) == {}
    assert server.ask("DELETE", f"{BOTH[0]}/personal-api-keys/{made['id']}", basic(key))[0] == 200
    assert server.ask("GET", f"{BOTH[0]}/auth/info", basic(made["key"]))[0] == 401
    kept = json.loads(server.command("--json", "key", "list", "--user", "alice"))
    server.command("key", "revoke", kept[0]["id"])
    assert server.ask("GET", f"{BOTH[0]}/auth/info", basic(key))[0] == 401


def test_lists_of_keys_say_when_each_was_last_used(server):
    """Also after the server was stopped; a read does not write it."""
    server.user("bob")
    used, unused = server.key("bob", "used"), server.key("bob", "unused")
    told = lambda: {k["label"]: k["lastUsedOn"] for k in json.loads(server.command("--json", "key", "list", "--user", "bob"))}
    assert told() == {"used": None, "unused": None}
    began = time.time() * 1000
    assert secrets_of(server, used) == {}
    first = told()
    assert began - 1 <= first["used"] <= time.time() * 1000 and first["unused"] is None
    # A wrong one, and a ticket, are no use of a key.
    ticket = server.ask("POST", f"{BOTH[0]}/auth/ticket", basic(used))[2]["ticket"]
    last = told()["used"]
    assert server.ask("GET", f"{BOTH[0]}/auth/info", {"X-DKU-APITicket": ticket})[0] == 200
    assert told()["used"] == last
    own = {k["label"]: k["lastUsedOn"] for k in server.ask("GET", f"{BOTH[0]}/personal-api-keys", basic(used))[2]}
    assert own == {"used": last, "unused": None}
    last = told()
    server.stop()
    # Without a server, and with another.
    assert told() == last and last["used"] >= first["used"]
    server.start()
    assert told() == last


def test_what_an_administrator_makes_for_another_opens_nothing_until_confirmed(tmp_path):
    server = Server(tmp_path).start()
    try:
        server.user("bob")
        me = server.ask_socket("GET", "/dkusecrets/v1/info")[1]["login"]
        server.command("group", "list")
        key = server.key("bob")
        for method, path, body in [
            ("GET", f"{BOTH[0]}/auth/info?withSecrets=true", None),
            ("GET", "/dkusecrets/v1/secrets", None),
            ("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "b"}),
            ("POST", "/dkusecrets/v1/keys/confirm", {"id": "x"}),
        ]:
            status, _, problem = server.ask(method, path, basic(key), body)
            assert status == 403 and "confirms" in problem["message"]
        assert server.ask("GET", f"{BOTH[0]}/auth/info", basic(key))[0] == 200
        assert server.ask("GET", f"{BOTH[0]}/current-user", basic(key))[2]["secrets"] == []
        # It makes neither a key nor a ticket.
        for path in ["/personal-api-keys", "/auth/ticket"]:
            assert server.ask("POST", BOTH[0] + path, basic(key), {"label": "x"})[0] == 403
        # The kernel's own user confirms.
        id = [k for k in json.loads(server.command("--json", "key", "list")) if k["user"] == "bob"][0]["id"]
        assert server.ask_socket("POST", "/dkusecrets/v1/keys/confirm", {"id": id})[0] == 404, me
    finally:
        server.stop()


def test_the_kernel_says_who_asks(server):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    account = "dkutest" + str(os.getpid())
    subprocess.run(["useradd", "--no-create-home", account], check=True)
    try:
        uid = int(subprocess.run(["id", "-u", account], capture_output=True, text=True, check=True).stdout)
        assert server.ask_socket("GET", "/dkusecrets/v1/info", uid=uid)[1]["login"] == account
        body = {"name": "mine", "value": "MARKER"}
        assert server.ask_socket("POST", "/dkusecrets/v1/secrets/set", body, uid=uid)[0] == 200
        assert server.ask_socket("POST", "/dkusecrets/v1/secrets/get", {"name": "mine"}, uid=uid)[1]["value"] == "MARKER"
        # Root is himself, though the server runs as root: his own secrets, and nobody else's.
        info = server.ask_socket("GET", "/dip/publicapi/auth/info?withSecrets=true")[1]
        assert (info["authIdentifier"], info["secrets"]) == ("root", [])
        assert server.ask_socket("POST", "/dkusecrets/v1/secrets/get", {"name": "mine"})[0] == 404
        # No account, a service, and the id that stands for all that the kernel cannot tell.
        for other in [uid + 4321, 33, 65534]:
            assert server.ask_socket("GET", "/dip/publicapi/auth/info", uid=other)[0] == 403
        # Only the owner of the store commands it.
        assert server.ask_socket("POST", "/dkusecrets/v1/owner", {"command": "user_list"}, uid=uid)[0] == 403
    finally:
        subprocess.run(["userdel", account], check=True)
    # The account is gone: its id opens nothing any more, whoever gets it.
    assert server.ask_socket("GET", "/dip/publicapi/auth/info", uid=uid)[0] == 403
    other = account + "x"
    subprocess.run(["useradd", "--no-create-home", "--uid", str(uid), other], check=True)
    try:
        assert server.ask_socket("GET", "/dip/publicapi/auth/info?withSecrets=true", uid=uid)[0] == 403
    finally:
        subprocess.run(["userdel", other], check=True)


def test_a_login_that_exists_is_linked_by_an_administrator_only(server):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    account = "dkulink" + str(os.getpid())
    server.user(account)
    put(server, server.key(account), "a", "b")
    subprocess.run(["useradd", "--no-create-home", account], check=True)
    try:
        uid = int(subprocess.run(["id", "-u", account], capture_output=True, text=True, check=True).stdout)
        status, problem = server.ask_socket("GET", "/dip/publicapi/auth/info?withSecrets=true", uid=uid)
        assert status == 403 and "link" in problem["message"]
        server.command("user", "link", account, "--uid", uid)
        info = server.ask_socket("GET", "/dip/publicapi/auth/info?withSecrets=true", uid=uid)[1]
        assert info["secrets"] == [{"key": "a", "value": "b"}]
    finally:
        subprocess.run(["userdel", account], check=True)


def test_the_log_tells_of_every_read_before_it_is_answered(server):
    key = server.key("alice")
    put(server, key, "a", "MARKER")
    secrets_of(server, key)
    server.ask("POST", "/dkusecrets/v1/secrets/get", {**basic(key), "X-Dkusecrets-Script": "recipe.R"}, {"name": "a"})
    server.ask("POST", "/dkusecrets/v1/secrets/get", basic(key), {"name": "missing"})
    server.user("bob")
    acting = {**basic(key), "X-DKU-ProxyUser": "bob"}
    server.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", acting)
    # Killed at once: what was answered is in the log.
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]
    events = json.loads(server.command("--json", "audit", "list", "--most", "5"))
    told = [(e["action"], e["who"], e["behalf"], e["names"], e["outcome"]) for e in events]
    assert told[0] == ("read all", "alice", "bob", [], "ok")
    assert told[2] == ("read", "alice", None, ["missing"], "not_found")
    assert told[3] == ("read", "alice", None, ["a"], "ok") and events[3]["claims"] == {"script": "recipe.R"}
    assert told[4] == ("read all", "alice", None, ["a"], "ok")
    assert events[4]["from"] == "127.0.0.1"
    for file in [*server.data.glob("data/*"), server.directory / "log"]:
        content = file.read_bytes()
        assert b"MARKER" not in content and key.encode() not in content, file
        if file.parent.name == "data":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_written_behind_the_servers_back_makes_nobody_somebody(server, tmp_path):
    import sqlite3

    key = server.key("alice")
    put(server, key, "a", "old")
    server.stop()
    old = (server.data / "data/store.db").read_bytes()
    server.start()
    put(server, key, "a", "new")
    revoked = server.key("alice", "to be revoked")
    id = [k["id"] for k in json.loads(server.command("--json", "key", "list")) if k["label"] == "to be revoked"][0]
    server.stop()
    before = (server.data / "data/store.db").read_bytes()
    server.command("key", "revoke", id)
    now = (server.data / "data/store.db").read_bytes()
    anchor = (server.data / "config/anchor").read_bytes()
    def put_back(content):
        (server.data / "data/store.db").write_bytes(content)
        (server.data / "config/anchor").write_bytes(anchor)
    assert len({old, before, now}) == 3
    # Rows of the directory from before the key was revoked, and all of the file from then.
    rows = lambda content: dict(read(content))
    def read(content):
        path = tmp_path / "read.db"
        path.write_bytes(content)
        with sqlite3.connect(path) as database:
            return database.execute("SELECT key, value FROM row").fetchall()
    current, earlier = rows(now), rows(before)
    for row in [key for key in current if current[key] != earlier.get(key)]:
        put_back(now)
        with sqlite3.connect(server.data / "data/store.db") as database:
            database.execute("UPDATE row SET value = ? WHERE key = ?", (earlier.get(row, b""), row))
        database.close()
        refused = subprocess.run([server.program, "--data", server.data, "status"], capture_output=True, text=True)
        if refused.returncode == 0:
            server.start()
            assert server.ask("GET", f"{BOTH[0]}/auth/info", basic(revoked))[0] in (401, 500), row
            server.stop()
    put_back(before)
    assert "not the copy last used here" in server.command("status", status=1)
    put_back(now)
    server.start()
    assert server.ask("GET", f"{BOTH[0]}/auth/info", basic(revoked))[0] == 401
    assert secrets_of(server, key) == {"a": "new"}


def test_start_up_refuses_what_is_unsafe(server, tmp_path):
    refused = server.tell("serve", "--data", server.data, "--listen", "127.0.0.1:0", status=3)
    assert "in use by another process" in refused
    server.stop()
    refused = server.tell("serve", "--data", server.data, "--listen", "0.0.0.0:0", status=1)
    assert "in clear" in refused
    for path, mode in [("data/store.db", 0o640), ("config", 0o755), ("data", 0o750)]:
        (server.data / path).chmod(mode)
        assert "chmod" in server.tell("serve", "--data", server.data, "--listen", "127.0.0.1:0", status=1)
        (server.data / path).chmod(0o600 if path.endswith(".db") else 0o700)
    key = next((server.data / "config").glob("root-*.key"))
    key.chmod(0o644)
    assert "chmod" in server.tell("serve", "--data", server.data, "--listen", "127.0.0.1:0", status=1)
    key.chmod(0o600)
    hidden = tmp_path / "away"
    key.rename(hidden)
    assert "is missing" in server.tell("serve", "--data", server.data, "--listen", "127.0.0.1:0", status=1)
    hidden.rename(key)
    assert server.tell("serve", "--listen", "127.0.0.1:0", status=2)
    server.start()
    assert server.ask("GET", f"{BOTH[0]}/auth/info")[0] == 401


def test_stopping_finishes_and_a_kill_loses_nothing(server):
    key = server.key("alice")
    for i in range(20):
        put(server, key, f"name {i}", "v")
    assert server.stop() == 0
    assert not server.socket.exists()
    server.start()
    assert len(secrets_of(server, key)) == 20
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = []
        def write(i):
            try:
                put(server, key, f"later {i}", "v")
                done.append(f"later {i}")
            except (OSError, ConnectionError):
                pass
        futures = [pool.submit(write, i) for i in range(200)]
        while len(done) < 20:
            assert not futures[-1].done()
        server.stop(signal.SIGKILL)
    server.start()
    assert set(done) <= set(secrets_of(server, key))
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]


def test_what_is_wrong_is_said_and_changes_nothing(server):
    key = basic(server.key("alice"))
    path = "/dkusecrets/v1/secrets/set"
    for body, kind in [
        (b"{", "invalid_argument"), (b"", "invalid_argument"), (b"[]", "invalid_argument"),
        ({"name": "a"}, "invalid_argument"), ({"name": "", "value": "v"}, "invalid_name"),
        ({"name": "a", "value": "v\0"}, "invalid_value"), ({"name": "a", "value": "MARKER" * 200000}, "invalid_value"),
        ({"name": "a", "value": "v", "expires": "soon"}, "invalid_argument"),
        ({"name": "a", "value": 5}, "invalid_argument"), ({"name": 7, "value": "MARKER"}, "invalid_argument"),
    ]:
        status, _, problem = server.ask("POST", path, key, body)
        assert (status, problem["kind"]) == (400, kind), body
        assert "MARKER" not in json.dumps(problem)
    assert server.ask("POST", path, key, b"x" * (8 * 1024 * 1024 + 1))[0] == 413
    status, _, problem = server.ask("POST", path, key, {"name": "a", "value": "v", "if_version": 3})
    assert (status, problem["kind"], problem["found"]) == (409, "conflict", 0)
    for missing in ["/nowhere", "/dip/publicapi/projects/", "/dkusecrets/v2/secrets"]:
        status, _, problem = server.ask("GET", missing, key)
        assert status == 404 and problem["errorType"]
    assert server.ask("GET", "/dkusecrets/v1/secrets", key)[2]["secrets"] == []
    # Every day of a calendar, and none.
    assert server.ask("POST", path, key, {"name": "a", "value": "v", "expires": "2024-02-29"})[0] == 200
    listed = server.ask("GET", "/dkusecrets/v1/secrets", key)[2]["secrets"][0]
    assert listed["expires"] == "2024-02-29"
    got = server.ask("POST", "/dkusecrets/v1/secrets/get", key, {"name": "a"})[2]
    assert got["expired"] is True
    assert server.ask("POST", "/dkusecrets/v1/secrets/describe", key, {"name": "a", "expires": None})[0] == 200
    assert server.ask("GET", "/dkusecrets/v1/secrets", key)[2]["secrets"][0]["expires"] is None


def test_one_s_own_secrets_from_a_shell(server, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    env = {**os.environ, "DKUSECRETS_HOME": str(home)}
    def run(*arguments, status=0, **more):
        done = subprocess.run([server.program, *arguments], capture_output=True, env=env, timeout=30, **more)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr
    value = "line 1\nline 2 é \n"
    run("set", "api", "--description", "what for", input=(value + "\n").encode())
    assert run("get", "api") == value.encode()
    assert b"api" in run("list") and b"line" not in run("list")
    assert json.loads(run("--json", "list"))[0]["description"] == "what for"
    assert b"close to it" in run("get", "apj", status=1)
    code = 'cat(dkusecrets::dkuGetSecret("api"))'
    assert subprocess.run(["Rscript", "-e", code], capture_output=True, env=env, check=True, timeout=60).stdout == value.encode()
    run("remove", "api")
    run("get", "api", status=1)
    assert b"personal" in run("--data", str(server.data), "get", "api", status=1)
    for wrong in [[], ["nothing"], ["set"], ["get", "a", "b"]]:
        run(*wrong, status=2)


def shell(server, home, **variables):
    """The program as somebody whose home that is."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DKU", "R_USER", "XDG"))}
    env |= {"HOME": str(home), **{name: str(value) for name, value in variables.items()}}

    def run(*arguments, status=0, input="", under=()):
        command = [*under, server.program, *arguments]
        done = subprocess.run(list(map(str, command)), input=input, capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == status, (arguments, done.returncode, done.stderr)
        return done.stdout if status == 0 else done.stderr

    return run


def home_of(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.mark.parametrize("by", ["variable", "flag"])
def test_one_s_own_secrets_of_a_server_from_a_shell(server, tmp_path, by):
    home = home_of(tmp_path)
    run = shell(server, home, **({"DKUSECRETS_SOCKET": server.socket} if by == "variable" else {"DKUSECRETS_HOME": home}))
    flag = [] if by == "variable" else ["--socket", server.socket]
    value = 'line 1\nline 2 é "\\ \n'
    run("set", "api", "--description", "what for", *flag, input=value + "\n")
    status, told = server.ask_socket("POST", "/dkusecrets/v1/secrets/get", {"name": "api"})
    assert (status, told["value"]) == (200, value)
    assert run("get", "api", *flag) == value
    assert json.loads(run("--json", "get", "api", *flag)) == {"name": "api", "value": value, "version": 1}
    run("set", "api", *flag, input="second")
    run("set", "gone", *flag, input="x")
    run("remove", "gone", *flag)
    (listed,) = json.loads(run("--json", "list", *flag))
    assert (listed["name"], listed["description"], listed["version"]) == ("api", "what for", 2) and listed["updated"] > 0
    assert "api" in run("list", *flag) and "second" not in run("list", *flag)
    told = json.loads(run("--json", "status", *flag))
    assert told["server"] == str(server.socket) and told["opens"] is True
    assert "close to it" in run("get", "apj", *flag, status=1)
    assert "no secret" in run("remove", "gone", *flag, status=1)
    # Each read is in the log, and nothing came to be beside the server.
    names = [event["names"] for event in server.ask_socket("GET", "/dkusecrets/v1/audit")[1]["events"] if event["action"] == "read"]
    assert names.count(["api"]) == 3
    server.stop()
    says = run("get", "api", *flag, status=3)
    assert "running" in says and str(server.socket) in says
    run("set", "api", *flag, status=3, input="x")
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_which_place_a_shell_s_secrets_are_in_is_found_as_r_finds_it(server, tmp_path):
    home = home_of(tmp_path)
    vault = tmp_path / "vault"
    vault.mkdir(mode=0o700)
    nothing = lambda: not [path for path in (*home.rglob("*.db"), *vault.rglob("*"))]
    for variables, says in [
        ({"DKUSECRETS_SOCKET": server.socket, "DKUSECRETS_HOME": vault}, "unset one of them"),
        ({"DKU_API_KEY": "k"}, "DKU_DSS_URL or DKU_API_KEY is set"),
        ({"DKU_DSS_URL": server.url, "DKU_API_KEY": "k", "DKUSECRETS_SOCKET": server.socket}, "DKU_DSS_URL"),
        ({"DKU_API_TICKET": "t"}, "DKU_BACKEND_HOST is not"),
        ({"DKU_API_TICKET": "t", "DKU_BACKEND_HOST": "192.0.2.1", "DKU_BACKEND_PORT": 1}, "not for a server on this machine"),
        ({"DKU_API_TICKET": "t", "DKU_BACKEND_HOST": "127.0.0.1", "DKU_BACKEND_PORT": 1, "DKU_BACKEND_PROTOCOL": "https"}, "TLS"),
    ]:
        run = shell(server, home, **variables)
        for command in (["set", "a"], ["get", "a"], ["list"], ["remove", "a"], ["status"]):
            assert says in run(*command, input="x", status=1)
        assert nothing()
    config = home / ".dataiku/config.json"
    config.parent.mkdir()
    config.touch(mode=0o600)
    assert "config.json" in shell(server, home)("set", "a", input="x", status=1) and nothing()
    # What a person chose comes before what lies around.
    shell(server, home, DKUSECRETS_SOCKET=server.socket)("set", "a", input="x")
    shell(server, home, DKUSECRETS_HOME=vault)("set", "a", input="y")
    assert shell(server, home, DKUSECRETS_HOME=vault)("get", "a") == "y"
    assert shell(server, home, DKUSECRETS_SOCKET=server.socket)("get", "a") == "x"
    assert "personal" in shell(server, home)("--data", server.data, "status", "--socket", server.socket, status=1)


def test_a_shell_finds_the_usual_socket_and_does_not_choose_between_two_places(server, tmp_path):
    apart = ["unshare", "--mount", "sh", "-ec"]
    mount = f'mount -t tmpfs tmpfs /run; mkdir /run/dkusecrets; mount --bind {server.directory} /run/dkusecrets; exec "$@"'
    if subprocess.run([*apart, mount, "-", "true"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("only who may mount has another /run")
    usual = [*apart, mount, "-"]
    home = home_of(tmp_path)
    run = shell(server, home)
    run("set", "a", input="on the server", under=usual)
    assert run("get", "a", under=usual) == "on the server" and run("list") == ""
    run("set", "a", input="in the vault")
    for command in (["set", "a"], ["get", "a"], ["list"], ["remove", "a"], ["status"]):
        says = run(*command, input="x", under=usual, status=1)
        assert "two places" in says and "DKUSECRETS_HOME" in says and "vault.db" in says
    assert run("get", "a") == "in the vault"
    assert run("get", "a", "--socket", server.socket) == "on the server"


def test_in_a_run_a_shell_has_the_secrets_of_whom_it_is_for(tmp_path):
    server = Server(tmp_path, "--allow-impersonation").start()
    try:
        server.user("bob")
        key = {"Authorization": "Bearer " + server.key("bob")}
        assert server.ask("POST", "/dkusecrets/v1/secrets/set", key, {"name": "a", "value": "bob's"})[0] == 200
        run = shell(server, home_of(tmp_path), DKUSECRETS_SOCKET=server.socket)
        run("set", "a", input="mine")
        of_bob = ["run", "--as", "bob", "--", server.program]
        # Only an administrator acts as others, and the tests' own account is not known to be one.
        name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        server.command("user", "groups", name, "administrators")
        assert run(*of_bob, "get", "a") == "bob's"
        run(*of_bob, "set", "b", input="by the run")
        assert server.ask("POST", "/dkusecrets/v1/secrets/get", key, {"name": "b"})[2]["value"] == "by the run"
        assert run("get", "a") == "mine" and "no secret" in run("get", "b", status=1)
        # Whatever else answers at that address is told no value.
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            heard = []

            def answer():
                connection = other.accept()[0]
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                heard.append(connection.recv(65536))

            thread = threading.Thread(target=answer)
            thread.start()
            ticket = {"DKU_API_TICKET": "t", "DKU_BACKEND_HOST": "127.0.0.1", "DKU_BACKEND_PORT": port}
            says = shell(server, tmp_path / "home", **ticket)("set", "a", input="MARKER", status=1)
            thread.join(timeout=30)
            assert "no server of dkusecrets" in says and heard[1] == b"" and b"MARKER" not in heard[0]
    finally:
        server.stop()


@pytest.mark.parametrize("version", ["15.2.0", "12.6.4", "9.0.0"])
def test_code_written_for_dss_with_dataikus_own_client(server, version):
    folder = dss_client(version)
    server.user("bob")
    keys = [server.key("alice"), server.key("bob")]
    script = pathlib.Path(__file__).with_name("dss_client.py")
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, script, server.url, *keys], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]


def test_commands_at_once_wait_for_each_other(store):
    arguments = [[store.program, "--data", store.data, "user", "add", f"p{i}"] for i in range(8)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}

    def at_once():
        running = [subprocess.Popen(list(map(str, command)), **pipes) for command in arguments]
        return [(process.communicate(timeout=60)[1], process.returncode) for process in running]

    assert at_once() == [("", 0)] * 8
    assert len(json.loads(store.command("--json", "user", "list"))) == 9
    # The note of a server that was killed is there, and leads to nobody.
    store.start().stop(signal.SIGKILL)
    assert (store.data / "config/socket").exists()
    assert all(status == 1 and "already exists" in says for says, status in at_once())
    # A server begins once a command is done; one that answers on no socket is told apart from a command by the time it takes.
    running = subprocess.Popen(list(map(str, arguments[0])), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store.start()
    running.wait(timeout=60)
    store.stop()
    alone = [store.program, "serve", "--data", str(store.data), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(alone, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        assert serving.stdout.readline()
        assert "answers on no socket" in store.command("user", "list", status=3)
        serving.terminate()


def test_people_who_were_not_added_leave_nothing_in_the_anchor(server):
    alice = basic(server.key("alice"))
    length = lambda: (server.data / "config/anchor").stat().st_size
    add = lambda login, **more: server.ask("POST", f"{BOTH[0]}/admin/users", alice, {"login": login, **more})[0]
    began = length()
    assert {add(f"u{i}", groups=["nobody knows"]) for i in range(20)} == {400} and length() == began
    # Those who come have a cell each, also after some who did not.
    for login in ("bob", "ann"):
        assert add("nobody", groups=["nobody knows"]) == 400 and add(login) == 200
        put(server, server.key(login), "mine", login)
    assert length() == began + 2 * 256
    server.stop()
    server.start()
    for login in ("bob", "ann"):
        assert secrets_of(server, server.key(login)) == {"mine": login}


def test_a_run_has_a_ticket_that_ends_with_it(server, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    import time

    account = "dkurun" + str(os.getpid())
    subprocess.run(["useradd", "--no-create-home", account], check=True)
    try:
        uid = int(subprocess.run(["id", "-u", account], capture_output=True, text=True, check=True).stdout)
        body = {"name": "mine", "value": "MARKER"}
        assert server.ask_socket("POST", "/dkusecrets/v1/secrets/set", body, uid=uid)[0] == 200

        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        told = shared / "told"
        run = [server.program, "run", "--socket", server.socket, "--kind", "notebook"]
        script = f'echo "$DKU_API_TICKET" >{told}; id -u; env | grep -c ^DKU_'
        asked = lambda ticket: server.ask("GET", "/dip/publicapi/auth/info?withSecrets=true", {"X-DKU-APITicket": ticket})

        # As oneself: the ticket works while the command runs, and not after.
        client = f"""
import json, os, urllib.request
url = "%s://%s:%s/dip/publicapi/auth/info?withSecrets=true" % tuple(
    os.environ["DKU_BACKEND_" + part] for part in ["PROTOCOL", "HOST", "PORT"])
request = urllib.request.Request(url, headers={{"X-DKU-APITicket": os.environ["DKU_API_TICKET"]}})
print(json.loads(urllib.request.urlopen(request).read())["secrets"])
"""
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        done = subprocess.run([*as_user, *run, "--as", account, "--", "/usr/bin/python3", "-c", client],
                              capture_output=True, text=True, timeout=60, cwd="/")
        assert done.stdout == "[{'key': 'mine', 'value': 'MARKER'}]\n", done.stderr
        done = subprocess.run([*as_user, *run, "--", "sh", "-c", script], capture_output=True, text=True, timeout=60, cwd="/")
        assert done.stdout.split() == [str(uid), "4"], done.stderr
        assert asked(told.read_text().strip())[0] == 401
        # As somebody else: only an administrator, who then is that user for the system, too.
        told.unlink()
        done = subprocess.run([*as_user, *run, "--as", "alice", "--", "true"], capture_output=True, text=True, timeout=60, cwd="/")
        assert done.returncode == 1 and "not allowed" in done.stderr
        root = [*run, "--as", account, "--", "sh", "-c", script]
        assert subprocess.run(root, capture_output=True, timeout=60, cwd="/").returncode == 1
        server.command("user", "groups", "root", "administrators")
        done = subprocess.run(root, capture_output=True, text=True, timeout=60, cwd="/")
        assert done.stdout.split() == [str(uid), "4"], done.stderr

        # The command's own end is the program's.
        assert subprocess.run([*run, "--", "sh", "-c", "exit 7"], timeout=60).returncode == 7
        assert subprocess.run([*run, "--", "sh", "-c", "kill -9 $$"], timeout=60).returncode == 137
        # Killed in the middle, the ticket ends all the same.
        told.unlink()
        running = subprocess.Popen([*run, "--as", account, "--", "sh", "-c", f'echo "$DKU_API_TICKET" >{told}; sleep 60'], cwd="/")
        end = time.monotonic() + 10
        while not (told.exists() and told.read_text().strip()):
            assert time.monotonic() < end
            time.sleep(0.02)
        ticket = told.read_text().strip()
        status, _, info = asked(ticket)
        assert (status, info["authIdentifier"], info["via"]) == (200, account, ["root"])
        running.kill()
        running.wait()
        end = time.monotonic() + 10
        while asked(ticket)[0] != 401:
            assert time.monotonic() < end, "the ticket outlives the run"
            time.sleep(0.02)
        events = json.loads(server.command("--json", "audit", "list", "--most", "50"))
        assert any(e["action"] == "run begun" and e["claims"] == {"kind": "notebook"} and e["who"] == "root" and e["behalf"] == account for e in events)
    finally:
        subprocess.run(["pkill", "-u", account])
        subprocess.run(["userdel", account], check=False)


def test_what_was_revoked_or_removed_stays_so(server):
    """Found by trying: a key that is edited while it is revoked, a login that somebody else gets, the last administrator."""
    server.user("bob")
    key = server.key("bob")
    put(server, key, "mine", "OLD")
    ticket = {"X-DKU-APITicket": server.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[2]["ticket"]}
    # A ticket ends with the key it was asked for with, makes no key, and none that lasts longer.
    assert server.ask("GET", "/dkusecrets/v1/secrets", ticket)[0] == 200
    assert server.ask("POST", f"{BOTH[0]}/personal-api-keys", ticket, {"label": "x"})[0] == 403
    again = {"X-DKU-APITicket": server.ask("POST", f"{BOTH[0]}/auth/ticket", ticket)[2]["ticket"]}
    id = server.ask("GET", f"{BOTH[0]}/personal-api-keys", basic(key))[2][0]["id"]
    path = f"{BOTH[0]}/personal-api-keys/{id}"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        edits = [pool.submit(server.ask, "PUT", path, basic(key), {"label": f"edited {i}"}) for i in range(200)]
        server.command("key", "revoke", id)
        assert {edit.result()[0] for edit in edits} <= {200, 401, 404}
    for headers in [basic(key), ticket, again]:
        assert server.ask("GET", f"{BOTH[0]}/auth/info", headers)[0] == 401

    # Whoever gets the login later is somebody else.
    key = server.key("bob")
    ticket = {"X-DKU-APITicket": server.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[2]["ticket"]}
    server.command("user", "remove", "bob")
    server.user("bob")
    new = server.key("bob")
    assert secrets_of(server, new) == {}
    put(server, new, "mine", "NEW")
    for headers in [basic(key), ticket]:
        assert server.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", headers)[0] == 401

    # One administrator stays.
    alice = basic(server.key("alice"))
    document = server.ask("GET", f"{BOTH[0]}/admin/users/alice", alice)[2]
    for change in [{"groups": []}, {"enabled": False}]:
        assert server.ask("PUT", f"{BOTH[0]}/admin/users/alice", alice, {**document, **change})[0] == 400
    assert "last administrator" in server.command("user", "groups", "alice", status=1)
    assert "last administrator" in server.command("user", "remove", "alice", status=1)
    # What a ticket that acts rests on.
    acting = {**alice, "X-DKU-ProxyUser": "bob"}
    ticket = {"X-DKU-APITicket": server.ask("POST", f"{BOTH[0]}/auth/ticket", acting)[2]["ticket"]}
    assert server.ask("GET", "/dkusecrets/v1/secrets", ticket)[0] == 200
    server.command("user", "groups", "bob", "administrators")
    server.command("user", "groups", "alice")
    assert server.ask("GET", "/dkusecrets/v1/secrets", ticket)[0] == 401
    # Nobody came by giving commands.
    assert {user["login"] for user in json.loads(server.command("--json", "user", "list"))} == {"alice", "bob"}


def test_who_is_not_known_holds_up_nobody(server):
    import socket as sockets

    key = server.key("alice")
    host, port = server.url.removeprefix("http://").split(":")
    head = "POST /dkusecrets/v1/secrets/set HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx"
    slow = []
    for _ in range(600):
        connection = sockets.create_connection((host, int(port)))
        connection.sendall(head.encode())
        slow.append(connection)
    assert secrets_of(server, key) == {}
    events = json.loads(server.command("--json", "status"))["events"]
    for connection in slow:
        connection.close()
    # Refusals beyond some in a minute are counted, not written.
    for _ in range(300):
        assert server.ask("GET", f"{BOTH[0]}/auth/info", basic("wrong"))[0] == 401
    assert json.loads(server.command("--json", "status"))["events"] - events < 130
    # One's own settings with a revision that was made up cost nobody time.
    bogus = base64.urlsafe_b64encode(os.urandom(24 * 150_000)).decode().rstrip("=")
    document = {"secrets": [{"name": f"n{i}", "value": "v"} for i in range(300)], "dkusecretsRevision": bogus}
    assert server.ask("PUT", f"{BOTH[0]}/current-user", basic(key), document)[0] == 400
    assert server.ask("POST", f"{BOTH[0]}/personal-api-keys", basic(key), {"label": "x" * 2000})[0] == 400


def test_the_unit_is_one_that_systemd_and_the_program_take(tmp_path):
    installed = pathlib.Path(program())
    unit = (installed.parents[1] / "systemd" / "dkusecrets.service").read_text()
    started = re.search(r"^ExecStart=(/usr/local/bin/dkusecrets) (.*)$", unit, re.MULTILINE)
    # Arguments that the program knows: it looks for the store. Another one is where no store is, whatever this machine has.
    arguments = [argument.replace("/var/lib", str(tmp_path)) for argument in started[2].split()]
    done = subprocess.run([installed, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and str(tmp_path) in done.stderr, done
    # Where people's R looks for it.
    assert "--socket /run/dkusecrets/dkusecrets.sock" in started[2]
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "dkusecrets.service").write_text(unit.replace(started[1], str(installed)))
    verify = ["systemd-analyze", "verify", tmp_path / "dkusecrets.service"]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
