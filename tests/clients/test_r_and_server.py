"""R and the server: real R processes, by every way to a server, against the program that is installed with the package."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from servers import dss_client, program, wait_for

HERE = pathlib.Path(__file__).parent
SNIPPET = (HERE.parent / "testthat" / "snippet.R").read_text()
NAME = "credential-for-my-api"
KEY, TICKET, CONFIG, SOCKET = "key", "ticket", "config", "socket"
WAYS = [KEY, TICKET, CONFIG, SOCKET]
# All the functions that ask whoever keeps the secrets.
FUNCTIONS = [
    'dkuGetSecret("a")', 'dkuSetSecret("a", "MARKER")', "dkuListSecrets()", 'dkuDescribeSecret("a", "d")',
    'dkuRenameSecret("a", "b")', 'dkuRemoveSecret("a")', 'dkuRestoreSecret("a")', 'dkuSecretVersions("a")',
    'dkuPurgeSecret("a")', "dkuAuditLog()", "dkuGetAuthInfo()", "dkuGetAuthInfo(with_secrets = TRUE)",
]


class Person:
    """Somebody with a home of their own, who has configured nothing."""

    def __init__(self, home, **env):
        self.home = home
        home.mkdir(mode=0o700)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DKU", "R_USER_", "XDG_"))}
        self.env = {**kept, "HOME": str(home), "no_proxy": "127.0.0.1,localhost", **env}
        self.before = []

    def run(self, code, *arguments, **more):
        """Runs R code in a fresh process; what it printed."""
        script = self.home / "script.R"
        script.write_text(code)
        done = subprocess.run(
            [*self.before, "Rscript", script, *map(str, arguments)], capture_output=True, text=True, timeout=240, env=self.env,
            cwd=self.home, stdin=subprocess.DEVNULL, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "MARKER" not in done.stderr
        return done.stdout

    def store(self, name, value):
        (self.home / "value").write_bytes(value)
        self.run(f'v <- readBin("value", "raw", 1e7); dkusecrets::dkuSetSecret("{name}", rawToChar(v))')

    def read(self, name):
        self.run(f'writeBin(charToRaw(dkusecrets::dkuGetSecret("{name}")), "read")')
        return (self.home / "read").read_bytes()

    def errors(self, *calls):
        """The classes that these calls end in, one after the other in one process."""
        code = "library(dkusecrets)\n" + "".join(
            f"cat(class(tryCatch({call}, error = identity))[[1]], '\\n')\n" for call in calls
        )
        return self.run(code).split()


def known(server, folder, way, login):
    """Somebody who comes to the server this way; over the socket the kernel knows who it is."""
    person = Person(folder / f"{way}-{login}")
    if way == SOCKET:
        person.env["DKUSECRETS_SOCKET"] = str(server.socket)
        return person
    server.user(login)
    key = server.key(login)
    if way == KEY:
        person.env.update(DKU_DSS_URL=server.url, DKU_API_KEY=key)
    elif way == TICKET:
        ticket = server.ask("POST", "/dip/publicapi/auth/ticket", {"Authorization": f"Bearer {key}"})[2]["ticket"]
        host, port = server.url.removeprefix("http://").split(":")
        person.env.update(DKU_API_TICKET=ticket, DKU_BACKEND_HOST=host, DKU_BACKEND_PORT=port)
    else:
        folder = person.home / ".dataiku"
        folder.mkdir()
        instance = {"url": server.url + "/", "api_key": key, "no_check_certificate": False}
        (folder / "config.json").write_text(json.dumps({"dss_instances": {"default": instance}, "default_instance": "default"}))
        (folder / "config.json").chmod(0o600)
    return person


@pytest.fixture(scope="module")
def embedded_answers(tmp_path_factory):
    person = Person(tmp_path_factory.mktemp("embedded") / "home")
    return person.run((HERE / "every_function.R").read_text()).splitlines()


@pytest.mark.parametrize("way", WAYS)
def test_every_function_answers_as_with_an_embedded_vault(server, tmp_path, way, embedded_answers):
    person = known(server, tmp_path, way, "bob")
    answers = person.run((HERE / "every_function.R").read_text()).splitlines()
    assert len(embedded_answers) > 80 and "MARKER" not in "".join(answers)
    differ = [(here, there) for here, there in zip(embedded_answers, answers) if here != there]
    assert differ == [] and len(answers) == len(embedded_answers)
    # None of it came near a vault.
    assert sorted(p.name for p in person.home.iterdir() if p.name != ".dataiku") == ["script.R"]


@pytest.mark.parametrize("way", WAYS)
def test_the_documented_snippet_and_values_byte_for_byte(server, tmp_path, way):
    person = known(server, tmp_path, way, "bob")
    values = {
        NAME: "line 1\r\nline 2 \U0001f511 'é' \"\\n\" %s {x}\n\n".encode(),
        "mebibyte": ("é\n\"\\\t" * 300000).encode()[: 2**20 - 1] + b"\n",
        "controls": bytes(range(1, 128)),
        "lines": b"\n" * 5000,
    }
    for name, value in values.items():
        person.store(name, value)
        assert person.read(name) == value
    person.run("library(dkusecrets)\n" + SNIPPET + '\nwriteBin(charToRaw(secret_value), "read")\n')
    assert (person.home / "read").read_bytes() == values[NAME]
    shown = person.run("library(dkusecrets); print(dkuGetAuthInfo(with_secrets = TRUE)); str(dkuGetAuthInfo(TRUE))")
    assert "line 1" not in shown and NAME in shown


@pytest.mark.parametrize("way", WAYS)
def test_who_is_asked_and_what_was_written_down(server, tmp_path, way):
    person = known(server, tmp_path, way, "bob")
    login = "bob" if way != SOCKET else person.run("cat(dkusecrets:::os_login())")
    person.store("a", b"MARKER")
    told = json.loads(person.run("""
        library(dkusecrets)
        stopifnot(dkuGetSecret("a") == "MARKER")
        try(dkuGetSecret("b"), silent = TRUE)
        info <- unclass(dkuVaultInfo(verify = TRUE))
        log <- dkuAuditLog(limit = 3)
        stopifnot(inherits(log$time, "POSIXct"), abs(difftime(Sys.time(), log$time[[1]], units = "secs")) < 300)
        log$time <- NULL
        log$names <- vapply(log$names, paste, "", collapse = "|")
        cat(jsonlite::toJSON(list(
          info = info, problems = names(info$problems), log = log, login = dkuGetAuthInfo()$authIdentifier,
          shown = c(format(dkuVaultInfo()), capture.output(print(log)))
        ), auto_unbox = TRUE, digits = NA, null = "null"))
    """))
    info = told["info"]
    where, kind = (str(server.socket), "socket") if way == SOCKET else (server.url, "url")
    assert (info["server"], info["kind"], info["login"], told["login"]) == (where, kind, login, login)
    assert info["store"] == json.loads(server.command("--json", "status"))["store"]
    assert info["server_version"] == info["package"] and not told["problems"]
    events = [(event["action"], event["outcome"], event["names"], event["who"]) for event in told["log"]]
    assert ("read", "not_found", "b", login) in events and ("read", "ok", "a", login) in events
    assert all("behalf" not in event for event in told["log"])
    assert "MARKER" not in json.dumps(told)
    # What looks after an embedded vault is for nobody here.
    for call in ["dkuCreateVault()", "dkuConfigureVault(keep_days = 3)", "dkuUnlock('MARKER1234')", "dkuAcceptRestore()"]:
        assert person.errors(call) == ["dkusecrets_error_unsupported"]


@pytest.mark.parametrize("way", WAYS)
def test_children_read_and_write(server, tmp_path, way):
    person = known(server, tmp_path, way, "bob")
    assert person.run("""
        library(dkusecrets)
        dkuSetSecret("before", "the fork")
        done <- parallel::mclapply(1:40, mc.cores = 4, function(i) {
          dkuSetSecret(paste("child", i), strrep(letters[i %% 26 + 1], i * 100))
          stopifnot(dkuGetSecret("before") == "the fork")
          nchar(dkuGetSecret(paste("child", i)))
        })
        # As many as can get in at once, all at one secret: each version is somebody's.
        at <- unlist(parallel::mclapply(1:40, mc.cores = 8, function(i) dkuSetSecret("shared", paste(i))))
        stopifnot(identical(as.double(unlist(done)), 1:40 * 100), setequal(at, 1:40), dkuGetSecret("before") == "the fork")
        cat(nrow(dkuListSecrets()))
    """) == "42"


@pytest.mark.parametrize(
    "way, how", [*[(way, signal.SIGTERM) for way in WAYS], (KEY, signal.SIGKILL), (SOCKET, signal.SIGKILL)]
)
def test_a_server_that_is_stopped_is_unavailable_and_nothing_takes_its_place(server, tmp_path, way, how):
    person = known(server, tmp_path, way, "bob")
    # A vault where R looks for it, with a secret of the same name.
    nowhere = {**person.env}
    person.env = {k: v for k, v in person.env.items() if not k.startswith("DKU")}
    config = person.home / ".dataiku"
    if config.exists():
        config.rename(person.home / "aside")
    person.store("a", b"embedded")
    if way == CONFIG:
        (person.home / "aside").rename(config)
    person.env = nowhere
    person.store("a", b"of the server")
    assert person.read("a") == b"of the server"
    server.stop(how)
    # Each takes a second, as what only reads is tried three times.
    assert set(person.errors(*FUNCTIONS[: 3 if how == signal.SIGTERM else None])) == {"dkusecrets_error_unavailable"}
    shown = person.run("print(dkusecrets::dkuVaultInfo())")
    assert "! unavailable" in shown and "embedded" not in shown
    person.env = {k: v for k, v in nowhere.items() if not k.startswith("DKU")}
    if config.exists():
        config.rename(person.home / "aside")
    assert person.read("a") == b"embedded"


@pytest.mark.parametrize("way", [KEY, SOCKET])
def test_a_session_outlives_a_restart_of_its_server(server, tmp_path, way):
    person = known(server, tmp_path, way, "bob")
    if way == KEY:
        listen = server.url.removeprefix("http://")
    else:
        listen = "127.0.0.1:0"
    restarted = threading.Event()

    def restart():
        wait_for((person.home / "first").exists, 60)
        server.stop()
        server.process = subprocess.Popen(
            [server.program, "serve", "--data", server.data, "--listen", listen, "--socket", server.socket],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        server.log = open(os.devnull, "w")
        server.process.stdout.readline(), server.process.stdout.readline()
        (person.home / "again").touch()
        restarted.set()

    thread = threading.Thread(target=restart)
    thread.start()
    assert person.run("""
        library(dkusecrets)
        dkuSetSecret("a", "b")
        invisible(file.create("first"))
        for (i in 1:600) if (file.exists("again")) break else Sys.sleep(0.1)
        cat(dkuGetSecret("a"), dkuSetSecret("a", "c"), dkuGetSecret("a"))
    """) == "b 2 c"
    thread.join()
    assert restarted.is_set()


@pytest.mark.parametrize("way", [KEY, CONFIG])
def test_a_key_that_is_revoked_opens_nothing_in_the_same_session(server, tmp_path, way):
    person = known(server, tmp_path, way, "bob")
    person.store("a", b"MARKER")
    kept = [key["id"] for key in json.loads(server.command("--json", "key", "list", "--user", "bob"))]
    calls = "".join(f'cat(class(tryCatch({call}, error = identity))[[1]], "\\n")\n' for call in FUNCTIONS)
    said = person.run(
        'arguments <- commandArgs(TRUE)\nlibrary(dkusecrets)\nstopifnot(dkuGetSecret("a") == "MARKER")\n'
        'stopifnot(system2(arguments[[1]], arguments[-1], stdout = FALSE) == 0)\n' + calls,
        server.program, "--data", server.data, "key", "revoke", kept[0],
    )
    assert set(said.split()) == {"dkusecrets_error_not_authenticated"}


def test_a_credential_that_is_wrong_is_not_followed_by_another(server, tmp_path):
    person = known(server, tmp_path, KEY, "bob")
    person.env["DKU_API_KEY"] = "dkuaps-" + "x" * 32
    person.env["DKUSECRETS_SOCKET"] = str(server.socket)
    assert set(person.errors(*FUNCTIONS)) == {"dkusecrets_error_not_authenticated"}
    person.env.update(DKU_API_TICKET="wrong", DKU_BACKEND_HOST="127.0.0.1", DKU_BACKEND_PORT=server.url.rsplit(":", 1)[1])
    assert set(person.errors(*FUNCTIONS[:2])) == {"dkusecrets_error_not_authenticated"}


def test_two_people_never_see_each_other_s_secrets(server, tmp_path):
    people = {login: known(server, tmp_path, KEY, login) for login in ["bob", "carol"]}
    for login, person in people.items():
        person.store("same", f"of {login}".encode())
        person.store(f"only-{login}", b"x")
    read = 'cat(dkuGetSecret("same"), dkuListSecrets()$name, sep = "|")'
    for login, other in [("bob", "carol"), ("carol", "bob")]:
        assert people[login].run("library(dkusecrets); " + read) == f"of {login}|only-{login}|same"
        assert other not in people[login].run("library(dkusecrets); print(dkuAuditLog()); print(dkuGetAuthInfo(TRUE))")
    for login, other in [("bob", "carol"), ("carol", "bob")]:
        calls = [f'dkuGetSecret("only-{other}")', f'dkuRemoveSecret("only-{other}")', f'dkuPurgeSecret("only-{other}")']
        assert people[login].errors(*calls) == ["dkusecrets_error_not_found"] * 3
    # Nor in one session that changes whom it asks for, over a connection that it keeps.
    keys = [person.env["DKU_API_KEY"] for person in people.values()]
    assert people["bob"].run(
        'a <- commandArgs(TRUE); library(dkusecrets); for (i in 1:20) { dkuSetRemoteDSS(a[[1]], a[[2 + i %% 2]]); cat(dkuGetSecret("same"), "") }',
        server.url, *keys,
    ).split() == ["of", "carol", "of", "bob"] * 10


def test_on_the_socket_each_account_is_itself(server, tmp_path, account):
    name, uid = account
    base = pathlib.Path("/var/tmp") / f"{name}-home"
    base.mkdir(mode=0o755)
    try:
        root, other = Person(tmp_path / "root"), Person(base / "home")
        # The account reads the package from where it can.
        library = base / "lib"
        shutil.copytree(pathlib.Path(program()).parents[1], library / "dkusecrets")
        for person in (root, other):
            person.env["DKUSECRETS_SOCKET"] = str(server.socket)
        other.env["R_LIBS"] = str(library)
        other.before = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        subprocess.run(["chown", "-R", f"{uid}:{uid}", other.home], check=True)
        root.store("same", b"of root")
        other.store("same", b"of the account")
        # Whatever the environment says of who it is.
        other.env.update(USER="root", LOGNAME="root")
        assert (root.read("same"), other.read("same")) == (b"of root", b"of the account")
        assert other.run("cat(dkusecrets::dkuVaultInfo()$login, dkusecrets::dkuGetAuthInfo()$authIdentifier)") == f"{name} {name}"
    finally:
        subprocess.run(["rm", "-rf", str(base)], check=True)


class Counter:
    """A socket that passes everything on to the server's, and counts who connects."""

    def __init__(self, path, target):
        self.connections, self.target = 0, str(target)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here = self.listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            there = socket.socket(socket.AF_UNIX)
            there.connect(self.target)
            for a, b in [(here, there), (there, here)]:
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_reads_go_over_one_connection_that_is_kept(server, tmp_path):
    person = known(server, tmp_path, SOCKET, "")
    counter = Counter(tmp_path / "counter.sock", server.socket)
    person.env["DKUSECRETS_SOCKET"] = str(tmp_path / "counter.sock")
    assert person.run("""
        library(dkusecrets)
        dkuSetSecret("a", "b")
        for (i in 1:200) dkuGetSecret("a")
        stopifnot(nrow(dkuListSecrets()) == 1, length(dkuGetAuthInfo(TRUE)$secrets) == 1)
        try(dkuGetSecret("none"), silent = TRUE)
        cat(dkuGetSecret("a"))
    """) == "b"
    # And one for what changes something.
    assert counter.connections == 2
    # Each child has its own.
    person.run('library(dkusecrets); dkuGetSecret("a"); x <- parallel::mclapply(1:3, function(i) for (j in 1:9) dkuGetSecret("a"), mc.cores = 3)')
    assert counter.connections == 2 + 1 + 3
    counter.listener.close()


@pytest.mark.parametrize("way", [KEY, TICKET, SOCKET, "run"])
def test_no_proxy_sees_what_does_not_leave_the_machine(server, tmp_path, way):
    person = known(server, tmp_path, SOCKET if way == "run" else way, "bob")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        person.env.pop("no_proxy")
        person.env.update({name: "http://127.0.0.1:%d" % proxy.getsockname()[1] for name in ["http_proxy", "https_proxy", "all_proxy"]})
        if way == "run":
            person.before = [server.program, "run", "--socket", server.socket, "--"]
            assert person.run('cat(dkusecrets::dkuVaultInfo()$why)') == "DKU_API_TICKET is set"
        person.store("a", b"MARKER")
        assert person.read("a") == b"MARKER"
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


class Fickle:
    """A socket that answers to what reads, and ends the connection instead if `on` is asked for; what it was asked."""

    def __init__(self, path, on):
        self.asked, self.on = [], on
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(here,), daemon=True).start()

    def serve(self, here):
        with here, here.makefile("rb") as file:
            while line := file.readline():
                path, length = line.split()[1].decode(), 0
                while (more := file.readline()) not in (b"\r\n", b""):
                    name, _, says = more.decode().partition(":")
                    length = int(says) if name.lower() == "content-length" else length
                file.read(length)
                self.asked.append(path)
                if path.endswith(self.on) and self.asked.count(path) > (0 if self.on == "/set" else 1):
                    here.shutdown(socket.SHUT_RDWR)
                    return
                body = b'{"authIdentifier":"a","name":"a","value":"b","version":1,"expires":null,"expired":false}'
                here.sendall(b"HTTP/1.1 200 OK\r\nDkusecrets-Version: 0.1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize("on", ["/set", "/get"])
def test_only_what_reads_is_asked_again_when_a_connection_ends(tmp_path, on):
    """Also by libcurl, which repeats by itself what a connection that was used before has not answered."""
    person = Person(tmp_path / "home", DKUSECRETS_SOCKET=str(tmp_path / "fickle.sock"))
    fickle = Fickle(tmp_path / "fickle.sock", on)
    call = {"/set": 'dkuSetSecret("a", "b")', "/get": 'dkuGetSecret("a")'}[on]
    assert person.errors('dkuGetSecret("a")', call) == ["character", "dkusecrets_error_unavailable"]
    times = sum(path.endswith(on) for path in fickle.asked)
    assert times == 1 if on == "/set" else times >= 3
    fickle.listener.close()


def test_a_socket_of_a_service_s_account_is_accepted_where_root_put_it(account, tmp_path):
    """As the unit in inst/systemd has it: the account's own directory in /run."""
    name, uid = account
    run = pathlib.Path("/run") / name
    as_account = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    # The account has to reach the program and its store.
    base = pathlib.Path("/var/tmp") / name
    for directory in (run, base):
        directory.mkdir(mode=0o755)
        os.chown(directory, uid, uid)
    made = base / "dkusecrets"
    made.write_bytes(pathlib.Path(program()).read_bytes())
    made.chmod(0o755)
    process = None
    try:
        subprocess.run([*as_account, made, "init", "--data", base / "store", "--admin", "ada"], check=True, timeout=60, stdout=subprocess.DEVNULL)
        serve = [made, "serve", "--data", base / "store", "--listen", "127.0.0.1:0", "--socket", run / "s.sock"]
        process = subprocess.Popen([*as_account, *serve], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout.readline() and "s.sock" in process.stdout.readline()
        assert (run / "s.sock").stat().st_uid == uid
        person = Person(tmp_path / "home", DKUSECRETS_SOCKET=str(run / "s.sock"))
        person.store("a", b"over the service's socket")
        assert person.read("a") == b"over the service's socket"

        def tell(*command):
            typed = "a long enough password\n"
            done = subprocess.run([made, *command], input=typed, capture_output=True, text=True, timeout=60)
            return done.returncode, done.stderr

        own_act = ["password", "set", "--socket", run / "s.sock"]
        in_run = ["run", "--socket", run / "s.sock", "--", "sh", "-c", "exit 7"]
        assert [tell(*own_act)[0], tell(*in_run)[0]] == [0, 7]

        # Where somebody else could put another one, it is refused, as before.
        def is_refused():
            assert person.errors('dkuGetSecret("a")') == ["dkusecrets_error_unsafe"]
            said = f"dkusecrets: {run / 's.sock'} belongs to user id {uid}, neither to root nor to you\n"
            assert [tell(*own_act), tell(*in_run)] == [(1, said)] * 2

        run.chmod(0o777)
        is_refused()
        run.chmod(0o755)
        os.chown(run, 0, 0)
        is_refused()
    finally:
        if process:
            process.terminate()
            process.wait(timeout=40)
            process.stdout.close()
        subprocess.run(["rm", "-rf", str(run), str(base)], check=True)


def test_dku_serve_serves_until_ctrl_c(server, tmp_path):
    server.stop()
    person = Person(tmp_path / "home")
    code = 'a <- commandArgs(TRUE); x <- withVisible(dkusecrets::dkuServe(a[[1]], "127.0.0.1:0", a[[2]])); cat(x$value, x$visible)'
    data = tmp_path / "a store's $(name)"
    server.data.rename(data)
    with subprocess.Popen(
        ["Rscript", "-e", code, data, server.socket], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=person.env, start_new_session=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("listening on 127.0.0.1:")
            assert process.stdout.readline() == f"listening on {server.socket}\n"
            reader = Person(tmp_path / "reader", DKUSECRETS_SOCKET=str(server.socket))
            reader.store("a", b"b")
            assert reader.read("a") == b"b"
            # What a terminal does for Ctrl-C.
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout.read() == "0 FALSE"
            assert process.wait(timeout=40) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_the_page_for_administrators_works_as_it_is_written(tmp_path):
    """Its commands, one after the other; only the port is another."""
    page = (HERE.parents[1] / "vignettes" / "dkusecrets.Rmd").read_text().split("## A server for a team")[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        page = page.replace("11200", str(free.getsockname()[1]))
    blocks = re.findall(r"```(sh|python|\{r, eval = FALSE\})\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "{r, eval = FALSE}", "python", "sh", "sh"]
    made, in_r, in_python, others, invited = [block for _, block in blocks]
    tmp_path.chmod(0o755)
    person = Person(tmp_path / "home")
    (tmp_path / "home" / "r.R").write_text("library(dkusecrets)\n" + in_r)
    (tmp_path / "home" / "python.py").write_text(in_python)
    up = 'for i in $(seq 100); do test -S dkusecrets.sock && break; sleep 0.1; done\n'
    # The server is ready before its socket is; `key create` asks whichever has the store.
    begin, key = made.split("(umask", 1)
    script = f"set -eu\n{begin}server=$!\ntrap 'kill $server' EXIT\n{up}(umask{key}Rscript r.R\n{sys.executable} python.py\n{others}{invited}"
    env = {**person.env, "PYTHONPATH": str(dss_client("15.2.0")), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["sh", "-c", script], cwd=person.home, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "s3cret" in lines and "no problems found" in lines
    [link] = [line for line in lines if line.startswith("link: http")]
    assert re.fullmatch(r"link: http://127\.0\.0\.1:\d+/link#[A-Za-z0-9]{32}", link)
    assert re.search("^dkuaps-[A-Za-z0-9]{32}$", done.stdout, re.MULTILINE) and "until bob confirms it" in done.stderr
