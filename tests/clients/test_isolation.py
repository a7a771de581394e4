"""Nobody reads what is not theirs: fifty people ask every route of /openapi.json for their own, for somebody else's, for
the administrator's and for what is not there, with every kind of credential that holds and that does not."""
import base64
import itertools
import json
import os
import random
import re
import socket as sockets
import subprocess
import threading
import time

import pytest

from servers import Server, reachable

# The same names each time: by chance a name of one's own is so like another's that the answer suggests it, which is no leak
# but makes the answer another.
CHANCE = random.Random(1)


def token_hex(length):
    return CHANCE.randbytes(length).hex()


PEOPLE = 50
SIGNED_IN = 20
DSS = ["/dip/publicapi", "/public/api"]
OURS = "/dkusecrets/v1"
# Its answer does not end: asked by itself, at the end of this file.
RUN = ("POST", f"{OURS}/runs")


class Person:
    """What there is of one person; `mark` is in all of it, and in nothing else."""

    def __init__(self, login):
        self.mark = login
        self.login = login
        # None is close to another, which a refusal would tell: of one's own.
        self.secret = f"{token_hex(12)}-{self.mark}"
        self.value = f"VALUE-of-{self.mark}-{token_hex(8)}"
        self.spare = f"{token_hex(12)}-{self.mark}"
        # Of the right form and length, for somebody who is not there; the server gives the others theirs.
        self.key_id, self.ticket_id, self.global_id = (token_hex(8) for _ in range(3))
        self.group = f"group-{token_hex(4)}"
        self.token = None
        self.session = token_hex(32)

    def sent(self):
        """What a request about this person says, and its answer may repeat."""
        said = [self.login, self.secret, self.spare, self.key_id, self.ticket_id, self.global_id, self.group, self.token]
        # The longest first: one may be in another.
        return sorted(filter(None, said), key=len, reverse=True)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def named(who, of):
    """The secret that is meant: of one's own, one that may be destroyed."""
    return {"name": of.spare if who is of else of.secret}


# The body of each route that has one: by who asks, and whose it is to be about. A route that is missing here fails the test.
BODIES = {
    ("POST", "/auth/ticket"): None,
    ("PUT", "/current-user"): lambda who, of: {
        "login": of.login, "displayName": "taken", "groups": ["administrators"],
        **({} if who is of else {"secrets": [{"name": of.secret, "value": of.token, "secret": True}]}),
    },
    ("POST", "/admin/users"): lambda who, of: {"login": of.login, "displayName": "taken"},
    ("POST", "/admin/users/actions/bulk"): lambda who, of: [{"login": of.login}],
    ("PUT", "/admin/users/actions/bulk"): lambda who, of: [{"login": of.login, "displayName": "taken"}],
    ("DELETE", "/admin/users/actions/bulk"): lambda who, of: [of.login],
    ("PUT", "/admin/users/{login}"): lambda who, of: {
        "displayName": "taken", "secrets": [{"name": of.secret, "value": "taken", "secret": True}]
    },
    ("DELETE", "/admin/users/{login}"): None,
    ("POST", "/admin/groups"): lambda who, of: {"name": of.group},
    ("PUT", "/admin/groups/{name}"): lambda who, of: {"name": of.group, "description": "taken"},
    ("DELETE", "/admin/groups/{name}"): None,
    ("POST", "/personal-api-keys"): lambda who, of: {"label": "made", "user": of.login},
    ("POST", "/auth/personal-api-keys"): lambda who, of: {"label": "made", "user": of.login},
    ("PUT", "/personal-api-keys/{id}"): lambda who, of: {"label": "taken"},
    ("DELETE", "/personal-api-keys/{id}"): None,
    ("POST", "/admin/personal-api-keys"): lambda who, of: {"user": of.login},
    ("DELETE", "/admin/personal-api-keys/{id}"): None,
    **{
        (method, path): body
        for keys in ["/admin/global-api-keys", "/admin/globalAPIKeys"]
        for method, path, body in [
            ("POST", keys, lambda who, of: {"label": "made", "globalPermissions": {"admin": True}}),
            ("PUT", keys + "/{id}", lambda who, of: {"globalPermissions": {"admin": True}}),
            ("DELETE", keys + "/{id}", None),
        ]
    },
    ("POST", "/admin/audit/custom/{type}"): lambda who, of: {"about": of.login},
    ("POST", "/secrets/get"): named,
    ("POST", "/secrets/versions"): named,
    ("POST", "/secrets/set"): lambda who, of: {**named(who, of), "value": who.value},
    ("POST", "/secrets/describe"): lambda who, of: {**named(who, of), "description": "described"},
    ("POST", "/secrets/remove"): named,
    ("POST", "/secrets/restore"): named,
    ("POST", "/secrets/rename"): lambda who, of: {**named(who, of), "new_name": named(who, of)["name"] + "-"},
    ("POST", "/secrets/purge"): named,
    ("POST", "/keys/confirm"): lambda who, of: {"id": of.key_id},
    **{
        ("POST", f"/auth/{what}-from-browser-headers"): lambda who, of: {"Cookie": f"dkusecrets={of.session}"}
        for what in ["info", "ticket"]
    },
    ("POST", "/session"): lambda who, of: {"login": of.login, "password": "a password that is wrong"},
    ("DELETE", "/session"): None,
    ("DELETE", "/sessions"): None,
    ("POST", "/password"): lambda who, of: {"new_password": "a password that is new"},
    ("POST", "/password/confirm"): None,
    ("POST", "/tickets"): None,
    ("DELETE", "/tickets/{id}"): None,
    ("POST", "/owner"): lambda who, of: {"command": "user_remove", "login": of.login},
}
# They end the session that others of these requests come with, or use up what may be tried in a minute, and name nobody but
# the caller, or answer alike for everybody: test_sign_in.py asks them.
ALONE = [("POST", "/session"), ("DELETE", "/session"), ("DELETE", "/sessions"), ("POST", "/password")]
# In this order, so that what is asked of a secret of that name is asked while one is there, too.
ABSENT = ["get", "describe", "remove", "restore", "versions", "rename", "purge"]
SECRETS = [*ABSENT, "set", "get", "describe", "remove", "restore", "versions", "rename", *ABSENT]


class Route:
    def __init__(self, method, path, operation):
        self.method, self.path, self.operation = method, path, operation
        self.open = operation.get("security") == []
        self.administrators = "/admin/" in path or path.endswith(("/users", "/owner"))
        prefix = next((prefix for prefix in [*DSS, OURS] if path.startswith(prefix + "/")), "")
        self.short = path.removeprefix(prefix)
        self.alone = (method, self.short) in ALONE
        if method == "GET":
            self.body = None
        else:
            assert (method, self.short) in BODIES, f"{method} {path} has no case in the matrix: give it one"
            self.body = BODIES[method, self.short]

    def request(self, who, of):
        """Method, path and body of this, asked by `who` about `of`."""
        in_path = {
            "login": of.login, "name": of.group, "type": of.login,
            "id": of.ticket_id if "/tickets/" in self.path else of.global_id if "lobal" in self.path else of.key_id,
        }
        path = self.path.format(**in_path)
        for parameter in self.operation["parameters"]:
            if parameter["in"] == "query":
                path += f"?{parameter['name']}={'true' if parameter['schema']['type'] == 'boolean' else 100}"
        body = self.body and json.dumps(self.body(who, of))
        return self.method, path, body


class Connection:
    """One kept-alive connection. Requests are sent many at a time, as HTTP/1.1 allows: their answers come in order."""

    def __init__(self, url=None, path=None):
        if path:
            self.socket = sockets.socket(sockets.AF_UNIX)
            self.socket.connect(str(path))
        else:
            host, port = url.removeprefix("http://").split(":")
            self.socket = sockets.create_connection((host, int(port)))
        self.socket.settimeout(60)
        self.file = self.socket.makefile("rb")

    def ask(self, requests, at_once=32):
        answers = []
        for start in range(0, len(requests), at_once):
            part = requests[start:start + at_once]
            self.socket.sendall(b"".join(self.bytes(*request) for request in part))
            answers += [self.answer() for _ in part]
        return answers

    @staticmethod
    def bytes(method, path, body, headers):
        body = (body or "").encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def answer(self):
        """Status, headers and body, the latter two as they were sent but for the date and the number of the request."""
        status = int(self.file.readline().split()[1])
        head = b"".join(itertools.takewhile(lambda line: line != b"\r\n", self.file))
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        return status, re.sub(rb"(?i)(date|dkusecrets-request): .*\r\n", b"", head).decode(), self.file.read(length).decode()

    def close(self):
        self.file.close()
        self.socket.close()


def in_threads(work, items, threads=4):
    """`work(item, connection)` for all, by some threads, each with a connection of its own; what fails fails here."""
    todo, failed = iter(items), []
    lock = threading.Lock()

    def run():
        connection = Connection(STORE.server.url)
        try:
            while not failed:
                with lock:
                    item = next(todo, None)
                if item is None:
                    return
                work(item, connection)
        except BaseException as e:
            failed.append(e)
        finally:
            connection.close()

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        raise failed[0]


class Store:
    """A server with fifty people, what each of them has, and their credentials."""

    def __init__(self, directory):
        self.server = Server(reachable(directory), "--allow-impersonation").start()

    def fill(self):
        self.connection = Connection(self.server.url)
        # All of one length, so that nothing but what was sent differs: "alice" is the administrator's.
        self.people = [Person(f"q{token_hex(4)}") for _ in range(PEOPLE - 1)]
        self.alice = Person("alice")
        self.everybody = [self.alice, *self.people]
        self.ghost = Person(f"q{token_hex(4)}")
        self.ghost_key = f"dkuaps-{token_hex(16)}"
        alice = bearer(self.server.key("alice"))
        document = self.ask("GET", "/openapi.json")
        self.routes = [
            Route(method.upper(), path, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if (method.upper(), path) != RUN
        ]
        soon = lambda: int(time.time() * 1000) + 3000
        self.ask("POST", f"{DSS[0]}/admin/users/actions/bulk", [
            {"login": p.login, "displayName": f"SHOWN-{p.mark}", "email": f"{p.mark}@example.org"} for p in self.people
        ], alice)
        group = f"group-{token_hex(4)}"
        self.ask("POST", f"{DSS[0]}/admin/groups", {"name": group}, alice)
        global_id = self.ask("POST", f"{DSS[0]}/admin/global-api-keys", {"label": "of nobody"}, alice)["id"]
        # What no longer holds, of each person: what is in the headers.
        self.over = {}
        for p in self.everybody:
            p.group, p.global_id = group, global_id
            make = lambda label, **more: self.ask(
                "POST", f"{DSS[0]}/admin/personal-api-keys", {"user": p.login, "label": f"{label}-{p.mark}", **more}, alice
            )
            key = make("kept")
            p.key_id, p.key = key["id"], bearer(key["key"])
            p.ticket = {"X-DKU-APITicket": self.ask("POST", f"{DSS[0]}/auth/ticket", None, p.key)["ticket"]}
            p.ticket_id = self.ask("POST", f"{OURS}/tickets", None, p.key)["id"]
            for name in [p.secret, p.spare]:
                self.ask("POST", f"{OURS}/secrets/set", {"name": name, "value": p.value}, p.key)
            document = self.ask("PUT", f"{DSS[0]}/current-user", {"userProperties": {"of": f"PROPERTY-{p.mark}"}}, p.key)
            p.token = {secret["name"]: secret["value"] for secret in document["secrets"]}[p.secret]
            revoked, expired = make("revoked"), make("expired", expiresOn=soon())
            ticket = {"X-DKU-APITicket": self.ask("POST", f"{DSS[0]}/auth/ticket", None, bearer(revoked["key"]))["ticket"]}
            own = self.ask("POST", f"{OURS}/tickets", None, p.key)
            self.ask("DELETE", f"{OURS}/tickets/{own['id']}", None, p.key)
            self.ask("DELETE", f"{DSS[0]}/admin/personal-api-keys/{revoked['id']}", None, alice)
            self.over[p] = {
                "expired key": bearer(expired["key"]),
                "revoked key": bearer(revoked["key"]),
                "revoked ticket": {"X-DKU-APITicket": own["ticket"]},
                "ticket of a revoked key": ticket,
                "acting without a credential": {"X-DKU-ProxyUser": p.login},
                "wrong key, acting": {**bearer(self.ghost_key), "X-DKU-ProxyUser": p.login},
                "login as key": {"Authorization": "Basic " + base64.b64encode(f"{p.login}:".encode()).decode()},
            }
        self.ghost.token = self.alice.token[:-8] + "AAAAAAAA"
        time.sleep(3.1)
        # Every kind of credential that holds: a further kind goes here, and one that no longer holds into `over`.
        self.holds = {p: {"key": p.key, "ticket": p.ticket} for p in self.everybody}
        # So many as may sign in from one address in a minute, with room.
        for p in self.people[:SIGNED_IN]:
            self.holds[p]["session"] = self.sign_in(p)

    def sign_in(self, p):
        """What a browser's requests have, in which the person has signed in."""
        password = f"a password of {p.mark}"
        self.ask("POST", f"{OURS}/password", {"new_password": password}, p.key)
        body = json.dumps({"login": p.login, "password": password})
        status, head, answer = self.connection.ask([("POST", f"{OURS}/session", body, {})])[0]
        assert status == 200, answer
        p.session = re.search(r"(?i)set-cookie: dkusecrets=([^;]+)", head)[1]
        csrf = json.loads(answer)["csrf"]
        return {"Cookie": f"dkusecrets={p.session}", "Sec-Fetch-Site": "same-origin", "X-Dkusecrets-Csrf": csrf}

    def ask(self, method, path, body=None, headers={}):
        status, _, answer = self.connection.ask([(method, path, body and json.dumps(body), headers)])[0]
        assert status == 200, (method, path, answer)
        return json.loads(answer)

    def marks(self, text, but):
        """Whose marks are in a text, but for some."""
        return {mark for mark in re.findall(r"q[0-9a-f]{8}", text)} - {p.mark for p in but} - {self.ghost.mark}


STORE = None


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    global STORE
    STORE = Store(tmp_path_factory.mktemp("isolation"))
    try:
        STORE.fill()
        yield STORE
        STORE.connection.close()
    finally:
        STORE.server.stop()


def without(text, of):
    """An answer without what was sent about `of`."""
    for sent in of.sent():
        text = text.replace(sent, "·" * 8)
    return text


def test_what_holds_no_longer_tells_nothing(store):
    """Without a credential that holds, every route gives the same refusal to the byte, whoever and whatever it is about."""
    same = {
        "none": {}, "wrong key": bearer(store.ghost_key), "wrong ticket": {"X-DKU-APITicket": token_hex(16)},
        "no key at all": {"Authorization": "Bearer"},
        "wrong session": {"Cookie": f"dkusecrets={token_hex(32)}", "Sec-Fetch-Site": "same-origin"},
    }
    seen = {}

    def work(of, connection):
        routes = [route for route in store.routes if not route.open]
        for name, headers in [*same.items(), *store.over[of].items()]:
            answers = connection.ask([(*route.request(of, of), headers) for route in routes])
            assert {status for status, _, _ in answers} == {401}, name
            seen.setdefault(name, set()).update(answers)

    in_threads(work, store.everybody)
    assert len(seen) == 12
    for name, answers in seen.items():
        assert len(answers) == 1, (name, answers)
    # And an expired key is as a wrong one, a revoked ticket as a wrong one.
    keys = ["wrong key", "expired key", "revoked key", "no key at all", "login as key", "wrong key, acting"]
    tickets = ["wrong ticket", "revoked ticket", "ticket of a revoked key"]
    for alike in [keys, tickets, ["none", "acting without a credential"]]:
        assert len(set.union(*(seen[name] for name in alike))) == 1


def asked(store, who, headers, ask, number):
    """Everything `who` can ask about others; nothing of theirs comes back, nor whether it is there."""
    by = {(route.method, route.path): route for route in store.routes}
    order = [route for route in store.routes if not route.alone and not route.path.startswith(f"{OURS}/secrets/")]
    order += [by["POST", f"{OURS}/secrets/{name}"] for name in SECRETS]
    answers_about = {}
    others = [person for person in store.people if person is not who]
    for kind in ["other", "alice", "ghost"]:
        pick = {"other": lambda i: others[(number + i) % len(others)], "alice": lambda i: store.alice, "ghost": lambda i: store.ghost}
        # A secret is asked for through all of its routes; for the rest each route is about another person.
        about = [pick[kind](0 if "/secrets/" in route.path else i) for i, route in enumerate(order)]
        answers = ask([(*route.request(who, of), headers) for route, of in zip(order, about)])
        for route, of, (status, head, body) in zip(order, about, answers):
            # One's own log repeats the names that one has asked for; that it begins without any was looked at before.
            log = route.path == f"{OURS}/audit"
            assert log or not store.marks(head + without(body, of), [who]), (who.login, route.method, route.path, of.login, body)
            assert "VALUE-" not in body.replace(who.value, ""), (route.method, route.path)
            if route.administrators:
                assert status == 403, (route.method, route.path, status, body)
        # What was renamed is one's own now; it goes, so that the next is asked in the same state.
        name = json.dumps({"name": about[-1].secret + "-"})
        gone = ask([("POST", f"{OURS}/secrets/{step}", name, headers) for step in ["remove", "purge"]])
        assert [status for status, _, _ in gone] == [200, 200], gone
        answers_about[kind] = [
            # Keys and tickets that were made are new each time, and so are times.
            (status, head, re.sub(r'"(id|key|ticket|createdOn|created)":("[^"]*"|\d+)', "", without(body, of)))
            for of, (status, head, body) in zip(about, answers)
        ]
    for route, other, alice, ghost in zip(order, *(answers_about[kind] for kind in ["other", "alice", "ghost"])):
        if route.request(who, others[0]) == route.request(who, store.ghost):
            # About oneself only, and one's log and keys grow.
            continue
        assert other == ghost, (who.login, route.method, route.path)
        # The login of the administrator is shorter, and with it the answer.
        assert alice[0] == ghost[0] and alice[2] == ghost[2], (who.login, route.method, route.path)


def test_people_reach_their_own_and_nobody_else_s(store):
    """Forty-nine people, with a key, with a ticket, some in a browser, and acting as somebody else, which they may not."""

    def work(person, connection):
        for headers in store.holds[person].values():
            for prefix in DSS:
                request = ("GET", f"{prefix}/auth/info?withSecrets=true", None, headers)
                status, _, info = connection.ask([request])[0]
                assert status == 200 and person.value in info and not store.marks(info, [person])
            own = [
                (*route.request(person, person), headers)
                for route in store.routes
                if not (route.alone or route.method == "DELETE" and "api-keys" in route.path)
            ]
            for (method, path, _, _), (status, head, body) in zip(own, connection.ask(own)):
                assert not store.marks(head + body, [person]), (method, path, body)
                assert status < 500
            # The spare one was purged by that.
            spare = json.dumps({"name": person.spare, "value": person.value})
            connection.ask([("POST", f"{OURS}/secrets/set", spare, headers)])
        for headers in store.holds[person].values():
            asked(store, person, headers, connection.ask, store.people.index(person))
        # Acting as somebody who is there, as somebody who is not, and as an administrator is refused alike.
        refused = set()
        for of in [store.people[(store.people.index(person) + 1) % len(store.people)], store.ghost, store.alice]:
            acting = {**person.key, "X-DKU-ProxyUser": of.login}
            refused |= set(connection.ask([(*r.request(person, of), acting) for r in store.routes if not r.open]))
        assert {status for status, _, _ in refused} == {403} and len(refused) == 1

    in_threads(work, store.people)


def test_an_administrator_sees_who_there_is_and_no_secret(store):
    """Not the name of one either; what is theirs to do is tested elsewhere, so of that only what changes nothing is asked."""
    harmless = lambda route: route.method == "GET" or not route.administrators or route.path.endswith("/users/{login}") and route.method == "PUT"
    routes = [route for route in store.routes if harmless(route) and not route.alone and not (route.method == "DELETE" and "api-keys" in route.path)]

    def work(of, connection):
        for headers in [store.alice.key]:
            for route, (status, head, body) in zip(routes, connection.ask([(*r.request(store.alice, of), headers) for r in routes])):
                assert of.value not in head + body, (route.method, route.path)
                asked_for = route.path.startswith(f"{OURS}/") or route.method == "PUT"
                assert asked_for or of.secret not in head + body, (route.method, route.path)
                if route.method == "PUT" and "/admin/users" in route.path:
                    assert status == 403 and "theirs" in body, body

    in_threads(work, store.people)


# Run by a process of another user id: requests as JSON lines to a socket, answers as one JSON.
AS_USER = """
import json, re, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
file = connection.makefile("rb")
answers = []
for line in sys.stdin:
    method, path, body, headers = json.loads(line)
    body = (body or "").encode()
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: x", "Content-Length: %d" % len(body)]
    lines += ["%s: %s" % header for header in headers.items()]
    connection.sendall("\\r\\n".join(lines + ["", ""]).encode() + body)
    status, head = int(file.readline().split()[1]), b""
    while not head.endswith(b"\\r\\n\\r\\n"):
        head += file.readline()
    length = int(re.search(rb"(?i)content-length: (\\d+)", head)[1])
    head = re.sub(rb"(?i)(date|dkusecrets-request): .*\\r\\n", b"", head).decode()
    answers.append((status, head, file.read(length).decode()))
print(json.dumps(answers))
"""


def as_user(uid, requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", AS_USER]
    done = subprocess.run(
        [*command, str(STORE.server.socket)], input=lines, capture_output=True, text=True, timeout=120, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return [tuple(answer) for answer in json.loads(done.stdout)]


@pytest.fixture
def accounts(store):
    """Two of the people have an account on this machine, and are known by it."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    made = store.people[:2]
    try:
        for person in made:
            subprocess.run(["useradd", "--no-create-home", person.login], check=True)
            id = subprocess.run(["id", "-u", person.login], capture_output=True, text=True, check=True)
            person.uid = int(id.stdout)
            store.server.command("user", "link", person.login, "--uid", person.uid)
        yield made
    finally:
        for person in made:
            subprocess.run(["userdel", person.login], check=False, capture_output=True)


def test_the_kernel_s_word_opens_one_s_own_only(store, accounts):
    for person in accounts:
        ask = lambda requests: as_user(person.uid, requests)
        info = ask([("GET", f"{DSS[0]}/auth/info?withSecrets=true", None, {})])[0]
        assert person.value in info[2] and not store.marks(info[2], [person])
        asked(store, person, {}, ask, store.people.index(person))
        # A credential that does not hold is refused, though the kernel knows the caller; and so is acting as another.
        for headers in store.over[accounts[0]].values():
            expected = 403 if set(headers) == {"X-DKU-ProxyUser"} and person is not accounts[0] else None
            status = ask([("GET", f"{DSS[0]}/auth/info", None, headers)])[0][0]
            own = person is accounts[0] and set(headers) == {"X-DKU-ProxyUser"}
            assert status == (200 if own else expected or 401)
    # Who has no account: the same refusal on every route, about whomever.
    routes = [route for route in store.routes if not route.open]
    for nobody in [accounts[0].uid + 54321, 33, 65534]:
        for of in [store.people[7], store.ghost]:
            answers = set(as_user(nobody, [(*route.request(of, of), {}) for route in routes]))
            assert {status for status, _, _ in answers} == {403} and len(answers) == 1
    # Root, as whom the server runs, is himself: he commands it, and has nothing of anybody.
    socket = Connection(path=store.server.socket)
    routes = [route for route in store.routes if route.method == "GET"]
    for route, (status, head, body) in zip(routes, socket.ask([(*r.request(store.ghost, store.people[3]), {}) for r in routes])):
        assert "VALUE-" not in body and not any(p.secret in body for p in store.everybody), route.path
        if route.administrators:
            assert status == 403, route.path
    socket.close()


def who_on(connection):
    return json.loads(connection.ask([("GET", f"{OURS}/info", None, {})])[0][2])["login"]


def in_child(uid, work):
    """Runs `work` in a forked child that became `uid`; what it returns, as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(write, str(work()).encode())
        except BaseException as e:
            os.write(write, f"failed: {e!r}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def test_a_connection_is_whose_who_opened_it(store, accounts):
    """The kernel names who connected, and not who uses the descriptor: whoever is handed one gains what the giver meant to
    give, and a giver gains nothing from whoever takes it."""
    one, two = accounts
    path = store.server.socket
    inherited = Connection(path=path)
    assert who_on(inherited) == "root"
    # A child that changed its user id: on what it inherited it is who opened it, on what it opens itself.
    assert in_child(one.uid, lambda: who_on(inherited)) == "root"
    assert in_child(one.uid, lambda: who_on(Connection(path=path))) == one.login
    inherited.close()

    # Handed over a socket (SCM_RIGHTS): from one person to another, and from a person to root.
    ours, theirs = sockets.socketpair()

    def hand_over():
        connection = sockets.socket(sockets.AF_UNIX)
        connection.connect(str(path))
        sockets.send_fds(theirs, [b"x"], [connection.fileno()])
        return "handed over"

    def taken(descriptor):
        connection = Connection.__new__(Connection)
        connection.socket = sockets.socket(fileno=descriptor)
        connection.socket.settimeout(60)
        connection.file = connection.socket.makefile("rb")
        return connection

    assert in_child(one.uid, hand_over) == "handed over"
    _, [descriptor], _, _ = sockets.recv_fds(ours, 1, 1)
    connection = taken(descriptor)
    # Root uses it, and then the other person: it stays the first person's.
    assert who_on(connection) == one.login
    assert in_child(two.uid, lambda: who_on(connection)) == one.login
    # No command of the store's owner goes by it, though root uses it.
    assert connection.ask([("POST", f"{OURS}/owner", '{"command": "user_list"}', {})])[0][0] == 403
    connection.close()
    ours.close()
    theirs.close()


def test_a_run_is_for_its_person_only(store):
    method, path = RUN
    for headers in [{}, bearer(store.ghost_key), store.over[store.people[0]]["revoked key"]]:
        connection = Connection(store.server.url)
        assert connection.ask([(method, path, None, headers)])[0][0] == 401
        connection.close()
    for person in store.people[:5]:
        connection = Connection(store.server.url)
        connection.socket.sendall(Connection.bytes(method, path, None, person.key))
        head = b"".join(itertools.takewhile(lambda line: line != b"\r\n", connection.file))
        assert head.startswith(b"HTTP/1.1 200")
        connection.file.readline()
        run = json.loads(connection.file.readline())
        assert run["login"] == person.login
        ticket = {"X-DKU-APITicket": run["ticket"]}
        info = json.dumps(store.ask("GET", f"{DSS[0]}/auth/info?withSecrets=true", None, ticket))
        assert person.value in info and not store.marks(info, [person])
        connection.close()


def test_after_all_of_that_everybody_has_what_they_had(store):
    """The last of this file: nobody has changed what is another's."""
    for person in store.everybody:
        info = store.ask("GET", f"{DSS[0]}/auth/info?withSecrets=true", None, person.key)
        assert {"key": person.secret, "value": person.value} in info["secrets"]
        document = store.ask("GET", f"{DSS[0]}/current-user", None, person.key)
        assert document["userProperties"] == {"of": f"PROPERTY-{person.mark}"}
        assert document["displayName"] == (f"SHOWN-{person.mark}" if person is not store.alice else "alice")
        assert document["groups"] == (["administrators"] if person is store.alice else [])
        keys = store.ask("GET", f"{DSS[0]}/personal-api-keys", None, person.key)
        assert person.key_id in [key["id"] for key in keys]
        # Nobody's values in what they were told of themselves, and nobody but them and who may in their log.
        events = store.ask("GET", f"{OURS}/audit?limit=100000", None, person.key)["events"]
        assert {event["behalf"] or event["who"] for event in events} <= {person.login, "alice", "the owner of the store"}
    users = store.ask("GET", f"{DSS[0]}/admin/users", None, store.alice.key)
    assert {user["login"] for user in users} >= {person.login for person in store.everybody}
    assert store.ghost.login not in {user["login"] for user in users}
    assert json.loads(store.server.command("--json", "audit", "verify"))["verified"]
