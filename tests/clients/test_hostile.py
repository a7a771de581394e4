"""What somebody with a credential of this server could do to the others, and cannot."""
import json

from test_server import BOTH, basic, put
from test_sign_in import Browser, link_of, set_by_link, signed_in, with_password

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
