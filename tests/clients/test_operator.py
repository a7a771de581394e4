"""What an operator of the server sets and sees: settings, health, metrics, the log, pages for `man`."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from servers import wait_for
from test_server import BOTH, basic, put, secrets_of
from wire import answer_to, connect, hang_up, log_text, logged, metrics


# --- Settings ----------------------------------------------------------------------------------------------------


def in_force(server, *flags, env=None):
    """Each setting's value and source, from `config`."""
    done = subprocess.run(
        list(map(str, [server.program, "--data", server.data, "--json", "config", *flags])),
        capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, done.stderr
    return {one["setting"]: (one["value"], one["from"]) for one in json.loads(done.stdout)}


def test_config_shows_what_is_in_force_and_where_from(store):
    file = store.data / "config/settings.toml"
    file.write_text('max-connections = 50\nlog = "warn"\nwait-for-disk = true\n')
    env = {"DKUSECRETS_LOG": "debug", "DKUSECRETS_MAX_CONNECTIONS": "60"}
    found = in_force(store, "--max-connections", "70", env=env)
    assert found["max-connections"] == (70, "flag")
    assert found["log"] == ("debug", "environment")
    assert found["wait-for-disk"] == (True, "file")
    assert found["people-appear"] == (True, "default")
    assert found["allow-impersonation"] == (True, "store")
    # Of the server that runs, whatever this shell says.
    store.start("--max-connections", "80", env={"DKUSECRETS_LOG": "error"})
    found = in_force(store, "--max-connections", "70")
    assert (found["max-connections"], found["log"]) == ((80, "flag"), ("error", "environment"))
    assert found["socket"] == (str(store.socket), "flag")
    text = store.command("config")
    assert "setting: wait-for-disk  value: true  from: file" in text and str(file) in text
    # Another file, and without a store.
    other = store.directory / "other.toml"
    other.write_text("max-connections = 5\n")
    listed = json.loads(store.tell("config", "--settings", other, "--json"))
    assert {"setting": "max-connections", "value": 5, "from": "file", "file": str(other)} in listed


def test_the_file_in_the_vignette_is_one(store):
    page = (pathlib.Path(__file__).parents[2] / "vignettes" / "dkusecrets.Rmd").read_text()
    file = store.data / "config/settings.toml"
    file.write_text(re.search(r"```toml\n# store/(config/settings.toml\n.*?)```", page, re.DOTALL)[1].split("\n", 1)[1])
    found = in_force(store)
    assert found["listen"] == ("0.0.0.0:8443", "file") and found["audit-retention-days"] == (730, "file")


def test_a_file_that_is_wrong_is_refused_with_its_line(store, tmp_path):
    file = store.data / "config/settings.toml"
    serve = ["serve", "--data", store.data, "--listen", "127.0.0.1:0"]
    file.write_text("# one\nmax-connection = 50\n")
    said = store.tell(*serve, status=1)
    assert f"{file}, line 2: unknown field `max-connection`" in said and "`max-connections`" in said
    file.write_text('max-connections = 50\n\nwait-for-disk = "yes"\n')
    assert f"{file}, line 3: " in store.tell(*serve, status=1)
    # What grants something is no setting.
    file.write_text("allow-impersonation = true\n")
    assert "line 1: unknown field" in store.tell(*serve, status=1)
    file.write_text("max-connections = 50\n")
    file.chmod(0o666)
    assert "chmod go-w" in store.tell(*serve, status=1)
    file.unlink()
    assert "/nowhere" in store.tell(*serve, "--settings", "/nowhere", status=1)
    assert "max-connections" in store.tell(*serve, "--max-connections", "0", status=2)


def test_settings_are_read_again_all_or_none(store):
    file = store.data / "config/settings.toml"
    file.write_text('max-connections = 50\n')
    store.start()
    later = 'listen = "127.0.0.1:1"\nbehind-tls-proxy = true\n'
    file.write_text('max-connections = 60\nlog = "info,request=debug"\n' + later)
    hang_up(store, "settings read again")
    found = in_force(store)
    assert found["max-connections"] == (60, "file")
    assert found["listen"] == ("127.0.0.1:0", "flag") and found["behind-tls-proxy"] == (False, "default")
    said = [line["fields"] for line in logged(store) if line["fields"].get("message")]
    assert any(one.get("changed") == "log, max-connections" for one in said), said
    assert any(one.get("settings") == "behind-tls-proxy" for one in said), said
    # The level of the log has changed.
    assert answer_to(connect(store))[0] == 401
    wait_for(lambda: any(line["target"] == "request" for line in logged(store)))
    file.write_text("max-connections = 70\nnonsense = 1\n")
    hang_up(store, "settings stay as they are")
    assert "line 2: unknown field `nonsense`" in log_text(store)
    assert in_force(store)["max-connections"] == (60, "file")
    # What is not there any more is as usual again.
    file.unlink()
    hang_up(store, "settings read again")
    assert in_force(store)["max-connections"] == (4096, "default")


def test_people_appear_unless_that_is_switched_off(store, account):
    login, uid = account
    file = store.data / "config/settings.toml"
    file.write_text("people-appear = false\n")
    store.start()
    status, said = store.ask_socket("GET", "/dkusecrets/v1/info", uid=uid)
    assert status == 403 and "an administrator can add one" in said["message"]
    file.write_text("people-appear = true\n")
    hang_up(store, "settings read again")
    assert store.ask_socket("GET", "/dkusecrets/v1/info", uid=uid)[0] == 200


def order_of_syncs_and_answers(store, key, count, *flags):
    """What the system was asked to do for `count` reads, one after the other: S for a flush to the disk that is done, A
    for an answer that leaves."""
    trace = store.directory / "trace"
    calls = "trace=fsync,fdatasync,sendto,sendmsg,write,writev"
    store.start(*flags, under=["strace", "-f", "-qq", "-s", "20", "-o", trace, "-e", calls])
    for _ in range(count):
        assert secrets_of(store, key) == {"a": "1"}
    children = pathlib.Path(f"/proc/{store.process.pid}/task/{store.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    store.process.wait(timeout=40)
    store.stop()
    order = ""
    for line in trace.read_text().splitlines():
        if re.search(r"f(data)?sync.*= 0$", line):
            order += "S"
        elif "HTTP/1.1 200" in line:
            order += "A"
    # What comes after the last answer is no matter.
    order = order.rstrip("S")
    assert order.count("A") == count, order
    return order


def test_an_answer_waits_for_the_disk_if_it_is_to(store):
    key = store.key("alice")
    store.start()
    put(store, key, "a", "1")
    store.stop()
    assert "AA" not in order_of_syncs_and_answers(store, key, 20, "--wait-for-disk")
    # Without, the disk follows for several at once.
    assert "AA" in order_of_syncs_and_answers(store, key, 20)


def test_many_who_wait_for_the_disk_wait_together(store):
    key = store.key("alice")
    store.start("--wait-for-disk")
    put(store, key, "a", "1")
    before = json.loads(store.command("--json", "status"))["events"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: secrets_of(store, key), range(300)))
    assert found == [{"a": "1"}] * 300
    assert json.loads(store.command("--json", "status"))["events"] == before + 300
    assert json.loads(store.command("--json", "audit", "verify"))["verified"]


def test_start_up_refuses_a_key_that_does_not_fit(store, tmp_path):
    other = tmp_path / "other"
    store.tell("init", "--data", other, "--admin", "eve")
    key = next((store.data / "config").glob("root-*.key"))
    own = key.read_bytes()
    key.write_bytes(next((other / "config").glob("root-*.key")).read_bytes())
    said = store.tell("serve", "--data", store.data, "--listen", "127.0.0.1:0", status=1)
    assert str(key) in said and own.decode(errors="replace") not in said
    key.write_bytes(own)
    store.start()


# --- Health and metrics ------------------------------------------------------------------------------------------


def test_health_says_whether_the_store_answers(store):
    store.start()
    status, headers, body = answer_to(connect(store), "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, json.loads(body)) == (200, {"status": "ok", "store": True, "audit_log": True})
    # A database that is gone.
    database = store.data / "data/store.db"
    database.write_bytes(b"x" * database.stat().st_size)
    for more in ["store.db-wal"]:
        (store.data / "data" / more).write_bytes(b"")
    status, _, body = answer_to(connect(store), "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 503 and json.loads(body)["status"] == "failing", body


def test_metrics_count_and_name_nobody(store):
    key = store.key("alice")
    store.user("bob-MARKER")
    store.start()
    put(store, key, "name-MARKER", "value-MARKER")
    assert secrets_of(store, key) == {"name-MARKER": "value-MARKER"}
    assert store.ask("GET", f"{BOTH[0]}/admin/users/bob-MARKER", basic(key))[0] == 200
    assert store.ask("GET", f"{BOTH[0]}/auth/info", basic("wrong"))[0] == 401
    assert store.ask("GET", "/nothing-MARKER/at/all", basic(key))[0] == 404
    assert store.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[0] == 200
    found = metrics(store)
    info = 'method="GET",route="/dip/publicapi/auth/info"'
    assert found[f'dkusecrets_requests_total{{{info},status="200"}}'] == 1
    assert found[f'dkusecrets_requests_total{{{info},status="401"}}'] == 1
    assert found[f"dkusecrets_request_duration_seconds_count{{{info}}}"] == 2
    assert found['dkusecrets_requests_total{method="GET",route="/dip/publicapi/admin/users/{login}",status="200"}'] == 1
    assert found['dkusecrets_requests_total{method="GET",route="none",status="404"}'] == 1
    assert found['dkusecrets_refusals_total{kind="not_authenticated"}'] == 1
    assert (found["dkusecrets_reads_total"], found["dkusecrets_tickets"]) == (1, 1)
    assert found["dkusecrets_connections"] >= 1
    wait_for(lambda: metrics(store)["dkusecrets_audit_events_not_on_disk"] == 0)
    assert not any("MARKER" in name or "alice" in name for name in found)


def test_only_this_machines_operator_sees_them(store, account):
    elsewhere = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    elsewhere = [address for address in elsewhere if ":" not in address]
    store.start("--behind-tls-proxy", listen="0.0.0.0:0")
    port = store.address[1]
    ask = "GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"
    for path in ["/health", "/metrics"]:
        store.address = ("127.0.0.1", port)
        assert answer_to(connect(store), ask.format(path, ""))[0] == 200
        unknown = answer_to(connect(store), ask.format("/nothing", ""))
        # A proxy's requests, which come from loopback, and those of another address of this machine.
        headers = ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 proxy"]
        refused = [(("127.0.0.1", port), f"{header}\r\n") for header in headers]
        for store.address, more in refused + [((address, port), "") for address in elsewhere]:
            status, headers, body = answer_to(connect(store), ask.format(path, more))
            assert (status, json.loads(body)["kind"]) == (404, "no_route") and headers.keys() == unknown[1].keys()
            assert body.replace(path.encode(), b"/nothing") == unknown[2]
        assert store.ask_socket("GET", "/health")[0] == 200
        assert store.ask_socket("GET", path, uid=account[1])[0] == 404


# --- The log -----------------------------------------------------------------------------------------------------


def test_the_log_tells_of_requests_and_of_nothing_that_is_in_them(store):
    key = store.key("alice")
    store.user("bob-MARKER")
    store.start(env={"DKUSECRETS_LOG": "trace"})
    put(store, key, "name-MARKER", "value-MARKER")
    assert secrets_of(store, key) == {"name-MARKER": "value-MARKER"}
    ticket = store.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[2]["ticket"]
    by_ticket = {"X-DKU-APITicket": ticket, "Cookie": "session=cookie-MARKER", "X-DKUSecrets-Script": "script-MARKER"}
    status, headers, _ = store.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true&more=query-MARKER", by_ticket)
    assert status == 200
    for wrong in [basic("wrong-MARKER"), {"Authorization": "Bearer wrong-MARKER"}, {"X-DKU-APITicket": "wrong-MARKER"}]:
        assert store.ask("GET", f"{BOTH[0]}/auth/info?key=query-MARKER", wrong)[0] == 401
    assert store.ask("GET", f"{BOTH[0]}/admin/users/bob-MARKER", basic(key))[0] == 200
    assert store.ask("GET", "/path-MARKER", basic(key))[0] == 404
    assert store.ask("POST", "/dkusecrets/v1/secrets/set", basic(key), b'{"name": "body-MARKER", ')[0] == 400
    assert store.ask("POST", "/dkusecrets/v1/secrets/get", basic(key), {"name": "other-MARKER"})[0] == 404
    # Signing in, with a password, and with what may be one in the login's place.
    password = "a password, password-MARKER"
    assert store.ask("POST", "/dkusecrets/v1/password", basic(key), {"new_password": password})[0] == 200

    def sent(path, body, kind="application/json"):
        connection = http.client.HTTPConnection(*store.address, timeout=30)
        connection.request("POST", path, body, {"Content-Type": kind, "Sec-Fetch-Site": "same-origin"})
        answer = connection.getresponse()
        return answer.status, answer.headers.get_all("Set-Cookie", []), answer.read()

    sign_in = lambda login, password: sent("/dkusecrets/v1/session", json.dumps({"login": login, "password": password}))
    status, cookies, session = sign_in("alice", password)
    cookies = [cookie.split("=", 1)[1].split(";")[0] for cookie in cookies]
    assert (status, len(cookies)) == (200, 2)
    assert sign_in("alice", "another password-MARKER")[0] == 401 and sign_in(password, password)[0] == 401
    by_session = {"Cookie": f"dkusecrets={cookies[0]}", "Sec-Fetch-Site": "same-origin"}
    assert store.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", by_session)[0] == 200
    form = "login=alice&code=code-MARKER&new=password-MARKER-long-enough&again=password-MARKER-long-enough"
    assert sent("/link", form, "application/x-www-form-urlencoded")[0] == 401
    # What is no HTTP at all.
    assert answer_to(connect(store), "junk-MARKER\r\nAuthorization: header-MARKER\r\n\r\n")[0] == 400
    assert store.stop() == 0
    text = log_text(store)
    for secret in ["MARKER", key, ticket, basic(key)["Authorization"].split()[1], *cookies, json.loads(session)["csrf"]]:
        assert secret not in text
    lines = {line["fields"]["id"]: line["fields"] for line in logged(store) if line["target"] == "request"}
    line = lines[headers["dkusecrets-request"]]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/dip/publicapi/auth/info", 200)
    assert line["microseconds"] > 0 and len(lines) >= 10


# --- Pages and completion ----------------------------------------------------------------------------------------


def test_there_are_pages_for_man(store, tmp_path):
    page = store.tell("man")
    assert page.startswith(".ie") and "audit" in page and "DKUSECRETS_LISTEN" not in page
    serve = store.tell("man", "serve")
    assert "DKUSECRETS_LISTEN" in serve and "max\\-connections" in serve
    assert "retention" in store.tell("man", "config")
    assert "no command nonsense" in store.tell("man", "nonsense", status=1)
    pages = tmp_path / "man1"
    pages.mkdir()
    store.tell("man", "--directory", pages)
    assert {"dkusecrets.1", "dkusecrets-serve.1", "dkusecrets-key-create.1"} <= {page.name for page in pages.iterdir()}
    # Small images have something else by that name.
    if shutil.which("man") is None or not subprocess.check_output(["man", "--version"], text=True).startswith("man "):
        pytest.skip("man is not installed")
    shown = subprocess.run(
        ["man", "-l", pages / "dkusecrets-serve.1"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "MANPAGER": "cat", "LC_ALL": "C.UTF-8"},
    )
    assert shown.returncode == 0 and "--tls-cert" in shown.stdout and not shown.stderr, shown


def test_shells_complete(store):
    for shell in ["bash", "zsh", "fish"]:
        text = store.tell("completion", shell)
        assert "max-connections" in text and "audit" in text
    script = """
    source <("$0" completion bash)
    complete() {
        COMP_WORDS=(dkusecrets "$@") COMP_CWORD=$# COMPREPLY=()
        _dkusecrets dkusecrets "${COMP_WORDS[COMP_CWORD]}"
        echo "${COMPREPLY[@]}"
    }
    complete au; complete serve --tls-; complete key cr
    """
    done = subprocess.run(["bash", "-c", script, store.program], capture_output=True, text=True, timeout=30)
    assert done.stdout == "audit\n--tls-cert --tls-key\ncreate\n", done


def test_no_name_that_somebody_else_gives_an_address_leads_to_what_operators_see(server):
    """A page of such a name may read whatever the name's server answers: browsers call that the same origin."""
    for path in ("/health", "/metrics"):
        for host, expected in [("rebound.example", 404), (f"rebound.example:{server.address[1]}", 404),
                               (f"localhost:{server.address[1]}", 200), ("[::1]", 200)]:
            told = ["curl", "--silent", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {host}"]
            done = subprocess.run([*told, server.url + path], capture_output=True, text=True, timeout=60, check=True)
            assert int(done.stdout) == expected, (path, host)


def test_settings_that_are_a_pipe_hold_nobody_up(server):
    settings = server.data / "config/settings.toml"
    os.mkfifo(settings, mode=0o600)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "it is no file" in (server.directory / "log").read_text())
    assert server.ask("GET", "/health")[0] == 200
    assert server.stop() == 0
