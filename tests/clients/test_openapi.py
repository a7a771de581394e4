"""The server's own description of itself, /openapi.json, held against what the server does, by schemathesis."""
import base64
import http.client
import json
import pathlib
import subprocess
import sys

import pytest

RUN = "/dkusecrets/v1/runs"


def basic(key):
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


def test_the_document_is_for_everybody_and_holds_nothing_of_the_store(server):
    server.user("zoltan")
    status, headers, document = server.ask("GET", "/openapi.json")
    assert status == 200 and headers["content-type"] == "application/json"
    assert document["openapi"].startswith("3.1") and "zoltan" not in json.dumps(document)
    assert set(document["components"]["securitySchemes"]) == {"key", "bearer", "ticket"}
    # Whoever asks, and with whatever.
    assert server.ask("GET", "/openapi.json", basic("wrong"))[2] == document
    for prefix in ["/dip/publicapi", "/public/api"]:
        assert "get" in document["paths"][f"{prefix}/auth/info"]
    assert "post" in document["paths"][RUN]


def test_what_is_asked_in_a_wrong_way_is_told_so_in_json(server):
    key = basic(server.key("alice"))
    host = server.url.removeprefix("http://")

    def ask(method, path, body=None):
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request(method, path, body, key)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())

    for method, path, allowed in [("PATCH", "/dip/publicapi/users", "GET"), ("GET", "/dkusecrets/v1/secrets/get", "POST")]:
        status, headers, problem = ask(method, path)
        assert (status, problem["kind"]) == (405, "no_route")
        assert allowed in headers["Allow"]
    for path, named in [
        ("/dip/publicapi/auth/info?withSecrets=yes", "withSecrets"),
        ("/dkusecrets/v1/audit?limit=-1", "limit"),
        ("/dip/publicapi/users/%ff", "path"),
    ]:
        status, _, problem = ask("GET", path)
        assert status == 400 and named in problem["message"], path
    # An array is not taken for the fields of an object in their order.
    for method, path, body in [
        ("POST", "/dip/publicapi/personal-api-keys", b' ["label", "description"]'),
        ("PUT", "/dip/publicapi/current-user", b"[]"),
        ("PUT", "/dip/publicapi/current-user", b'{"secrets": [["name", "value"]]}'),
        ("POST", "/dip/publicapi/admin/users/actions/bulk", b'[["somebody"]]'),
        ("POST", "/dkusecrets/v1/secrets/set", b'["name", "value"]'),
    ]:
        assert ask(method, path, body)[0] == 400, body
    assert ask("GET", "/dkusecrets/v1/secrets")[2]["secrets"] == []
    assert len(ask("GET", "/dip/publicapi/personal-api-keys")[2]) == 1


@pytest.mark.parametrize("who", ["alice", "bob", None])
def test_the_server_does_what_the_document_says(server, tmp_path, who):
    """As an administrator, as somebody else, and as nobody."""
    server.user("bob")
    key = server.key(who) if who else None
    program = pathlib.Path(sys.executable).with_name("python")
    checks = [
        # What is right in its form may be wrong all the same: a day that is over, the last administrator.
        "--checks=all", "--exclude-checks=positive_data_acceptance",
        # Its answer does not end; test_server.py has it.
        f"--exclude-path={RUN}",
        # The same functions as under the other prefix; the matrix (test_isolation.py) asks under both.
        "--exclude-path-regex=^/public/api/",
        "--phases=coverage,fuzzing", "--max-examples=5", "--seed=1", "--generation-database=none",
        "--continue-on-failure", "--request-timeout=10", "--workers=1", "--no-color",
    ]
    if key:
        checks.append(f"--auth={key}:")
    code = "from schemathesis.cli import schemathesis; schemathesis()"
    done = subprocess.run(
        [program, "-c", code, "run", f"{server.url}/openapi.json", *checks],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    # Nothing of that has taken the key away, or harmed the store.
    if key:
        assert server.ask("GET", "/dip/publicapi/auth/info", basic(key))[0] == 200
    assert json.loads(server.command("--json", "audit", "verify"))["verified"]
