"""What somebody with a credential of this server could do to the others, and cannot."""
import concurrent.futures
import contextlib
import json
import pathlib
import re
import select
import socket
import sqlite3
import struct
import threading
import time

from servers import wait_for
from test_server import BOTH, basic, put
from test_sign_in import GOOD, OTHER, link_of, set_by_link, signed_in, with_password
from wire import answer_to, connect, log_text, metrics

ADMIN = f"{BOTH[0]}/admin"


def events(server, most=1000):
    return json.loads(server.command("--json", "audit", "list", "--most", str(most)))


def test_an_administrator_is_nobody_else_by_a_key_made_for_them(strict):
    """With acting as others switched off: neither with their rights, nor in their name."""
    with_password(strict, "mallory")
    with_password(strict, "bob")
    strict.command("user", "groups", "mallory", "administrators")
    mallory, bob = signed_in(strict, "mallory"), signed_in(strict, "bob")
    own = bob.change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "own"})[1]
    made = lambda login: mallory.change("POST", f"{ADMIN}/personal-api-keys", {"user": login, "label": "x"})[1]
    alice, as_bob = made("alice"), made("bob")
    for method, path, body in [
        ("POST", f"{ADMIN}/users", {"login": "evil", "groups": ["administrators"]}),
        ("GET", f"{ADMIN}/users", None),
        ("POST", f"{ADMIN}/audit/custom/x", {"a": 1}),
        ("POST", f"{BOTH[0]}/auth/ticket", None),
        ("POST", "/dkusecrets/v1/tickets", None),
        ("POST", "/dkusecrets/v1/runs", None),
    ]:
        assert strict.ask(method, path, basic(alice["key"]), body)[0] == 403, path
    document = strict.ask("GET", f"{BOTH[0]}/current-user", basic(as_bob["key"]))[2]
    for method, path, body in [
        ("PUT", f"{BOTH[0]}/current-user", {**document, "preferences": {"a": 1}}),
        ("DELETE", f"{BOTH[0]}/personal-api-keys/{own['id']}", None),
        ("PUT", f"{BOTH[0]}/personal-api-keys/{own['id']}", {"label": "mine"}),
        ("DELETE", "/dkusecrets/v1/sessions", None),
        ("POST", "/dkusecrets/v1/password", {"password": "x", "new_password": "another horse battery staple"}),
    ]:
        assert strict.ask(method, path, basic(as_bob["key"]), body)[0] == 403, path
    assert bob.ask("GET", f"{BOTH[0]}/current-user")[1]["preferences"] == {}
    assert strict.ask("GET", "/dkusecrets/v1/secrets", basic(own["key"]))[0] == 200
    # Nor is it said of them.
    maker = f"key {as_bob['id']}, made by mallory"
    told = [e for e in events(strict) if e["outcome"] == "not_allowed"]
    assert len(told) >= 10 and not {"alice", "bob"} & {e["who"] for e in told}
    assert [e for e in told if (e["who"], e["behalf"]) == (maker, "bob") and e["action"].startswith("PUT ")]
    # Once it is confirmed it is their own.
    assert bob.change("POST", "/dkusecrets/v1/keys/confirm", {"id": as_bob["id"]})[0] == 200
    put(strict, as_bob["key"], "a", "b")
    assert events(strict, 1)[0]["who"] == "bob"


def test_what_opened_by_the_rule_opens_no_more_without_it(server):
    """What others made while acting as others was allowed, against what the person made or confirmed."""
    server.user("cy")
    set_by_link(server, link_of(server, "cy"), "cy", GOOD)
    made, confirmed = server.key("cy"), server.key("cy")
    put(server, made, "a", "MARKER")
    own = server.ask("POST", f"{BOTH[0]}/personal-api-keys", basic(made), {"label": "x"})[2]["key"]
    browser, reads = signed_in(server, "cy"), lambda key: server.ask("GET", "/dkusecrets/v1/secrets", basic(key))[0]
    id = json.loads(server.command("--json", "key", "list", "--user", "cy"))
    id = [k["id"] for k in id if k["createdBy"] != "cy"]
    ticket = {"X-DKU-APITicket": server.ask("POST", f"{BOTH[0]}/auth/ticket", basic(made))[2]["ticket"]}
    # Which of the two it is, the list does not say.
    server.ask("POST", "/dkusecrets/v1/keys/confirm", basic(own), {"id": id[0]})
    server.command("rule", "impersonation", "off")
    assert sorted([reads(made), reads(confirmed)]) == [200, 403] and reads(own) == 200
    assert browser.ask("GET", "/dkusecrets/v1/session")[1]["opens"] is False
    assert server.ask("GET", "/dkusecrets/v1/secrets", ticket)[0] == reads(made)
    server.command("rule", "impersonation", "on")
    assert sorted([reads(made), reads(confirmed)]) == [200, 403]


def test_guesses_at_a_password_are_counted_for_the_account(server):
    """However many keys somebody has who knows one."""
    server.user("bob")
    set_by_link(server, link_of(server, "bob"), "bob", GOOD)
    guess = lambda key: server.ask(
        "POST", "/dkusecrets/v1/password", basic(key), {"password": "x" * 20, "new_password": OTHER}
    )[0]
    statuses = [guess(server.key("bob", f"{i}")) for i in range(10)]
    assert statuses.count(403) <= 7 and statuses[-1] == 429


def test_who_changes_a_password_over_and_over_keeps_nobody_from_signing_in(server):
    server.user("bob")
    server.user("mallory")
    set_by_link(server, link_of(server, "bob"), "bob", GOOD)
    browser, key, stop, statuses = signed_in(server, "bob"), server.key("mallory"), threading.Event(), []

    def flood():
        while not stop.is_set():
            answer = server.ask("POST", "/dkusecrets/v1/password", basic(key), {"new_password": OTHER, "password": OTHER})
            statuses.append(answer[0])

    threads = [threading.Thread(target=flood) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        assert [browser.sign_in("bob", GOOD) for _ in range(10)] == [200] * 10
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses.count(200) + statuses.count(409) <= 15 and {429} <= set(statuses)


def test_nobody_fills_the_disk_by_reading_or_by_being_refused(server):
    server.user("bob")
    bob = server.key("bob")
    names = sorted(f"{i:04}" + "x" * 250 for i in range(1000))
    document = {"secrets": [{"name": name, "value": "v"} for name in names]}
    assert server.ask("PUT", f"{BOTH[0]}/current-user", basic(bob), document)[0] == 200
    size = lambda: (server.data / "data/store.db-wal").stat().st_size
    before = size()
    assert len(server.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", basic(bob))[2]["secrets"]) == 1000
    assert size() - before < 40_000
    told = server.ask("GET", "/dkusecrets/v1/audit?limit=1", basic(bob))[2]["events"][0]
    # Of all there are some are named, and how many those are.
    assert told["action"] == "read all 1000" and 0 < len(told["names"]) < 10
    assert told["names"] == names[: len(told["names"])]
    # Each of them was named when it was stored.
    saved = server.ask("GET", "/dkusecrets/v1/audit", basic(bob))[2]["events"]
    assert [e["names"] for e in saved if e["action"] == "saved"] == [names]
    # A long path, a long name.
    assert server.ask("GET", f"{ADMIN}/users/{'A' * 60_000}", basic(bob))[0] == 403
    name = {"name": "é" * 100_000}
    for path, status in [("get", 400), ("remove", 400)]:
        assert server.ask("POST", f"/dkusecrets/v1/secrets/{path}", basic(bob), name)[0] == status
    assert all(len(e["action"]) <= 200 and all(len(n.encode()) <= 1024 for n in e["names"]) for e in events(server, 3))
    assert len({e["action"] for e in events(server, 3)}) == 3
    # What is few is told whole, as before.
    put(server, server.key("alice"), "a", "b")
    server.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", basic(server.key("alice")))
    assert [e["names"] for e in events(server, 1)] == [["a"]]


def test_a_change_that_fails_is_in_the_log(server):
    server.user("bob")
    bob, alice = server.key("bob"), server.key("alice")
    put(server, bob, "a", "v")
    put(server, bob, "b", "v")
    ours, before = "/dkusecrets/v1/secrets", len(events(server))
    for method, path, key, body, status, event in [
        ("POST", f"{ours}/set", bob, {"name": "a", "value": "w", "if_version": 7}, 409, ("set", ["a"], "conflict")),
        ("POST", f"{ours}/remove", bob, {"name": "none"}, 404, ("removed", ["none"], "not_found")),
        ("POST", f"{ours}/rename", bob, {"name": "a", "new_name": "b"}, 409, ("renamed", ["a", "b"], "exists")),
        ("POST", f"{ours}/restore", bob, {"name": "none"}, 404, ("restored", ["none"], "not_found")),
        ("POST", f"{ADMIN}/users", alice, {"login": "bob"}, 409, ("user added", ["bob"], "exists")),
        ("POST", f"{ADMIN}/groups", alice, {"name": "administrators"}, 409, ("group added", ["administrators"], "exists")),
    ]:
        assert server.ask(method, path, basic(key), body)[0] == status, path
        told = events(server, 1)[0]
        assert (told["action"], told["names"], told["outcome"]) == event
        assert told["who"] == ("bob" if key is bob else "alice")
    # One event for each; of many who are added at once, for the one that is there already.
    assert len(events(server)) == before + 6
    new = [{"login": "carol"}, {"login": "bob"}, {"login": "dave"}]
    assert server.ask("POST", f"{ADMIN}/users/actions/bulk", basic(alice), new)[0] == 200
    told = [(e["action"], e["names"], e["outcome"]) for e in events(server, 3)]
    assert told[::-1] == [("user added", [n], "exists" if n == "bob" else "ok") for n in ["carol", "bob", "dave"]]


def test_who_has_a_value_compared_is_in_the_log(server):
    """A save of what the editor never saw tells whether a value is what was guessed."""
    server.user("bob")
    bob = server.key("bob")
    put(server, bob, "a", "v")
    for guess, status, outcome in [("v", 200, "ok"), ("x", 409, "conflict")]:
        document = {"secrets": [{"name": "a", "value": guess}], "dkusecretsRevision": ""}
        assert server.ask("PUT", f"{BOTH[0]}/current-user", basic(bob), document)[0] == status
        told = events(server, 1)[0]
        assert (told["action"], told["names"], told["outcome"]) == ("compared", ["a"], outcome)


def test_what_is_damaged_is_named_to_its_owner_alone(server):
    """Neither in the server's own log, nor to others where the store is."""
    server.user("bob")
    bob = server.key("bob")
    put(server, bob, "NAME-OF-A-SECRET", "v" * 100_000)
    with sqlite3.connect(server.data / "data/store.db") as rows:
        largest = rows.execute("SELECT key FROM row ORDER BY length(value) DESC LIMIT 1").fetchone()
        rows.execute("UPDATE row SET value = zeroblob(length(value)) WHERE key = ?", largest)
    rows.close()
    status, _, problem = server.ask("POST", "/dkusecrets/v1/secrets/get", basic(bob), {"name": "NAME-OF-A-SECRET"})
    assert (status, problem["kind"]) == (500, "damaged") and "NAME-OF-A-SECRET" in problem["message"]
    assert str(server.directory) not in json.dumps(problem)
    wait_for(lambda: '"damaged"' in log_text(server))
    assert "NAME-OF-A-SECRET" not in log_text(server)


def most_memory(server):
    """The most that the server ever had in memory, in MiB."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def head(method, path, key, length):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_large_requests_of_one_person_take_what_is_theirs(server):
    for login in ["bob", "ann"]:
        server.user(login)
    bob, ann, current = server.key("bob"), server.key("ann"), f"{BOTH[0]}/current-user"
    # Each of these bytes would become a hundred in memory.
    many = b'{"preferences":{"a":[' + b"0," * (4 * 1024 * 1024 - 30) + b"0]}}"
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: server.ask("PUT", current, basic(bob), many)[0], range(16)))
    assert set(statuses) <= {413, 503} and 413 in statuses
    # Bodies that do not end.
    connections = [connect(server) for _ in range(60)]

    def push(connection):
        with contextlib.suppress(OSError):
            connection.sendall(head("PUT", current, bob, 8 * 1024 * 1024) + b" " * (8 * 1024 * 1024 - 1))

    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        list(pool.map(push, connections))
    assert server.ask("PUT", current, basic(bob), b" " * 8_000_000)[0] == 503
    # Somebody else's are read.
    document = {"secrets": [{"name": f"{i}", "value": "v" * 200} for i in range(10_000)]}
    assert server.ask("PUT", current, basic(ann), document)[0] == 200
    assert most_memory(server) < 300
    for connection in connections:
        connection.close()
    wait_for(lambda: server.ask("PUT", current, basic(bob), b" " * 8_000_000)[0] == 400)


def test_large_answers_of_one_person_take_what_is_theirs(server):
    for login in ["bob", "ann"]:
        server.user(login)
    bob, ann, path = server.key("bob"), server.key("ann"), f"{BOTH[0]}/auth/info?withSecrets=true"
    for key, count in [(bob, 12), (ann, 2)]:
        for i in range(count):
            # Six bytes in JSON for each.
            put(server, key, f"n{i}", "\u0001" * (1 << 20))
    connections = [connect(server) for _ in range(12)]
    for connection in connections:
        connection.sendall(head("GET", path, bob, 0))
    wait_for(lambda: server.ask("GET", path, basic(bob))[0] == 503, 60)
    assert len(server.ask("GET", path, basic(ann))[2]["secrets"]) == 2
    assert most_memory(server) < 300
    for connection in connections:
        connection.close()
    # One that is larger than what anybody may have is given to whoever has nothing else.
    wait_for(lambda: server.ask("GET", path, basic(bob))[0] == 200, 60)


def test_slow_bodies_of_one_person_keep_nobody_from_anything(server):
    for login in ["bob", "ann"]:
        server.user(login)
    bob, ann = server.key("bob"), server.key("ann")
    put(server, ann, "a", "b")
    connections = [connect(server) for _ in range(600)]
    for connection in connections:
        connection.sendall(head("POST", "/dkusecrets/v1/secrets/get", bob, 20))
    time.sleep(0.5)
    began = time.monotonic()
    for _ in range(20):
        assert server.ask("POST", "/dkusecrets/v1/secrets/get", basic(ann), {"name": "a"})[0] == 200
        assert server.ask_socket("GET", "/dkusecrets/v1/info")[0] == 200
    # While they were all waited for.
    assert time.monotonic() - began < 8 and all(not readable(connection) for connection in connections)


def readable(connection):
    return bool(select.select([connection], [], [], 0)[0])


def test_who_was_let_go_while_a_body_was_waited_for_gets_nothing(server):
    server.user("bob")
    key = server.key("bob")
    put(server, key, "a", "MARKER")
    ticket = server.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[2]["ticket"]
    body = json.dumps({"name": "a"}).encode()
    path = "/dkusecrets/v1/secrets/get"
    by_key, by_ticket = head("POST", path, key, len(body)), head("POST", path, "x", len(body))
    by_ticket = by_ticket.replace(b"Authorization: Bearer x", b"X-DKU-APITicket: " + ticket.encode())
    connections = [connect(server) for _ in range(3)]
    for connection, begin in zip(connections, [by_key, by_key, by_ticket]):
        connection.sendall(begin + body[:-1])
    time.sleep(0.3)
    connections[0].sendall(body[-1:])
    assert b"MARKER" in answer_to(connections[0], None)[2]
    server.command("key", "revoke", json.loads(server.command("--json", "key", "list", "--user", "bob"))[0]["id"])
    for connection in connections[1:]:
        connection.sendall(body[-1:])
        status, _, said = answer_to(connection, None)
        assert status == 401 and b"MARKER" not in said


def hang_up_after(server, request, wait):
    """Sends a request, and closes without a word."""
    connection = connect(server)
    connection.sendall(request)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(wait)
    connection.close()


def test_who_hangs_up_at_once_takes_no_event_along(server):
    """What was changed or refused is in the log, whether or not anybody waits for the answer."""
    server.user("bob")
    key, count = server.key("bob"), 100
    for i in range(count):
        id = server.ask("POST", "/dkusecrets/v1/tickets", basic(key))[2]["id"]
        hang_up_after(server, head("DELETE", f"/dkusecrets/v1/tickets/{id}", key, 0), 0.0002 * (i % 5))
    for i in range(50):
        hang_up_after(server, head("GET", f"{BOTH[0]}/auth/info", "a-guess", 0), 0.0003 * (i % 5))
    left = lambda: len(server.ask("GET", "/dkusecrets/v1/tickets", basic(key))[2])
    told = lambda action: sum(1 for e in events(server) if e["action"] == action)
    refused = lambda: metrics(server)['dkusecrets_refusals_total{kind="not_authenticated"}']
    wait_for(lambda: told("ticket revoked") == count - left())
    wait_for(lambda: told("refused") == refused())
    assert left() < count and refused() > 0
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]
