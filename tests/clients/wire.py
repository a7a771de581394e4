"""Talking to a server byte by byte, and reading its log."""
import contextlib
import json
import signal
import socket
import time

from servers import wait_for

INFO = "GET /dip/publicapi/auth/info HTTP/1.1\r\nHost: x\r\n\r\n"


def log_text(server):
    return (server.directory / "log").read_text()


def logged(server):
    return [json.loads(line) for line in log_text(server).splitlines()]


def hang_up(server, what):
    """Sends SIGHUP, and waits until the log says `what` once more."""
    before = log_text(server).count(what)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: log_text(server).count(what) > before)


def connect(server, timeout=30):
    connection = socket.create_connection(server.address, timeout=timeout)
    connection.settimeout(timeout)
    return connection


def answer_to(connection, request=INFO):
    """What one request is answered with: status, headers and body; None if the connection was closed instead."""
    if request:
        connection.sendall(request.encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = connection.recv(65536)
        if not more:
            return None
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return int(lines[0].split()[1]), headers, body


def closed(connection, seconds):
    """How long it takes until the other end closes."""
    connection.settimeout(seconds)
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return time.monotonic() - began


def metrics(server):
    """The metrics, by name with labels."""
    status, headers, body = answer_to(connect(server), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 200 and headers["content-type"].startswith("application/openmetrics-text")
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
