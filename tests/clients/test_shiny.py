"""A real Shiny application in a real browser: it answers for whoever looks at it."""
import os
import pathlib
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from servers import wait_for
from test_server import put
from test_sign_in import GOOD, signed_in, with_password

APP = pathlib.Path(__file__).with_name("shiny_app.R")
IDS = ["viewer", "secrets", "impersonated", "ticket", "owner", "same"]


def chromium(profile, javascript=True, language="en-US,en"):
    """A browser that knows nothing of others."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # In a container there are no namespaces for the sandbox, and /dev/shm is small.
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    settings = {"intl.accept_languages": language}
    if not javascript:
        settings["profile.managed_default_content_settings.javascript"] = 2
    options.add_experimental_option("prefs", settings)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(60)
    return driver


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """Makes browsers, each of which knows nothing of the others."""
    # What browsers write goes where the test is, and not into the home of whoever runs it.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SE_OFFLINE", "true")
    made = []

    def start(**how):
        made.append(chromium(tmp_path / f"profile{len(made)}", **how))
        return made[-1]

    yield start
    for one in made:
        one.quit()


@pytest.fixture
def application(strict):
    """The application, which runs as `app` and asks with its key: its port."""
    with_password(strict, "app")
    key = signed_in(strict, "app").change("POST", "/public/api/personal-api-keys", {"label": "shiny"})[1]["key"]
    put(strict, key, "token", "MARKER-app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = strict.directory / "app"
    home.mkdir(mode=0o700)
    env = {k: v for k, v in os.environ.items() if not k.startswith("DKU")}
    env |= {"DKU_DSS_URL": strict.url, "DKU_API_KEY": key, "HOME": str(home), "R_USER_CONFIG_DIR": str(home)}
    # An R that is told to end leaves its temporary directory.
    env["TMPDIR"] = str(home)
    with open(strict.directory / "shiny.log", "wb") as log:
        running = subprocess.Popen(["Rscript", APP, str(port)], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def answers():
        assert running.poll() is None, (strict.directory / "shiny.log").read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
            return True
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_for(answers, 60)
        yield port
    finally:
        running.terminate()
        running.wait(timeout=30)


def until(driver, what):
    """Waits for what a page shows; it may be another page while one looks."""
    WebDriverWait(driver, 60, ignored_exceptions=[WebDriverException]).until(what)


def shown(driver, port):
    """What the application shows in this browser."""
    driver.get(f"http://127.0.0.1:{port}")
    text = lambda id: driver.find_element(By.ID, id).text
    until(driver, lambda _: all(text(id) for id in IDS))
    return {id: text(id) for id in IDS}


def sign_in(driver, server, login, password=GOOD):
    driver.get(server.url)
    driver.find_element(By.ID, "login").send_keys(login)
    driver.find_element(By.ID, "password").send_keys(password)
    driver.find_element(By.CSS_SELECTOR, "button").click()
    until(driver, lambda _: "signed in as" in driver.find_element(By.TAG_NAME, "body").text)


def test_the_link_fills_itself_in_and_leaves_the_address(strict, browser):
    """The page in a real browser, under its own content policy."""
    driver = browser()
    driver.get(strict.told["link"].replace("/link", f"{strict.url}/link"))
    code = driver.find_element(By.ID, "code").get_attribute("value")
    assert code == strict.told["link"].partition("#")[2]
    assert driver.current_url == f"{strict.url}/link"
    for field, typed in [("login", "alice"), ("new", GOOD), ("again", GOOD)]:
        driver.find_element(By.ID, field).send_keys(typed)
    driver.find_element(By.CSS_SELECTOR, "button").click()
    until(driver, lambda _: driver.current_url == f"{strict.url}/")
    sign_in(driver, strict, "alice")
    # The browser signs out, and its Back button shows nothing of what was there.
    [button] = [b for b in driver.find_elements(By.CSS_SELECTOR, "button") if b.text == "Sign out"]
    button.click()
    until(driver, lambda _: driver.find_elements(By.CSS_SELECTOR, "form[action='/sign-in']"))
    assert [cookie["name"] for cookie in driver.get_cookies()] == ["dkusecrets-device"]
    # No script but its own ran, and its style was let through: the policy refused nothing.
    refused = [entry for entry in driver.get_log("browser") if "Content Security Policy" in entry["message"]]
    assert not refused


def test_an_application_answers_for_who_looks_at_it(strict, application, browser):
    for login in ["bob", "carol"]:
        with_password(strict, login)
        person = signed_in(strict, login)
        value = {"name": "token", "value": f"MARKER-{login}"}
        assert person.change("POST", "/dkusecrets/v1/secrets/set", value)[0] == 200
    bob, carol, nobody = browser(), browser(), browser()
    sign_in(bob, strict, "bob")
    # Until the owner of the store allows it, the application learns nothing.
    told = shown(bob, application)
    assert told["viewer"] == told["secrets"] == told["impersonated"] == "dkusecrets_error_not_allowed"
    assert told["owner"] == "app" and told["same"] == "TRUE"
    strict.command("rule", "allow-headers", "app")
    sign_in(carol, strict, "carol")
    for driver, login in [(bob, "bob"), (carol, "carol"), (bob, "bob")]:
        told = shown(driver, application)
        assert told["viewer"] == login
        assert told["secrets"] == f"token=MARKER-{login}"
        assert told["impersonated"] == f"MARKER-{login}"
        # Outside of it the application is itself.
        assert told["owner"] == "app" and told["same"] == "TRUE"
    for driver, login in [(carol, "carol"), (bob, "bob")]:
        driver.find_element(By.ID, "again").click()
        until(driver, lambda d: d.find_element(By.ID, "clicked").text == f"MARKER-{login}")
    told = shown(nobody, application)
    assert told["viewer"] == told["secrets"] == told["impersonated"] == "dkusecrets_error_not_authenticated"
    assert told["owner"] == "app"
    # Who signs out is nobody to the application either.
    page = signed_in(strict, "bob")
    page.change("DELETE", "/dkusecrets/v1/sessions")
    assert shown(bob, application)["viewer"] == "dkusecrets_error_not_authenticated"
    # It is in the log of whom it was about.
    events = signed_in(strict, "carol").ask("GET", "/dkusecrets/v1/audit")[1]["events"]
    told = {(e["action"], e["who"], e["behalf"]) for e in events}
    assert {("asked by headers", "app", "carol"), ("read all", "app", "carol"), ("read", "app", "carol")} <= told
