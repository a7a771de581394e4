"""What the tests of this folder share. Run by `make test`, which sets R_LIBS to the scratch library."""
import os
import subprocess

import pytest


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
