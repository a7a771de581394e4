"""What code written for DSS does with Dataiku's own client, run in a process of its own with the version of it that is to
be tried: dss_client.py <url> <key of an administrator> <key of bob>. Prints nothing; what fails raises."""
import sys

import dataikuapi
from dataikuapi.utils import DataikuException

url, admin_key, bob_key = sys.argv[1:]
client = dataikuapi.DSSClient(url + "/", admin_key)
bob = dataikuapi.DSSClient(url, bob_key)


def refused(words, call, *args, **more):
    try:
        call(*args, **more)
    except DataikuException as e:
        assert words in str(e), e
    else:
        raise AssertionError("it was not refused: " + words)


def secrets(of):
    return {secret["key"]: secret["value"] for secret in of.get_auth_info(with_secrets=True)["secrets"]}


# Who one is.
info = client.get_auth_info()
assert "secrets" not in info and info["authIdentifier"] == info["associatedDSSUser"] == "alice"
assert client.get_auth_info(with_secrets=True)["secrets"] == []
refused("Unknown API Key", dataikuapi.DSSClient(url, "nobody's").get_auth_info)

# One's own settings, which came with version 9 or later.
if hasattr(client, "get_own_user"):
    settings = client.get_own_user().get_settings()
    settings.add_secret("credential-for-my-api", "s3cret\nof two lines\n")
    settings.add_secret("other", "1")
    settings.save()
    settings.save()
    assert secrets(client) == {"credential-for-my-api": "s3cret\nof two lines\n", "other": "1"}

    # Replaced, kept and removed in one go; saved twice.
    settings = client.get_own_user().get_settings()
    settings.add_secret("other", "2")
    settings.save()
    settings = client.get_own_user().get_settings()
    settings.remove_secret("other")
    settings.save()
    settings.save()
    assert list(secrets(client)) == ["credential-for-my-api"]

    # Two that read the same, and then each adds one.
    first, second = client.get_own_user().get_settings(), client.get_own_user().get_settings()
    assert first.settings == second.settings
    assert "s3cret" not in str(first.settings)
    first.add_secret("one", "1")
    second.add_secret("two", "2")
    first.save()
    second.save()
    assert sorted(secrets(client)) == ["credential-for-my-api", "one", "two"]

    # Both change the same name: the second is told, and nothing of his is done.
    first, second = client.get_own_user().get_settings(), client.get_own_user().get_settings()
    first.add_secret("one", "by the first")
    second.add_secret("one", "by the second")
    second.add_secret("three", "3")
    first.save()
    refused("one was changed", second.save)
    assert secrets(client)["one"] == "by the first" and "three" not in secrets(client)
    # One removes what the other changes.
    first, second = client.get_own_user().get_settings(), client.get_own_user().get_settings()
    first.add_secret("two", "changed")
    first.save()
    second.remove_secret("two")
    refused("two was changed", second.save)

    # A token is good for its own secret only, and nothing that looks like one is stored.
    settings = client.get_own_user().get_settings()
    tokens = {secret["name"]: secret["value"] for secret in settings.settings["secrets"]}
    for value in [tokens["one"], tokens["one"].split(":")[0] + ":" + "0" * 64]:
        settings.add_secret("two", value)
        refused("token", settings.save)
    # What is not one's own to change stays.
    settings = client.get_own_user().get_settings()
    settings.settings["groups"] = ["administrators", "others"]
    settings.settings["login"] = "bob"
    settings.settings["userProperties"]["colour"] = "blue"
    settings.save()
    assert client.get_own_user().get_settings().settings["userProperties"] == {"colour": "blue"}
    assert client.get_auth_info()["groups"] == ["administrators"]
    # A document without a revision adds, and deletes nothing.
    settings = client.get_own_user().get_settings()
    del settings.settings["dkusecretsRevision"]
    settings.settings["secrets"] = [{"name": "late", "value": "v", "secret": True}]
    settings.save()
    assert set(secrets(client)) == {"credential-for-my-api", "one", "two", "late"}

    # The documented snippet.
    auth_info = client.get_auth_info(with_secrets=True)
    secret_value = None
    for secret in auth_info["secrets"]:
        if secret["key"] == "credential-for-my-api":
            secret_value = secret["value"]
    assert secret_value == "s3cret\nof two lines\n"

# People and groups.
assert {user["login"] for user in client.list_users()} >= {"alice", "bob"}
refused("administrators", bob.list_users)
client.create_group("group", "what for")
refused("already exists", client.create_group, "group")
assert {"group", "administrators"} <= {group["name"] for group in client.list_groups()}
client.create_user("carol", "", display_name="Carol", groups=["group"])
refused("already exists", client.create_user, "carol", "")
refused("there is no group", client.create_user, "dave", "", groups=["missing"])
refused("there is no user", client.get_user("nobody").get_definition)
definition = client.get_user("carol").get_definition()
assert definition["displayName"] == "Carol" and definition["secrets"] == []
definition["email"] = "carol@example.org"
client.get_user("carol").set_definition(definition)
assert client.get_user("carol").get_definition() == {**definition, "email": "carol@example.org"}
# The secrets of somebody else are not an administrator's to set.
definition["secrets"] = [{"name": "planted", "value": "x", "secret": True}]
refused("theirs", client.get_user("carol").set_definition, definition)
if hasattr(client, "create_users"):
    done = client.create_users([{"login": "erin", "displayName": "Erin", "password": ""}, {"login": "carol", "password": ""}])
    assert [one["status"] for one in done] == ["SUCCESS", "FAILURE"]
    done = client.edit_users([{"login": "erin", "email": "e@x"}, {"login": "nobody", "email": "e@x"}])
    assert [one["status"] for one in done] == ["SUCCESS", "FAILURE"]
    assert [one["status"] for one in client.delete_users(["erin", "nobody"])] == ["SUCCESS", "FAILURE"]
if hasattr(client.get_user("carol"), "get_activity"):
    assert client.get_user("carol").get_activity().get_raw()["lastSuccessfulLogin"] == 0
    assert any(one.get_raw()["lastSuccessfulLogin"] > 0 for one in client.list_users_activity())

# Keys.
if hasattr(client, "create_personal_api_key"):
    # The description came later.
    words = ["label", "description"][: client.create_personal_api_key.__code__.co_argcount - 1]
    made = client.create_personal_api_key(*words)
    made = made if isinstance(made, dict) else made.get_definition()
    key = made["key"]
    again = dataikuapi.DSSClient(url, key)
    assert again.get_auth_info()["authIdentifier"] == "alice"
    # Version 9 makes keys and cannot list them.
    if hasattr(client, "list_personal_api_keys"):
        listed = client.list_personal_api_keys()
        assert made["id"] in [one["id"] if isinstance(one, dict) else one.id for one in listed]
        client.get_personal_api_key(made["id"]).delete()
        refused("Unknown API Key", again.get_auth_info)
client.create_global_api_key("label", "description", admin=False)
assert len(client.list_global_api_keys()) >= 1

# Acting as somebody else.
acting = client.get_user("bob").get_client_as()
assert acting.get_auth_info()["authIdentifier"] == "bob"
assert acting.get_auth_info(with_secrets=True)["secrets"] == []
refused("not allowed", bob.get_user("alice").get_client_as().get_auth_info)

client.log_custom_audit("type", {"a": 1})
client.get_user("carol").delete()
client.get_group("group").delete()
refused("yourself", client.get_user("alice").delete)
