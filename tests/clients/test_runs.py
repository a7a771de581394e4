"""Runs: a command with a ticket, for as long as it goes on."""
import http.client
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from servers import wait_for

RUNS = "/dkusecrets/v1/runs"


def bearer(key):
    return {"Authorization": "Bearer " + key}


def run(server, *command, **variables):
    env = {name: value for name, value in os.environ.items() if not name.startswith("DKU") and "proxy" not in name.lower()}
    env |= {name: str(value) for name, value in variables.items()}
    command = [server.program, "run", "--socket", server.socket, "--", *command]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, timeout=60)


@pytest.mark.parametrize("how", ["ticket", "key", "person", "server"])
def test_a_run_that_has_lost_its_ticket_holds_no_connection(server, how):
    server.user("bob")
    bob = bearer(server.key("bob"))
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.request("POST", RUNS, b"", bob)
    answer = connection.getresponse()
    ticket = {"X-DKU-APITicket": json.loads(answer.readline())["ticket"]}
    assert server.ask("GET", "/dkusecrets/v1/secrets", ticket)[0] == 200
    if how == "ticket":
        (held,) = server.ask("GET", "/dkusecrets/v1/tickets", bob)[2]
        assert server.ask("DELETE", f"/dkusecrets/v1/tickets/{held['id']}", bob)[0] == 200
    elif how == "key":
        (key,) = json.loads(server.command("--json", "key", "list", "--user", "bob"))
        server.command("key", "revoke", key["id"])
    elif how == "person":
        server.command("user", "remove", "bob")
    else:
        assert server.stop() == 0
    began = time.monotonic()
    # The answer is over, and what it held is for others.
    assert answer.read() == b"" and time.monotonic() - began < 15
    if how != "server":
        assert server.ask("GET", "/dkusecrets/v1/secrets", ticket)[0] == 401


def test_when_runs_hold_all_connections_the_owner_of_the_store_can_still_revoke_them(store):
    store.user("bob")
    bob = bearer(store.key("bob"))
    store.start("--max-connections", "5")
    runs = []
    for _ in range(5):
        connection = http.client.HTTPConnection(*store.address, timeout=30)
        connection.request("POST", RUNS, b"", bob)
        runs.append(connection.getresponse())
        assert json.loads(runs[-1].readline())["login"] == "bob"
    assert store.ask("GET", "/dkusecrets/v1/secrets", bob)[0] == 503
    tickets = json.loads(store.command("--json", "ticket", "list", "--user", "bob"))
    assert len(tickets) == 5
    for ticket in tickets:
        store.command("ticket", "revoke", ticket["id"])
    wait_for(lambda: store.ask("GET", "/dkusecrets/v1/secrets", bob)[0] == 200)


def test_a_run_is_told_that_its_ticket_has_ended_and_goes_on(server, tmp_path):
    told = tmp_path / "told"
    script = f'echo "$DKU_API_TICKET" >{told}.new; mv {told}.new {told}; while [ -e {told} ]; do sleep 0.1; done; exit 5'
    command = [server.program, "run", "--socket", server.socket, "--", "sh", "-c", script]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as running:
        wait_for(told.exists)
        (ticket,) = json.loads(server.command("--json", "ticket", "list"))
        server.command("ticket", "revoke", ticket["id"])
        assert "the ticket of this run has ended" in running.stderr.readline()
        told.unlink()
        assert running.wait(timeout=30) == 5


def test_a_server_on_a_socket_only_has_runs_too(store):
    """As the unit of inst/systemd has it. Nothing listens on TCP before somebody begins a run."""
    serve = [store.program, "serve", "--data", store.data, "--socket", store.socket]
    with subprocess.Popen(list(map(str, serve)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert str(store.socket) in process.stdout.readline()
            assert store.ask_socket("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})[0] == 200
            sockets = lambda: [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
            listening = lambda: [line.split()[1] for name in ("tcp", "tcp6") for line in open(f"/proc/{process.pid}/net/{name}")
                                 if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in sockets()]
            assert listening() == []
            for _ in range(3):
                done = run(store, store.program, "get", "a")
                assert (done.returncode, done.stdout) == (0, "MARKER"), done.stderr
            # One address of loopback, for all of them.
            (address,) = listening()
            assert address.startswith("0100007F:")
        finally:
            process.terminate()


@pytest.mark.parametrize("before", ["", "example.org"])
def test_what_a_run_asks_goes_through_no_proxy(server, before):
    assert server.ask_socket("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})[0] == 200
    code = """
import json, os, urllib.request
url = "%s://%s:%s/dkusecrets/v1/secrets/get" % tuple(os.environ["DKU_BACKEND_" + part] for part in ["PROTOCOL", "HOST", "PORT"])
request = urllib.request.Request(url, b'{"name": "a"}', {"X-DKU-APITicket": os.environ["DKU_API_TICKET"]})
print(json.load(urllib.request.urlopen(request, timeout=5))["value"], os.environ["no_proxy"])
"""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        at = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        done = run(server, sys.executable, "-c", code, http_proxy=at, HTTP_PROXY=at, **({"NO_PROXY": before} if before else {}))
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["MARKER", "example.org,127.0.0.1" if before else "127.0.0.1"]
        # Nobody has come to the proxy.
        with pytest.raises(BlockingIOError):
            proxy.accept()
