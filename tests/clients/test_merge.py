"""Two who change one person's secrets at once, one of them by a document of settings that was read before."""
import pytest

from test_server import BOTH, basic, put

CURRENT = f"{BOTH[0]}/current-user"


@pytest.fixture
def bob(server):
    """What bob asks of the server."""
    server.user("bob")
    key = server.key("bob")
    put(server, key, "a", "one")
    put(server, key, "k", "kept")

    def ask(method, path, body=None):
        return server.ask(method, path, basic(key), body)[::2]

    ask.rename = lambda name, new: ask("POST", "/dkusecrets/v1/secrets/rename", {"name": name, "new_name": new})
    ask.all = lambda: {
        s["key"]: s["value"] for s in ask("GET", f"{BOTH[0]}/auth/info?withSecrets=true")[1]["secrets"]
    }
    return ask


def edited(document, **changes):
    """The document with other values, None for a secret that is left out."""
    left = [dict(s) for s in document["secrets"] if changes.get(s["name"], "") is not None]
    for secret in left:
        secret["value"] = changes.get(secret["name"], secret["value"])
    new = [{"name": n, "value": v} for n, v in changes.items() if v and n not in [s["name"] for s in left]]
    return {**document, "secrets": left + new}


def test_a_secret_that_was_renamed_meanwhile_stays(bob):
    document = bob("GET", CURRENT)[1]
    assert bob.rename("a", "b")[0] == 200
    status, after = bob("PUT", CURRENT, document)
    assert status == 200 and [s["name"] for s in after["secrets"]] == ["b", "k"]
    assert bob("PUT", CURRENT, edited(document, k="new"))[0] == 200
    assert bob.all() == {"b": "one", "k": "new"}


def test_a_secret_that_was_renamed_meanwhile_and_changed_is_a_conflict(bob):
    document = bob("GET", CURRENT)[1]
    assert bob.rename("a", "b")[0] == 200
    # Changed, removed, or given the same name and another value.
    for other in [{"a": "two"}, {"a": None}, {"a": None, "b": "two"}, {"b": "two"}]:
        status, problem = bob("PUT", CURRENT, edited(document, **other))
        assert (status, problem["kind"]) == (409, "conflict"), other
    assert bob.all() == {"b": "one", "k": "kept"}
    # Two who did the same.
    assert bob("PUT", CURRENT, edited(document, a=None, b="one"))[0] == 200
    assert bob.all() == {"b": "one", "k": "kept"}


def test_names_that_were_exchanged_or_used_again_meanwhile(bob):
    document = bob("GET", CURRENT)[1]
    for name, new in [("a", "x"), ("k", "a"), ("x", "k")]:
        assert bob.rename(name, new)[0] == 200
    assert bob("PUT", CURRENT, document)[0] == 200
    assert bob.all() == {"a": "kept", "k": "one"}
    assert bob("PUT", CURRENT, edited(document, a=None))[0] == 409
    document = bob("GET", CURRENT)[1]
    assert bob.rename("a", "b")[0] == 200
    assert bob("POST", "/dkusecrets/v1/secrets/set", {"name": "a", "value": "another"})[0] == 200
    assert bob("PUT", CURRENT, document)[0] == 200
    assert bob("PUT", CURRENT, edited(document, a="two"))[0] == 409
    assert bob.all() == {"a": "another", "b": "kept", "k": "one"}
    # Renamed there and back: as if nothing had been.
    document = bob("GET", CURRENT)[1]
    assert bob.rename("b", "y")[0] == bob.rename("y", "b")[0] == 200
    assert bob("PUT", CURRENT, edited(document, b=None))[0] == 200
    assert bob.all() == {"a": "another", "k": "one"}
