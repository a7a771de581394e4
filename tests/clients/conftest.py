"""What the tests of this folder share. Run by `make test`, which sets R_LIBS to the scratch library."""
import os
import subprocess

import pytest

from servers import Server, reachable


@pytest.fixture
def rscript(tmp_path):
    """Runs R code in a fresh Rscript with a vault of its own, and returns what it printed."""

    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    def run(code, **env):
        done = subprocess.run(
            ["Rscript", "-e", code],
            env={**os.environ, "DKUSECRETS_HOME": str(home), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def server(tmp_path):
    """A server on a store of its own, over TCP and a socket."""
    server = Server(reachable(tmp_path), "--allow-impersonation").start()
    yield server
    server.stop()


@pytest.fixture
def strict(tmp_path):
    """A server that lets nobody act as others."""
    server = Server(reachable(tmp_path)).start()
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path):
    """A store, whose server the test starts."""
    server = Server(reachable(tmp_path), "--allow-impersonation")
    yield server
    server.stop()


@pytest.fixture
def account():
    """An account of this machine, for the time of a test: its name and user id."""
    if os.getuid() != 0:
        pytest.skip("only root can make accounts")
    name = f"dku{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", name], check=True)
    try:
        yield name, int(subprocess.run(["id", "-u", name], capture_output=True, text=True, check=True).stdout)
    finally:
        subprocess.run(["userdel", name], check=True)
