"""Passwords, links, sessions and budgets, against a real server."""
import concurrent.futures
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from servers import Server, dss_client, wait_for
from test_server import BOTH, basic, put

GOOD = "correct horse battery staple"
OTHER = "another horse battery staple"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OWN = {"Sec-Fetch-Site": "same-origin"}


class Browser:
    """As much of a browser as signing in needs: cookies, and what a page of the server itself says of where it is."""

    def __init__(self, server, address="127.0.0.1", **headers):
        self.server, self.cookies, self.headers, self.address = server, {}, headers, address

    def send(self, method, path, body=None, headers=OWN):
        address = urllib.parse.urlsplit(self.server.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60, source_address=(self.address, 0))
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**({"Cookie": cookie} if cookie else {}), **self.headers, **headers}
        if isinstance(body, dict):
            body = json.dumps(body)
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        for set_cookie in answer.headers.get_all("Set-Cookie") or []:
            name, value = set_cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
            if "Max-Age=0" in set_cookie:
                del self.cookies[name]
        connection.close()
        self.answered = answer.headers
        return answer.status, text

    def ask(self, method, path, body=None, headers=OWN):
        status, text = self.send(method, path, body, headers)
        return status, json.loads(text)

    def form(self, path, headers=OWN, **fields):
        return self.send("POST", path, urllib.parse.urlencode(fields), {**FORM, **headers})

    def sign_in(self, login, password, headers=OWN):
        status, answer = self.ask("POST", "/dkusecrets/v1/session", {"login": login, "password": password}, headers)
        self.csrf = answer.get("csrf")
        return status

    def change(self, method, path, body=None):
        return self.ask(method, path, body, {**OWN, "X-Dkusecrets-Csrf": self.csrf})


def link_of(server, login, *more):
    return json.loads(server.command("--json", "user", "invite", login, *more))["link"]


def set_by_link(server, link, login, password):
    code = link.partition("#")[2]
    return Browser(server).form("/link", login=login, code=code, new=password, again=password)


def with_password(server, login, password=GOOD):
    if login != "alice":
        server.user(login)
    assert set_by_link(server, link_of(server, login), login, password)[0] == 303


def signed_in(server, login, password=GOOD):
    browser = Browser(server)
    assert browser.sign_in(login, password) == 200
    return browser


def events(server, most=20):
    all = json.loads(server.command("--json", "audit", "list", "--most", str(most)))
    return [(e["action"], e["who"], e["behalf"], e["names"], e["outcome"]) for e in all]


def test_the_first_link_survives_the_start_and_holds_once(tmp_path):
    server = Server(tmp_path)
    assert "link" in server.told and "#" in server.told["link"]
    link = server.told["link"]
    assert link.startswith("/link#")
    server.start()
    try:
        status, page = Browser(server).send("GET", "/link")
        assert status == 200 and "<form" in page
        # Looking does not use it up; nor does a password that cannot be one, or another login.
        for login, password, told in [("alice", "short", 400), ("bob", GOOD, 401), ("alice", "x" * 1025, 400)]:
            assert set_by_link(server, link, login, password)[0] == told
        assert Browser(server).form("/link", login="alice", code=link.split("#")[1], new=GOOD, again=OTHER)[0] == 400
        assert set_by_link(server, link + "x", "alice", GOOD)[0] == 401
        assert set_by_link(server, link, "alice", GOOD)[0] == 303
        assert set_by_link(server, link, "alice", OTHER)[0] == 401
        browser = signed_in(server, "alice")
        assert browser.ask("GET", "/dkusecrets/v1/session")[1]["opens"]
        assert Browser(server).sign_in("alice", OTHER) == 401
        # Eight at once: one of them; two may wait for a hash, and who is one too many is told to come again.
        link = link_of(server, "alice")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            passwords = [f"{OTHER} {i}" for i in range(8)]
            told = list(pool.map(lambda password: set_by_link(server, link, "alice", password)[0], passwords))
        assert told.count(303) == 1 and set(told) <= {303, 401, 503}, told
        assert signed_in(server, "alice", passwords[told.index(303)])
        # The one before is gone when another is made.
        first, second = link_of(server, "alice"), link_of(server, "alice")
        assert set_by_link(server, first, "alice", GOOD)[0] == 401
        assert set_by_link(server, second, "alice", GOOD)[0] == 303
    finally:
        server.stop()
    content = (tmp_path / "log").read_bytes() + b"".join(f.read_bytes() for f in server.data.glob("*/*") if f.is_file())
    for secret in [link, first, second, server.told["link"]]:
        assert secret.split("#")[1].encode() not in content
    assert GOOD.encode() not in content


def test_where_a_link_leads(tmp_path):
    server = Server(tmp_path)
    assert link_of(server, "alice", "--url", "https://secrets.example.org/").startswith("https://secrets.example.org/link#")
    assert link_of(server, "alice").startswith("/link#")
    server.start()
    assert link_of(server, "alice").startswith(f"{server.url}/link#")
    assert "no user" in server.command("user", "invite", "nobody", status=1)
    server.stop()


def test_a_session_is_a_credential_of_its_own(strict):
    with_password(strict, "bob")
    browser = signed_in(strict, "bob")
    cookies = browser.answered.get_all("Set-Cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert "; HttpOnly" in cookie and "; SameSite=Strict" in cookie and "; Path=/" in cookie
        assert "Domain" not in cookie and "Secure" not in cookie
    assert len(browser.cookies["dkusecrets"]) == 43
    for prefix in BOTH:
        status, info = browser.ask("GET", f"{prefix}/auth/info?withSecrets=true")
        assert (status, info["authSource"], info["authIdentifier"], info["secrets"]) == (200, "SESSION", "bob", [])
    session = browser.ask("GET", "/dkusecrets/v1/session")[1]
    assert session["login"] == "bob" and session["opens"] and session["csrf"] == browser.csrf
    status, _ = browser.change("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})
    assert status == 200
    assert browser.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true")[1]["secrets"] == [{"key": "a", "value": "MARKER"}]
    # Nobody becomes an administrator by it.
    assert browser.ask("GET", f"{BOTH[0]}/admin/users")[0] == 403
    # A key that is shown counts, and no cookie beside it.
    assert browser.ask("GET", f"{BOTH[0]}/auth/info", headers={**OWN, **basic("dkuaps-" + "x" * 32)})[0] == 401
    # What is no session is refused, over the socket too.
    stranger = Browser(strict)
    stranger.cookies["dkusecrets"] = "x" * 43
    assert stranger.ask("GET", f"{BOTH[0]}/auth/info")[0] == 401
    refused = subprocess.run(
        ["curl", "--silent", "--unix-socket", strict.socket, "-b", "dkusecrets=x", "-H", "Sec-Fetch-Site: same-origin",
         "http://localhost/dip/publicapi/auth/info"],
        capture_output=True, text=True, check=True,
    )
    assert "sign in again" in json.loads(refused.stdout)["message"]
    # A server that was started again knows no sessions.
    strict.stop()
    strict.start()
    assert browser.ask("GET", f"{BOTH[0]}/auth/info")[0] == 401


def test_other_sites_get_nothing_and_change_nothing(strict):
    with_password(strict, "bob")
    browser = signed_in(strict, "bob")
    host = urllib.parse.urlsplit(strict.url).netloc
    token = {"X-Dkusecrets-Csrf": browser.csrf}
    other = [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""}, {"Origin": "https://evil.example.org"}, {"Origin": "null"}, {},
        # Another port of the same host, as a Shiny application has.
        {"Origin": f"http://{host.split(':')[0]}:3838"}, {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{host}"},
    ]
    setting = ("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "b"})
    for headers in other:
        assert browser.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", headers=headers)[0] == 403, headers
        assert browser.ask(*setting, {**headers, **token})[0] == 403, headers
    for headers in [OWN, {"Origin": f"http://{host}"}]:
        assert browser.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", headers=headers)[0] == 200
        # A page's own, without its token or with another's.
        for wrong in [{}, {"X-Dkusecrets-Csrf": ""}, {"X-Dkusecrets-Csrf": signed_in(strict, "bob").csrf}]:
            for method, path in [("POST", "/dkusecrets/v1/secrets/set"), ("DELETE", "/dkusecrets/v1/session"),
                                 ("PUT", f"{BOTH[0]}/current-user"), ("POST", "/dkusecrets/v1/runs")]:
                assert browser.ask(method, path, setting[2], {**headers, **wrong})[0] == 403
    assert browser.ask("GET", "/dkusecrets/v1/secrets")[1]["secrets"] == []
    assert browser.change(*setting)[0] == 200
    # Nor does another site sign anybody in, or out.
    for headers in other[:6]:
        assert Browser(strict).sign_in("bob", GOOD, headers) == 403
        assert Browser(strict).form("/sign-in", headers, login="bob", password=GOOD)[0] == 403
        assert browser.form("/sign-out", headers, csrf=browser.csrf)[0] == 403
    assert browser.form("/sign-out", csrf="")[0] == 403
    assert browser.ask("GET", f"{BOTH[0]}/auth/info")[0] == 200
    # Two different cookies: one of them is somebody else's.
    cookie = {"Cookie": f"dkusecrets=x; dkusecrets={browser.cookies['dkusecrets']}"}
    assert browser.ask("GET", f"{BOTH[0]}/auth/info", headers={**OWN, **cookie})[0] == 401


def test_what_ends_a_session(strict):
    with_password(strict, "bob")
    alive = lambda browser: browser.ask("GET", "/dkusecrets/v1/session")[0] == 200
    new = lambda: signed_in(strict, "bob")
    one, two, three = new(), new(), new()
    assert one.change("DELETE", "/dkusecrets/v1/session")[0] == 200
    assert [alive(one), alive(two)] == [False, True]
    assert two.change("DELETE", "/dkusecrets/v1/sessions")[1] == {"ended": 2}
    assert not alive(two) and not alive(three)
    # A ticket ends with the session it comes from.
    browser = new()
    ticket = browser.change("POST", f"{BOTH[0]}/auth/ticket")[1]["ticket"]
    info = lambda: strict.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", {"X-DKU-APITicket": ticket})[0]
    assert info() == 200
    key = browser.change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "x"})[1]["key"]
    other = new()
    # Wrong: the session goes on.
    body = {"password": OTHER, "new_password": OTHER}
    assert browser.change("POST", "/dkusecrets/v1/password", body)[0] == 403
    assert browser.change("POST", "/dkusecrets/v1/password", {"new_password": OTHER})[0] == 400
    assert browser.change("POST", "/dkusecrets/v1/password", {"password": GOOD, "new_password": "short"})[0] == 400
    assert alive(browser)
    assert browser.change("POST", "/dkusecrets/v1/password", {**body, "password": GOOD})[0] == 200
    assert not alive(browser) and not alive(other) and info() == 401
    # What a key is for goes on.
    assert strict.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", basic(key))[0] == 200
    assert Browser(strict).sign_in("bob", GOOD) == 401
    new = lambda: signed_in(strict, "bob", OTHER)
    # Disabled, and removed.
    with_password(strict, "alice")
    alice = signed_in(strict, "alice")
    for path in [f"{BOTH[0]}/admin/users/bob", f"{BOTH[0]}/admin/users/actions/bulk"]:
        edit = lambda enabled: {"login": "bob", "enabled": enabled}
        sent = (lambda enabled: [edit(enabled)]) if path.endswith("bulk") else edit
        browser = new()
        assert alice.change("PUT", path, json.dumps(sent(False)))[0] == 200
        assert Browser(strict).sign_in("bob", OTHER) == 401
        assert alice.change("PUT", path, json.dumps(sent(True)))[0] == 200
        # For good, though nobody has looked meanwhile.
        assert not alive(browser)
    browser = new()
    strict.command("user", "remove", "bob")
    assert not alive(browser)
    # Whoever gets the login is somebody else.
    strict.user("bob")
    assert not alive(browser) and Browser(strict).sign_in("bob", OTHER) == 401
    # A new password by a link ends all, too.
    strict.user("carol")
    set_by_link(strict, link_of(strict, "carol"), "carol", GOOD)
    carol = signed_in(strict, "carol")
    set_by_link(strict, link_of(strict, "carol"), "carol", OTHER)
    assert not alive(carol)


def test_the_page_works_without_a_script(strict):
    with_password(strict, "bob")
    browser = Browser(strict)
    status, page = browser.send("GET", "/", headers={"Sec-Fetch-Site": "none"})
    assert status == 200 and 'action="/sign-in"' in page
    policy = browser.answered["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert browser.answered["Cache-Control"] == "no-store" and browser.answered["Referrer-Policy"] == "no-referrer"
    assert browser.answered["X-Content-Type-Options"] == "nosniff"
    # What was typed is shown as text.
    status, page = browser.form("/sign-in", login='"><script>alert(1)</script>', password="x")
    assert status == 401 and "<script" not in page and "&lt;script&gt;" in page
    status, _ = browser.form("/sign-in", login="bob", password=GOOD)
    assert status == 303 and browser.answered["Location"] == "/"
    status, page = browser.send("GET", "/", headers={"Sec-Fetch-Site": "none"})
    assert "signed in as" in page and "bob" in page
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    # A key that the owner of the store has made: the page confirms it.
    key = strict.key("bob", "<b>laptop</b>")
    assert strict.ask("GET", "/dkusecrets/v1/secrets", basic(key))[0] == 403
    page = browser.send("GET", "/")[1]
    assert "&lt;b&gt;laptop" in page and "<b>laptop" not in page
    id = re.search(r'name="id" value="([^"]+)"', page)[1]
    assert browser.form("/confirm-key", csrf="x", id=id)[0] == 403
    assert browser.form("/confirm-key", csrf=csrf, id=id)[0] == 303
    assert strict.ask("GET", "/dkusecrets/v1/secrets", basic(key))[0] == 200
    status, page = browser.form("/password", csrf=csrf, password=OTHER, new=OTHER, again=OTHER)
    assert status == 403 and "wrong" in page
    assert browser.form("/password", csrf=csrf, password=GOOD, new=OTHER, again=OTHER)[0] == 303
    assert 'action="/sign-in"' in browser.send("GET", "/")[1]
    browser.form("/sign-in", login="bob", password=OTHER)
    csrf = re.search(r'name="csrf" value="([^"]+)"', browser.send("GET", "/")[1])[1]
    assert browser.form("/sign-out", csrf=csrf)[0] == 303 and "dkusecrets" not in browser.cookies
    for path in ["/sign-in", "/link", "/password"]:
        assert browser.send("POST", path, b"\xff=%ff&", FORM)[0] in (400, 401)
        assert browser.send("POST", path, b"x" * 100_000, FORM)[0] == 400


def test_behind_tls_cookies_are_bound_to_the_host(tmp_path):
    server = Server(tmp_path)
    arguments = ["serve", "--data", server.data, "--listen", "127.0.0.1:0", "--behind-tls-proxy"]
    server.process = subprocess.Popen([server.program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    server.log = open(os.devnull)
    try:
        server.url = "http://" + re.fullmatch(r"listening on (.*)\n", server.process.stdout.readline())[1]
        assert set_by_link(server, server.told["link"], "alice", GOOD)[0] == 303
        browser = signed_in(server, "alice")
        assert set(browser.cookies) == {"__Host-dkusecrets", "__Host-dkusecrets-device"}
        assert all("; Secure" in cookie for cookie in browser.answered.get_all("Set-Cookie"))
        assert browser.ask("GET", "/dkusecrets/v1/session")[0] == 200
        browser.cookies = {"dkusecrets": browser.cookies["__Host-dkusecrets"]}
        assert browser.ask("GET", "/dkusecrets/v1/session")[0] == 401
        # Who asks is the one that the proxy names last: each has a budget of his own.
        told = lambda last, login: Browser(server, **{"X-Forwarded-For": f"192.0.2.9, {last}"}).sign_in(login, OTHER)
        statuses = [told("192.0.2.1", f"nobody{i}") for i in range(40)]
        assert statuses[:30] == [401] * 30 and statuses[-1] == 429
        assert told("192.0.2.2", "nobody") == 401
    finally:
        server.stop()


def test_what_an_administrator_has_a_part_in_opens_nothing_until_confirmed(strict):
    """The rule of keys, for passwords and links."""
    def opens(browser):
        return browser.ask("GET", "/dkusecrets/v1/session")[1]["opens"], browser.ask("GET", "/dkusecrets/v1/secrets")[0]

    # Who has no secrets and is known by nothing else: the password is theirs.
    with_password(strict, "bob")
    bob = signed_in(strict, "bob")
    assert opens(bob) == (True, 200)
    assert bob.change("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})[0] == 200
    key = bob.change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "own"})[1]["key"]
    # Who has: a link that somebody else has made leads in, and opens nothing.
    assert set_by_link(strict, link_of(strict, "bob"), "bob", OTHER)[0] == 303
    thief = signed_in(strict, "bob", OTHER)
    assert opens(thief) == (False, 403)
    assert thief.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true")[0] == 403
    assert thief.ask("GET", f"{BOTH[0]}/current-user")[1]["secrets"] == []
    assert thief.change("POST", "/dkusecrets/v1/password/confirm")[0] == 403
    # It makes nothing that could do more, and changes nothing.
    for path in ["/auth/ticket", "/personal-api-keys"]:
        assert thief.change("POST", BOTH[0] + path, {"label": "x"})[0] == 403
    ids = [k["id"] for k in json.loads(strict.command("--json", "key", "list", "--user", "bob"))]
    assert thief.change("POST", "/dkusecrets/v1/keys/confirm", {"id": ids[0]})[0] == 403
    assert thief.change("DELETE", f"{BOTH[0]}/personal-api-keys/{ids[0]}")[0] == 403
    assert thief.change("PUT", f"{BOTH[0]}/current-user", {"preferences": {"a": 1}})[0] == 403
    # Nor by changing it.
    body = {"password": OTHER, "new_password": GOOD}
    assert thief.change("POST", "/dkusecrets/v1/password", body)[0] == 200
    thief = signed_in(strict, "bob", GOOD)
    assert opens(thief) == (False, 403)
    # A key that somebody else has made: bob confirms it from afar, by his own.
    by_owner = strict.key("bob", "by the owner")
    id = [k["id"] for k in json.loads(strict.command("--json", "key", "list")) if k["label"] == "by the owner"][0]
    for credential, status in [(basic(by_owner), 403), (basic(key), 200)]:
        assert strict.ask("POST", "/dkusecrets/v1/keys/confirm", credential, {"id": id})[0] == status
    assert strict.ask("GET", "/dkusecrets/v1/secrets", basic(by_owner))[0] == 200
    # Bob says that it was him, by a key of his own.
    assert strict.ask("POST", "/dkusecrets/v1/password/confirm", basic(key))[0] == 200
    assert opens(thief) == (True, 200)
    told = [e for e in events(strict, 50) if e[1] == "bob"]
    assert {"sign-in", "password set by a link", "password confirmed"} <= {e[0] for e in told}
    # What was done by a password that may be somebody else's is not said to be his.
    told = [e for e in events(strict, 50) if e[1] == "password, made by the owner of the store"]
    assert {("sign-in", "bob"), ("password changed", "bob")} <= {(e[0], e[2]) for e in told}


def test_a_password_that_an_administrator_chose(strict):
    with_password(strict, "alice")
    admin = signed_in(strict, "alice")
    new = {"login": "dave", "password": GOOD, "displayName": "Dave"}
    assert admin.change("POST", f"{BOTH[0]}/admin/users", {**new, "password": "short"})[0] == 400
    assert admin.change("POST", f"{BOTH[0]}/admin/users", new)[0] == 200
    dave = signed_in(strict, "dave")
    assert dave.ask("GET", "/dkusecrets/v1/secrets")[0] == 403
    assert dave.change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "early"})[0] == 403
    # The administrator, who knows it, gets no further.
    assert dave.change("POST", "/dkusecrets/v1/password", {"password": GOOD, "new_password": OTHER})[0] == 200
    dave = signed_in(strict, "dave", OTHER)
    assert dave.change("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})[0] == 200
    assert Browser(strict).sign_in("dave", GOOD) == 401


def test_whoever_had_an_empty_account_before_has_no_way_in(strict):
    """Somebody takes an account that nobody uses yet, and makes a key; then it gets to whom it was meant for."""
    with_password(strict, "bob")
    key = signed_in(strict, "bob").change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "x"})[1]["key"]
    ticket = strict.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[2]["ticket"]
    assert set_by_link(strict, link_of(strict, "bob"), "bob", OTHER)[0] == 303
    bob = signed_in(strict, "bob", OTHER)
    assert bob.change("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})[0] == 200
    for credential in [basic(key), {"X-DKU-APITicket": ticket}]:
        assert strict.ask("GET", "/dkusecrets/v1/secrets", credential)[0] == 403
        assert strict.ask("POST", "/dkusecrets/v1/password/confirm", credential)[0] == 403
    # A secret that was removed and can be brought back is one.
    bob.change("POST", "/dkusecrets/v1/secrets/remove", {"name": "a"})
    assert set_by_link(strict, link_of(strict, "bob"), "bob", GOOD)[0] == 303
    assert signed_in(strict, "bob").ask("GET", "/dkusecrets/v1/secrets")[0] == 403


def test_once_the_kernel_knows_a_person_it_decides(strict, account):
    """Somebody else may have set the first password: a user id that is linked later ends what it opened."""
    login, uid = account
    with_password(strict, login)
    first = signed_in(strict, login)
    key = first.change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "x"})[1]["key"]
    ticket = first.change("POST", f"{BOTH[0]}/auth/ticket")[1]["ticket"]
    assert strict.ask("GET", "/dkusecrets/v1/secrets", basic(key))[0] == 200
    # None of this says that it is the person's.
    assert first.change("POST", "/dkusecrets/v1/password/confirm")[0] == 403
    assert strict.ask("POST", "/dkusecrets/v1/password/confirm", basic(key))[0] == 400
    strict.command("user", "link", login, "--uid", uid)
    assert strict.ask_socket("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"}, uid=uid)[0] == 200
    assert first.ask("GET", "/dkusecrets/v1/secrets")[0] == 403
    assert strict.ask("GET", "/dkusecrets/v1/secrets", basic(key))[0] == 403
    assert strict.ask("GET", "/dkusecrets/v1/secrets", {"X-DKU-APITicket": ticket})[0] == 403
    # The person, on the machine, by the program: sets it, confirms it.
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", strict.program]
    tell = lambda *arguments, **more: subprocess.run(
        [*become, *arguments, "--socket", strict.socket], text=True, capture_output=True, timeout=60, **more
    )
    assert tell("password", "confirm").returncode == 0
    assert first.ask("GET", "/dkusecrets/v1/secrets")[0] == 200
    assert tell("password", "set", input="short\n").returncode == 1
    assert tell("password", "set", input=OTHER + "\n").returncode == 0
    assert first.ask("GET", "/dkusecrets/v1/secrets")[0] == 401
    assert signed_in(strict, login, OTHER).ask("GET", "/dkusecrets/v1/secrets")[0] == 200


OWN_ACTS = {
    ("key", "confirm", "x"): "/dkusecrets/v1/keys/confirm",
    ("password", "confirm"): "/dkusecrets/v1/password/confirm",
    ("password", "set"): "/dkusecrets/v1/password",
}


@pytest.mark.parametrize("act", OWN_ACTS, ids=" ".join)
def test_what_is_a_person_s_own_act_says_how_it_is_done_without_a_socket(store, act):
    typed = {"input": GOOD + "\n"}
    # No server on this machine, or at another place: the socket can be named, and there is the API.
    said = store.tell(*act, "--socket", store.socket, status=3, **typed)
    assert str(store.socket) in said and "--socket" in said and "DKUSECRETS_SOCKET" in said
    assert f"POST {OWN_ACTS[act]} with an API key of yours" in said
    # Nor does the owner of a store do it for them, whether it is served or not.
    refused = store.command(*act, "--socket", store.socket, status=1, **typed)
    assert "leave out --data" in refused
    store.start()
    assert store.command(*act, "--socket", store.socket, status=1, **typed) == refused


def test_where_acting_as_others_is_allowed_it_opens_at_once(server):
    server.user("bob")
    put(server, server.key("bob"), "a", "MARKER")
    assert set_by_link(server, link_of(server, "bob"), "bob", GOOD)[0] == 303
    assert signed_in(server, "bob").ask("GET", "/dkusecrets/v1/secrets")[0] == 200
    # And is a switch that the owner of the store can turn.
    rules = json.loads(server.command("--json", "rule", "impersonation", "off"))
    assert rules["allow_impersonation"] is False
    assert set_by_link(server, link_of(server, "bob"), "bob", OTHER)[0] == 303
    assert signed_in(server, "bob", OTHER).ask("GET", "/dkusecrets/v1/secrets")[0] == 403
    assert "acting as others forbidden" in [e[0] for e in events(server, 30)]


def test_who_is_there_and_who_is_not_is_told_the_same(strict):
    with_password(strict, "bob")
    strict.user("no-password")
    answers = []
    for login in ["bob", "no-password", "nobody", "", "x" * 500, "bob\u0000"]:
        browser = Browser(strict)
        status, text = browser.send("POST", "/dkusecrets/v1/session", {"login": login, "password": OTHER})
        answers.append((status, text, sorted(browser.answered.keys())))
    assert len(set(map(str, answers))) == 1 and answers[0][0] == 401
    told = events(strict, 6)
    assert all(e[0] == "sign-in" and e[4] == "not_authenticated" for e in told)
    # What was typed for a login may be a password: only one that is there is written down.
    assert sorted(name for e in told for name in e[3]) == ["bob", "no-password"]
    # A hash takes many times what all else does, and is computed for both.
    def quickest(login):
        times = []
        for _ in range(4):
            began = time.perf_counter()
            assert Browser(strict).sign_in(login, OTHER) == 401
            times.append(time.perf_counter() - began)
        return min(times)
    there, not_there = quickest("bob"), quickest("nobody2")
    assert there < 3 * not_there and not_there < 3 * there


def test_a_flood_locks_out_nobody_whose_browser_is_known(strict):
    """Wrong passwords from everywhere: few are tried, the owner signs in, and reads by key go on."""
    with_password(strict, "bob")
    with_password(strict, "mallory")
    bob, mallory = signed_in(strict, "bob"), signed_in(strict, "mallory")
    key = bob.change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "x"})[1]["key"]
    put(strict, key, "a", "MARKER")
    began = time.monotonic()
    # Half of them at bob, half at whoever, each from another address: this machine has 16 million of them.
    number, stop, told = itertools.count(), threading.Event(), []

    def flood():
        while not stop.is_set():
            i = next(number)
            guess = Browser(strict, f"127.{1 + i // 65536}.{i // 256 % 256}.{i % 256}")
            login = f"nobody{i}" if i % 2 else "bob"
            told.append((login, guess.sign_in(login, OTHER)))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        floods = [pool.submit(flood) for _ in range(16)]
        try:
            wait_for(lambda: ("bob", 429) in told and len(told) > 100, 60)
            # Another browser is told to wait.
            browser = Browser(strict, "127.0.0.9")
            assert browser.sign_in("bob", GOOD) in (429, 503) and int(browser.answered["Retry-After"]) in range(1, 7)
            # The one that was here before is not, as often as it likes.
            known = Browser(strict)
            known.cookies = {"dkusecrets-device": bob.cookies["dkusecrets-device"]}
            for _ in range(8):
                assert known.sign_in("bob", GOOD) == 200
            # Reads by key wait for no hash: meanwhile fewer are computed than there are reads.
            hashes = lambda: [status for _, status in told].count(401)
            before = hashes()
            for _ in range(100):
                assert strict.ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true", basic(key))[0] == 200
            assert hashes() - before < 50
            # The mark of another account's browser is none, nor is one that was made up.
            for mark in [mallory.cookies["dkusecrets-device"], bob.cookies["dkusecrets-device"][:-2] + "AA", "x"]:
                stranger = Browser(strict, "127.0.0.9")
                stranger.cookies["dkusecrets-device"] = mark
                assert stranger.sign_in("bob", GOOD) in (429, 503)
        finally:
            stop.set()
        for running in floods:
            running.result()
    seconds = time.monotonic() - began
    tried = told.count(("bob", 401))
    assert 1 <= tried <= 5 + seconds // 6 + 1, (tried, seconds)
    assert {status for _, status in told} <= {401, 429, 503}
    # A known browser may not guess without end either.
    guesses = [known.sign_in("bob", OTHER) for _ in range(12)]
    assert guesses[0] == 401 and guesses.count(401) <= 5 + seconds // 6 + 1 and guesses[-1] == 429
    # From one address no more than one address has.
    browser = Browser(strict, "127.0.0.77")
    guesses = [browser.sign_in(f"other{i}", OTHER) for i in range(45)]
    assert guesses[:30] == [401] * 30 and 429 in guesses[30:]
    assert json.loads(strict.command("--json", "audit", "verify"))["verified"]


def test_sign_ins_are_in_the_log_of_the_person(strict):
    with_password(strict, "bob")
    assert Browser(strict).sign_in("bob", OTHER) == 401
    bob = signed_in(strict, "bob")
    bob.change("DELETE", "/dkusecrets/v1/sessions")
    bob = signed_in(strict, "bob")
    told = [(e["action"], e["who"], e["outcome"], e["from"]) for e in bob.ask("GET", "/dkusecrets/v1/audit")[1]["events"]]
    assert told[:5] == [
        ("sign-in", "bob", "ok", "127.0.0.1"), ("sign-out everywhere", "bob", "ok", "127.0.0.1"),
        ("sign-in", "bob", "ok", "127.0.0.1"), ("sign-in", "nobody", "not_authenticated", "127.0.0.1"),
        ("password set by a link", "bob", "ok", "127.0.0.1"),
    ]
    strict.stop()
    content = (strict.directory / "log").read_bytes()
    for secret in [GOOD, OTHER, *bob.cookies.values(), bob.csrf]:
        assert secret.encode() not in content
    for file in strict.data.glob("*/*"):
        if file.is_file():
            assert not any(s.encode() in file.read_bytes() for s in [GOOD, OTHER, *bob.cookies.values()]), file


def test_tickets_from_a_shell(strict):
    with_password(strict, "bob")
    bob = signed_in(strict, "bob")
    made = bob.change("POST", "/dkusecrets/v1/tickets")[1]
    other = bob.change("POST", "/dkusecrets/v1/tickets")[1]
    listed = json.loads(strict.command("--json", "ticket", "list"))
    assert {t["id"] for t in listed} == {made["id"], other["id"]} and all(t["login"] == "bob" for t in listed)
    assert {t["id"] for t in bob.ask("GET", "/dkusecrets/v1/tickets")[1]} == {made["id"], other["id"]}
    assert made["ticket"] not in json.dumps(listed)
    assert json.loads(strict.command("--json", "ticket", "list", "--user", "alice")) == []
    assert made["id"] in strict.command("ticket", "list")
    strict.command("ticket", "revoke", made["id"])
    info = lambda t: strict.ask("GET", f"{BOTH[0]}/auth/info", {"X-DKU-APITicket": t["ticket"]})[0]
    assert (info(made), info(other)) == (401, 200)
    assert "no ticket" in strict.command("ticket", "revoke", made["id"], status=1)
    assert ("ticket revoked", "the owner of the store", None, [made["id"]], "ok") in events(strict, 3)
    strict.stop()
    assert json.loads(strict.command("--json", "ticket", "list")) == []


def headers_of(browser):
    return {"User-Agent": "x", "Cookie": "other=1; " + "; ".join(f"{n}={v}" for n, v in browser.cookies.items())}


@pytest.mark.parametrize("prefix", BOTH)
def test_an_application_asks_for_its_viewers_where_that_is_allowed(strict, prefix):
    strict.user("app")
    with_password(strict, "bob")
    with_password(strict, "alice")
    bob = signed_in(strict, "bob")
    bob.change("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER-bob"})
    assert set_by_link(strict, link_of(strict, "app"), "app", GOOD)[0] == 303
    app = signed_in(strict, "app").change
    made = app("POST", f"{BOTH[0]}/personal-api-keys", {"label": "app"})[1]
    key = made["key"]
    path = f"{prefix}/auth/info-from-browser-headers"
    ask = lambda credential=basic(key), path=path, headers=None: strict.ask("POST", path, credential, headers or headers_of(bob))
    # Nobody, not even an administrator, unless the owner of the store says so.
    admin = signed_in(strict, "alice").change("POST", f"{BOTH[0]}/personal-api-keys", {"label": "x"})[1]["key"]
    for route in ["info", "ticket"]:
        for credential in [basic(key), basic(admin)]:
            status, _, problem = ask(credential, f"{prefix}/auth/{route}-from-browser-headers")
            assert status == 403 and "may not ask" in problem["message"]
    assert ask({})[0] == 401
    for allowed in ["app", made["id"]]:
        rules = json.loads(strict.command("--json", "rule", "allow-headers", allowed))
        assert rules["header_callers"] == [allowed]
        status, _, info = ask()
        assert status == 200 and (info["authIdentifier"], info["via"], info["authSource"]) == ("bob", ["app"], "SESSION")
        assert "secrets" not in info
        assert ask(path=f"{path}?withSecrets=True")[2]["secrets"] == [{"key": "a", "value": "MARKER-bob"}]
        assert ask(headers={"cookie": headers_of(bob)["Cookie"], "X": None, "Y": ["z"]})[0] == 200
        assert ask(basic(admin))[0] == 403
        for nobody in [{"Cookie": "dkusecrets=x"}, {"Cookie": ""}, {"Cookie": "a=b"}, {"A": "b"}]:
            assert ask(headers=nobody)[0] == 401
        assert ask(headers=["a"])[0] == 400
        ticket = strict.ask("POST", f"{prefix}/auth/ticket-from-browser-headers", basic(key), headers_of(bob))[2]["msg"]
        read = lambda: strict.ask("POST", "/dkusecrets/v1/secrets/get", {"X-DKU-APITicket": ticket}, {"name": "a"})
        assert read()[2]["value"] == "MARKER-bob"
        # It makes nothing that would outlive it.
        for route in [f"{BOTH[0]}/personal-api-keys", "/dkusecrets/v1/password", "/dkusecrets/v1/password/confirm"]:
            assert strict.ask("POST", route, {"X-DKU-APITicket": ticket}, {"label": "x", "new_password": OTHER})[0] == 403
        told = bob.ask("GET", "/dkusecrets/v1/audit?limit=40")[1]["events"]
        told = [(e["action"], e["who"], e["behalf"]) for e in told]
        for action in ["asked by headers", "read all", "ticket by headers", "read"]:
            assert (action, "app", "bob") in told
        strict.command("rule", "deny-headers", allowed)
        assert read()[0] == 401 and ask()[0] == 403
    # The viewer's ticket ends when the viewer signs out; what a key of nobody may is said of itself.
    strict.command("rule", "allow-headers", "app")
    ticket = strict.ask("POST", f"{prefix}/auth/ticket-from-browser-headers", basic(key), headers_of(bob))[2]["msg"]
    assert read()[0] == 200
    # A ticket that the application itself was given does as well; the application in a browser does not.
    own = strict.ask("POST", f"{BOTH[0]}/auth/ticket", basic(key))[2]["ticket"]
    assert ask({"X-DKU-APITicket": own})[0] == 200
    assert signed_in(strict, "app").change("POST", path, headers_of(bob))[0] == 403
    sent = headers_of(bob)
    bob.change("DELETE", "/dkusecrets/v1/session")
    assert read()[0] == 401 and ask(headers=sent)[0] == 401
    # What somebody else made for the application is not the application.
    assert ask(basic(strict.key("app")), headers=headers_of(signed_in(strict, "bob")))[0] == 403
    assert "neither a user nor" in strict.command("rule", "allow-headers", "nobody", status=1)


def test_dataikus_client_asks_for_viewers_and_makes_users_with_passwords(server):
    with_password(server, "bob")
    bob = signed_in(server, "bob")
    bob.change("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "MARKER"})
    server.command("rule", "allow-headers", "alice")
    code = f"""
import json, sys
sys.path.insert(0, {str(dss_client("15.2.0"))!r})
import dataikuapi
client = dataikuapi.DSSClient({server.url!r}, {server.key("alice")!r})
headers = json.loads({json.dumps(json.dumps(headers_of(bob)))})
info = client.get_auth_info_from_browser_headers(headers, with_secrets=True)
assert info["authIdentifier"] == "bob" and info["secrets"] == [{{"key": "a", "value": "MARKER"}}], info
ticket = client.get_ticket_from_browser_headers(headers)
assert isinstance(ticket, str) and len(ticket) > 20
client.create_user("carol", {GOOD!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert signed_in(server, "carol").ask("GET", "/dkusecrets/v1/secrets")[0] == 200
