"""Many R processes on one vault, and R processes that are killed."""
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

WRITERS = 8
WRITES = 1000


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


def start(home, code, **more):
    # Where an R that is killed leaves its temporary directory.
    temporary = home.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["Rscript", "-e", "library(dkusecrets)", "-e", code],
        env={**os.environ, "DKUSECRETS_HOME": str(home), "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_eight_processes_with_a_thousand_writes_each_lose_nothing(home):
    """All begin on a vault that is not there yet: the first use is a race, too."""
    code = """
    for (i in seq_len({writes})) {{
      version <- dkuSetSecret("counter-{me}", paste("{me}", i))
      if (version != i) stop("writer {me}: write ", i, " became version ", version)
      if (i %% 100 == 0) dkuSetSecret(sprintf("kept-{me}-%d", i), paste("{me}", i))
    }}
    cat(version)
    """
    writers = [start(home, code.format(me=me, writes=WRITES)) for me in range(WRITERS)]
    assert [finish(writer) for writer in writers] == [str(WRITES)] * WRITERS
    code = """
    for (secret in dkuGetAuthInfo(with_secrets = TRUE)$secrets) cat(secret$key, secret$value, sep = "=", "\n")
    stopifnot(length(dkuVaultInfo(verify = TRUE)$problems) == 0)
    """
    found = {line.rstrip("=") for line in finish(start(home, code)).splitlines()}
    expected = {f"counter-{me}={me} {WRITES}" for me in range(WRITERS)}
    expected |= {f"kept-{me}-{i}={me} {i}" for me in range(WRITERS) for i in range(100, WRITES + 1, 100)}
    assert found == expected


@contextlib.contextmanager
def held(home):
    """The vault as another process has it that hangs in the middle of a write."""
    with contextlib.closing(sqlite3.connect(home / "data/vault.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def started(process):
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.7)
    assert process.poll() is None


WAITING = {
    "get": 'cat(dkuGetSecret("a"))',
    "get a name that is not ASCII": 'cat(dkuGetSecret("\\u00e9"))',
    "set": 'cat(dkuSetSecret("a", "new"))',
    "remove": 'cat(is.null(dkuRemoveSecret("a")))',
    "info": "cat(dkuVaultInfo(verify = TRUE)$verified)",
}


@pytest.mark.parametrize("code", WAITING.values(), ids=WAITING)
def test_waiting_for_a_process_that_hangs_can_be_interrupted(home, code):
    finish(start(home, 'dkuSetSecret("a", "old"); dkuSetSecret("\\u00e9", "old")'))
    with held(home):
        waiting = start(home, f'cat("begun\n"); {code}')
        started(waiting)
        begun = time.monotonic()
        waiting.send_signal(signal.SIGINT)
        out, _ = waiting.communicate(timeout=60)
        assert time.monotonic() - begun < 2
        assert waiting.returncode != 0 and out == ""
    assert finish(start(home, 'cat(dkuGetSecret("a"), dkuSecretVersions("a")$version)')) == "old 1"


@pytest.mark.parametrize("code", WAITING.values(), ids=WAITING)
def test_waiting_ends_when_the_vault_is_free(home, code):
    finish(start(home, 'dkuSetSecret("a", "old"); dkuSetSecret("\\u00e9", "old")'))
    with held(home):
        waiting = start(home, f'cat("begun\n"); {code}')
        started(waiting)
    assert finish(waiting) in ("old", "2", "TRUE")


def test_a_killed_r_loses_no_acknowledged_write(home):
    code = """
    i <- 0
    repeat {
      i <- i + 1
      cat(dkuSetSecret("counter", paste("value", i + START)), "\n")
    }
    """
    acknowledged = 0
    for _ in range(10):
        writer = start(home, code.replace("START", str(acknowledged)))
        seen = [int(writer.stdout.readline())]
        time.sleep(random.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0]
        # The last line may be cut short by the kill.
        seen += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        assert seen == list(range(acknowledged + 1, acknowledged + 1 + len(seen)))
        out = finish(start(home, 'v <- dkuSecretVersions("counter"); cat(v$version[[1]], dkuGetSecret("counter"))'))
        version, value = out.split(" ", 1)
        # What was acknowledged is there; a write that was killed on its way back may be there, too.
        assert int(version) in (seen[-1], seen[-1] + 1)
        assert value == f"value {version}"
        acknowledged = int(version)


def test_each_login_that_begins_at_once_finds_one_vault(home):
    """First use by R processes at once, several times over: one vault, one key, nothing left behind."""
    for round in range(5):
        place = home / str(round)
        place.mkdir(mode=0o700)
        writers = [start(place, f'dkuSetSecret("mine-{me}", "value {me}")') for me in range(4)]
        for writer in writers:
            finish(writer)
        out = finish(start(place, 'cat(dkuListSecrets()$name)'))
        assert out == "mine-0 mine-1 mine-2 mine-3"
        assert [path.name for path in sorted((place / "data").iterdir())] == ["vault.db"]
        names = sorted(path.name for path in (place / "config").iterdir())
        assert names[:2] == ["anchor", "creation.lock"] and len(names) == 3 and names[2].startswith("root-")
