"""Who may connect to the server and for how long: its listeners, TLS, and stopping."""
import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest

from servers import wait_for
from test_server import BOTH, put, secrets_of
from wire import INFO, answer_to, closed, connect, hang_up, log_text, logged, metrics


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two certificates for localhost, each its own authority: a folder with one.pem, one.key, two.pem, two.key."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ["one", "two"]:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        (folder / f"{name}.key").chmod(0o600)
    return folder


# --- Connections -------------------------------------------------------------------------------------------------


def test_who_says_nothing_or_half_a_header_is_closed_in_time(store):
    store.start()
    silent, half, kept, drip = (connect(store) for _ in range(4))
    half.sendall(INFO[:30].encode())
    assert answer_to(kept)[0] == 401
    # After the first request: half of the second one's header.
    drip_kept = connect(store)
    assert answer_to(drip_kept)[0] == 401
    drip_kept.sendall(INFO[:30].encode())
    local = socket.socket(socket.AF_UNIX)
    local.connect(str(store.socket))
    stop = threading.Event()

    def drop_by_drop():
        with contextlib.suppress(OSError):
            for byte in INFO * 20:
                if stop.wait(0.2):
                    return
                drip.sendall(byte.encode() if byte != "\n" else b" ")

    dripping = threading.Thread(target=drop_by_drop)
    dripping.start()
    began = time.monotonic()
    for connection in [silent, half, drip, drip_kept, local]:
        closed(connection, 20)
        assert 8 < time.monotonic() - began < 14
    stop.set()
    dripping.join()
    # Between requests there is more time.
    assert answer_to(kept)[0] == 401


def test_a_body_that_does_not_come_is_not_waited_for(store):
    key = store.key("alice")
    store.start()
    head = f"POST /dkusecrets/v1/secrets/set HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    connection = connect(store)
    connection.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
    began = time.monotonic()
    status, _, body = answer_to(connection, None)
    assert status == 400 and b"in time" in body and 8 < time.monotonic() - began < 14


def test_there_is_room_for_a_newcomer_while_others_are_silent(store):
    key = store.key("alice")
    put_into(store, key, {"a": "1"})
    store.start("--max-connections", "20")
    polite = connect(store)
    assert answer_to(polite)[0] == 401
    silent = [connect(store) for _ in range(200)]
    # Whoever has asked something stays, as long as there are others.
    assert answer_to(polite)[0] == 401
    assert secrets_of(store, key) == {"a": "1"}
    found = metrics(store)
    assert found["dkusecrets_connections"] <= 21 and found["dkusecrets_connections_refused_total"] == 0
    for connection in silent:
        connection.close()


def put_into(store, key, values):
    """Stores secrets by a server of its own."""
    store.start()
    for name, value in values.items():
        put(store, key, name, value)
    store.stop()


def test_when_all_are_busy_there_is_a_clear_answer(store):
    key = store.key("alice")
    store.start("--max-connections", "10")
    busy = [connect(store) for _ in range(10)]
    head = f"POST /dkusecrets/v1/secrets/set HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    for connection in busy:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
    wait_for(lambda: answer_to(connect(store))[0] == 503)
    status, headers, body = answer_to(connect(store))
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["kind"] == "unavailable"
    for connection in busy:
        connection.close()
    wait_for(lambda: answer_to(connect(store))[0] == 401)
    assert metrics(store)["dkusecrets_connections_refused_total"] >= 2


def metrics_or_none(server):
    """The metrics, if there is room."""
    with contextlib.suppress(AssertionError):
        return metrics(server)


def test_an_answer_that_nobody_takes_makes_room(store):
    key = store.key("alice")
    put_into(store, key, {f"n{i}": "x" * 60_000 for i in range(60)})
    store.start("--max-connections", "5")
    deaf = []
    for _ in range(5):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(store.address)
        request = f"GET {BOTH[0]}/auth/info?withSecrets=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        connection.sendall(request.encode())
        deaf.append(connection)
    # Until the answers are made there is room for nobody.
    wait_for(lambda: metrics_or_none(store) is not None, 30)
    # With more time those that are left go by themselves.
    wait_for(lambda: (metrics_or_none(store) or {"dkusecrets_connections": 9})["dkusecrets_connections"] <= 2, 40)
    for connection in deaf:
        connection.close()


def test_a_large_answer_arrives_whole_and_a_slow_reader_gets_it(store):
    key = store.key("alice")
    put_into(store, key, {f"n{i}": "x" * 60_000 for i in range(30)})
    store.start()
    connection = connect(store)
    request = f"GET {BOTH[0]}/auth/info?withSecrets=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
    got = b""
    while True:
        more = connection.recv(40_000)
        if not more:
            break
        got += more
        time.sleep(0.02)
    assert len(json.loads(got.split(b"\r\n\r\n", 1)[1])["secrets"]) == 30


def test_no_more_connections_than_the_limit_on_open_files_allows(store):
    command = ["sh", "-c", 'ulimit -n 700; exec "$@"', "sh", store.program, "serve", "--data", store.data]
    process = subprocess.Popen(
        [*map(str, command), "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        found = re.fullmatch(r"listening on (\S+):(\d+)\n", process.stdout.readline())
        store.address = (found[1], int(found[2]))
        kept = [connect(store) for _ in range(400)]
        assert answer_to(connect(store))[0] == 401
        assert len(kept) == 400
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=40)
    assert process.returncode == 0 and "raise the limit on open files" in errors
    assert "could not be accepted" not in errors


def test_the_kernel_asks_whether_a_silent_peer_is_still_there(store):
    store.start()
    kept = connect(store)
    assert answer_to(kept)[0] == 401
    port = kept.getsockname()[1]
    shown = subprocess.run(["ss", "-Htno", "dport", f"= :{port}"], capture_output=True, text=True, check=True).stdout
    assert "timer:(keepalive,59sec" in shown or "timer:(keepalive,1min" in shown, shown


def other_end(server, connection):
    """A copy of the server's end of a connection, which shows how the server has set it."""
    pidfd = os.pidfd_open(server.process.pid)
    try:
        for fd in os.listdir(f"/proc/{server.process.pid}/fd"):
            # pidfd_getfd(2), which Python has no function for.
            copied = LIBC.syscall(438, pidfd, int(fd), 0)
            if copied < 0:
                why = ctypes.get_errno()
                if why == errno.EBADF:
                    continue
                pytest.skip(f"no descriptor of another process can be had here: {os.strerror(why)}")
            if not stat.S_ISSOCK(os.fstat(copied).st_mode):
                os.close(copied)
                continue
            end = socket.socket(fileno=copied)
            with contextlib.suppress(OSError):
                if end.family == socket.AF_INET and end.getpeername() == connection.getsockname():
                    return end
            end.close()
    finally:
        os.close(pidfd)
    raise AssertionError("the server has no such connection")


LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_does_not_wait_for_the_one_before_to_arrive(tls, request):
    """TCP_NODELAY: without it, the second part of an answer can wait for a delayed acknowledgement, 40 ms."""
    if tls:
        server = request.getfixturevalue("served")
        context = trusting(request.getfixturevalue("certificates"), "one")
        kept = context.wrap_socket(connect(server), server_hostname="localhost")
    else:
        server = request.getfixturevalue("store").start()
        kept = connect(server)
    with kept:
        assert answer_to(kept)[0] == 401
        with other_end(server, kept) as end:
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# --- Stopping ----------------------------------------------------------------------------------------------------


def test_stopping_finishes_a_slow_request_and_waits_for_nobody_else(store):
    key = store.key("alice")
    store.start()
    body = json.dumps({"name": "late", "value": "arrived"})
    head = f"POST /dkusecrets/v1/secrets/set HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    slow, idle, silent, half = (connect(store) for _ in range(4))
    assert answer_to(idle)[0] == 401
    half.sendall(INFO[:30].encode())
    slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body[:10]}".encode())
    # It is worked on.
    wait_for(lambda: metrics(store)["dkusecrets_connections"] >= 4)
    time.sleep(0.5)
    began = time.monotonic()
    store.process.send_signal(signal.SIGTERM)
    for connection in [idle, silent, half]:
        assert closed(connection, 5) < 3
    with pytest.raises(ConnectionRefusedError):
        wait_for(lambda: connect(store).close())
    slow.sendall(body[10:].encode())
    status, headers, answer = answer_to(slow, None)
    assert status == 200 and json.loads(answer)["version"] == 1
    assert store.process.wait(timeout=10) == 0 and time.monotonic() - began < 8
    store.stop()
    store.start()
    assert secrets_of(store, key) == {"late": "arrived"}


# In a run: `ask()` asks the server with what the run was given.
ASK = """
import os, time, urllib.request
url = "{DKU_BACKEND_PROTOCOL}://{DKU_BACKEND_HOST}:{DKU_BACKEND_PORT}/dip/publicapi/auth/info".format(**os.environ)
request = urllib.request.Request(url, headers={"X-DKU-APITicket": os.environ["DKU_API_TICKET"]})
ask = lambda: urllib.request.urlopen(request).status
"""


def test_a_run_lasts_longer_than_any_limit_and_ends_with_the_server(store, tmp_path):
    store.start()
    code = ASK + "print(ask(), flush=True); time.sleep(65); print(ask(), flush=True); input()"
    command = [store.program, "run", "--socket", store.socket, "--", "python3", "-c", code]
    kept = connect(store)
    assert answer_to(kept)[0] == 401
    run = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout.readline() == "200\n"
        # Longer than a connection may be idle, which this one feels.
        assert run.stdout.readline() == "200\n"
        assert closed(kept, 5) < 1
        began = time.monotonic()
        assert store.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        run.stdin.close()
        assert run.wait(timeout=10) == 1
        run.stdout.close()


# --- TLS ---------------------------------------------------------------------------------------------------------


def trusting(certificates, name):
    context = ssl.create_default_context(cafile=certificates / f"{name}.pem")
    return context


def over_tls(server, context, request=INFO):
    with context.wrap_socket(connect(server), server_hostname="localhost") as connection:
        return answer_to(connection, request), connection.version()


def with_certificate(folder):
    return ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"]


@pytest.fixture
def served(store, certificates, tmp_path):
    """A server with the first certificate, at an address that is not loopback's, in a folder of its own."""
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o700)
    use(certificates, "one", folder)
    store.start(*with_certificate(folder), listen="0.0.0.0:0")
    store.address = ("127.0.0.1", store.address[1])
    store.tls = folder
    return store


def use(certificates, name, folder):
    shutil.copy(certificates / f"{name}.pem", folder / "cert.pem")
    shutil.copy(certificates / f"{name}.key", folder / "key.pem")


def test_tls_of_both_versions_and_nothing_in_clear(served, certificates):
    (status, headers, _), version = over_tls(served, trusting(certificates, "one"))
    assert (status, version) == (401, "TLSv1.3") and headers["dkusecrets-version"]
    older = trusting(certificates, "one")
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    assert over_tls(served, older)[1] == "TLSv1.2"
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(served, trusting(certificates, "two"))
    where = f"127.0.0.1:{served.address[1]}"
    old = subprocess.run(
        ["openssl", "s_client", "-connect", where, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )
    assert old.returncode != 0
    plain = connect(served)
    plain.sendall(INFO.encode())
    assert b"HTTP/1.1" not in plain.recv(1000)


def test_a_handshake_that_does_not_end_holds_up_nobody(served, certificates):
    silent = connect(served)
    half = connect(served)
    half.sendall(bytes.fromhex("160301020001"))
    began = time.monotonic()
    assert over_tls(served, trusting(certificates, "one"))[0][0] == 401
    for connection in [silent, half]:
        closed(connection, 20)
        assert 8 < time.monotonic() - began < 14


def test_the_certificate_is_exchanged_while_connections_go_on(served, certificates):
    old = trusting(certificates, "one").wrap_socket(connect(served), server_hostname="localhost")
    assert answer_to(old)[0] == 401
    use(certificates, "two", served.tls)
    hang_up(served, "settings read again")
    assert over_tls(served, trusting(certificates, "two"))[0][0] == 401
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(served, trusting(certificates, "one"))
    assert answer_to(old)[0] == 401
    # A bad one keeps the last: no certificate, the key of another, a key that others can read.
    good = (served.tls / "cert.pem").read_text()
    (served.tls / "cert.pem").write_text("nothing")
    hang_up(served, "stay as they are")
    assert "there is no certificate in it" in log_text(served)
    (served.tls / "cert.pem").write_text(good)
    shutil.copy(certificates / "one.key", served.tls / "key.pem")
    hang_up(served, "stay as they are")
    assert "cannot be used together" in log_text(served)
    shutil.copy(certificates / "two.key", served.tls / "key.pem")
    (served.tls / "key.pem").chmod(0o644)
    hang_up(served, "stay as they are")
    assert "others can read or replace it: chmod 600" in log_text(served)
    assert over_tls(served, trusting(certificates, "two"))[0][0] == 401
    kept = [line for line in logged(served) if "stay as they are" in line["fields"]["message"]]
    assert [line["level"] for line in kept] == ["ERROR"] * 3


def test_start_up_refuses_keys_and_certificates_that_cannot_be(store, certificates, tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o700)
    use(certificates, "one", folder)
    serve = ["serve", "--data", store.data, "--listen", "0.0.0.0:0"]
    (folder / "key.pem").chmod(0o640)
    assert "chmod 600" in store.tell(*serve, *with_certificate(folder), status=1)
    (folder / "key.pem").chmod(0o600)
    os.chown(folder / "key.pem", 12345, 12345)
    assert "user id 12345" in store.tell(*serve, *with_certificate(folder), status=1)
    os.chown(folder / "key.pem", 0, 0)
    assert "belong together" in store.tell(*serve, "--tls-cert", folder / "cert.pem", status=1)
    assert "cannot be read" in store.tell(*serve, *with_certificate(tmp_path), status=1)
    (folder / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert str(folder) in store.tell(*serve, *with_certificate(folder), status=1)
    assert "--tls-cert" in store.tell(*serve, status=1)


def test_a_run_reaches_a_server_that_speaks_tls(served):
    assert served.tell("run", "--socket", served.socket, "--", "python3", "-c", f"{ASK}print(ask())") == "200\n"


def test_r_reads_over_tls_as_r_users_set_it(served, certificates, rscript):
    code = """
    library(dkusecrets)
    dkuSetRemoteDSS(Sys.getenv("URL"), Sys.getenv("KEY"), no_check_certificate = Sys.getenv("SKIP") != "")
    cat(tryCatch({
      dkuSetSecret("over tls", "value")
      dkuGetSecret("over tls")
    }, error = function(cnd) c(class(cnd)[1], conditionMessage(cnd))), sep = "\\n")
    """
    env = {"URL": f"https://localhost:{served.address[1]}", "KEY": served.key("alice")}
    assert rscript(code, **env, CURL_CA_BUNDLE=str(served.tls / "cert.pem")) == "value\n"
    assert rscript(code, **env, CURL_CA_BUNDLE="", SKIP="yes") == "value\n"
    said = rscript(code, **env, CURL_CA_BUNDLE=str(certificates / "two.pem"))
    assert said.startswith("dkusecrets_error_unavailable\n")
    assert "certificate" in said and "CURL_CA_BUNDLE" in said and "no_check_certificate" in said
    assert "value" not in said and env["KEY"] not in said


def test_bodies_that_do_not_come_make_room(store):
    """From anybody, with a credential and without."""
    key = store.key("alice")
    put_into(store, key, {"a": "1"})
    store.start("--max-connections", "20")
    heads = ["POST /sign-in HTTP/1.1\r\nHost: x\r\n", "POST /dkusecrets/v1/session HTTP/1.1\r\nHost: x\r\n"]
    heads.append(f"POST /dkusecrets/v1/secrets/set HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n")
    silent = [connect(store) for _ in range(20)]
    for connection, head in zip(silent, heads * 7):
        connection.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
    # They have 10 s; who comes in that time need not wait so long.
    began = time.monotonic()
    wait_for(lambda: (answer_to(connect(store)) or [0])[0] == 401, 6)
    wait_for(lambda: store.ask("GET", f"{BOTH[0]}/auth/info", {"Authorization": f"Bearer {key}"})[0] == 200, 3)
    assert time.monotonic() - began < 7
    # One that comes slowly arrives where there is room.
    for connection in silent:
        connection.close()
    slow, body = connect(store), b'{"name": "b", "value": "2"}'
    slow.sendall(f"{heads[2]}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
    time.sleep(3)
    slow.sendall(body[5:])
    assert answer_to(slow, None)[0] == 200 and secrets_of(store, key) == {"a": "1", "b": "2"}
