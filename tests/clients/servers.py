"""A real server for the tests of this folder: the program that was installed with the package, on a store of its own."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


def program():
    """The installed program; R knows where."""
    code = 'cat(system.file("bin", "dkusecrets", package = "dkusecrets"))'
    found = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert found, "the package is not installed, or was installed without its program"
    return found


def reachable(directory):
    """A directory whose socket other users can reach."""
    directory.chmod(0o755)
    for above in directory.parents[:3]:
        if above.stat().st_uid == os.getuid() and above != above.parent:
            above.chmod(above.stat().st_mode | 0o011)
    return directory


class Server:
    """A store in `directory`, and a server on it, over TCP and a socket."""

    def __init__(self, directory, *init):
        self.program = program()
        self.directory = pathlib.Path(directory)
        self.data = self.directory / "store"
        self.socket = self.directory / "dkusecrets.sock"
        self.process = None
        # What `init` told, the administrator's link among it.
        self.told = json.loads(self.tell("--json", "init", "--data", self.data, "--admin", "alice", *init))

    def tell(self, *arguments, status=0, **more):
        """Runs the program; what it printed."""
        # Nothing of the tests' own surroundings: neither a vault nor another server.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DKU", "R_USER"))}
        done = subprocess.run(
            [self.program, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=env, **more
        )
        assert done.returncode == status, (arguments, done.returncode, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def command(self, *arguments, **more):
        return self.tell("--data", self.data, *arguments, **more)

    def start(self, *flags, listen="127.0.0.1:0", env=None, under=()):
        """Serves, with more flags or variables if given, `under` another program."""
        self.log = open(self.directory / "log", "ab")
        arguments = [*under, self.program, "serve", "--data", self.data, "--listen", listen, "--socket", self.socket]
        self.process = subprocess.Popen(
            list(map(str, [*arguments, *flags])), stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, **(env or {})},
        )
        told = self.process.stdout.readline()
        assert told, (self.directory / "log").read_text()
        host, port = re.fullmatch(r"listening on (.*):(\d+)\n", told).groups()
        self.address = (host, int(port))
        self.url = f"http://{host}:{port}"
        assert str(self.socket) in self.process.stdout.readline()
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=40)
        status = self.process.returncode if self.process else None
        if self.process:
            self.process.stdout.close()
            self.log.close()
        self.process = None
        return status

    def user(self, login):
        self.command("user", "add", login)

    def key(self, login, label="test"):
        return self.command("key", "create", "--user", login, "--label", label).strip()

    def ask(self, method, path, headers=None, body=None):
        """One request over TCP: status, headers and what the JSON says."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        # urllib would say that any body is a form.
        request.add_unredirected_header("Content-Type", "")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers), json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, dict(refused.headers), json.loads(refused.read())

    def ask_socket(self, method, path, body=None, uid=None):
        """One request over the socket, as another user if `uid` is given: status and what the JSON says."""
        command = ["curl", "--silent", "--max-time", "30", "--unix-socket", self.socket, "-X", method]
        command += ["-w", "\n%{http_code}", f"http://localhost{path}"]
        if body is not None:
            command += ["--data-binary", json.dumps(body)]
        if uid is not None:
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=True)
        text, status = done.stdout.rsplit("\n", 1)
        return int(status), json.loads(text)


def dss_client(version):
    """Dataiku's client of this version, in a folder of its own beside what all need (requirements.txt)."""
    top = pathlib.Path(__file__).parents[2] / ".build/dataiku-api-client"
    if not (top / version).exists():
        top.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=top) as made:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            package = f"dataiku-api-client=={version}"
            subprocess.run([*install, "--target", f"{made}/client", package], check=True, timeout=300)
            pathlib.Path(made, "client").rename(top / version)
    return top / version


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
