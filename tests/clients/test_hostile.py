"""What somebody with a credential of this server could do to the others, and cannot."""
import json
import threading

from test_server import BOTH, basic, put
from test_sign_in import GOOD, OTHER, link_of, set_by_link, signed_in, with_password

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
