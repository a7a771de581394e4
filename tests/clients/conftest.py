"""What the tests of this folder share. Run by `make test`, which sets R_LIBS to the scratch library."""
import os
import subprocess

import pytest

from servers import Server


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


def reachable(directory):
    """A directory whose socket other users can reach."""
    directory.chmod(0o755)
    for above in directory.parents[:3]:
        if above.stat().st_uid == os.getuid() and above != above.parent:
            above.chmod(above.stat().st_mode | 0o011)
    return directory


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
    """A store, whose server the test starts; the socket has to be reached by other users."""
    for folder in [tmp_path, *tmp_path.parents[:3]]:
        if folder.stat().st_uid == os.getuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o011)
    server = Server(tmp_path, "--allow-impersonation")
    yield server
    server.stop()
