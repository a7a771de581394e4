"""The profile page, in a real Chromium that runs no JavaScript, at the widths of a phone and of a desk."""
import contextlib
import datetime
import os
import re
import subprocess
import sys
import urllib.parse

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from servers import dss_client, wait_for
from test_server import basic
from test_shiny import browser, sign_in  # noqa: F401 (a fixture)
from test_sign_in import GOOD, OTHER, OWN, Browser, link_of, set_by_link, signed_in, with_password

MARKER = "MARKER-in-a-value"
# Nothing of it is harmless where somebody forgets to escape.
NASTY = """</script><img src=x onerror="document.title='owned'">'"&amp;\\ {{7*7}} é"""


@pytest.fixture(params=[360, 1280])
def page(request, strict, browser):
    """Bob's browser, signed in, without JavaScript."""
    with_password(strict, "bob")
    page = Page(browser(javascript=False), strict, request.param)
    page.sign_in("bob")
    return page


class Page:
    """What somebody sees and does."""

    def __init__(self, driver, server, width):
        self.driver, self.server = driver, server
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.width = width

    def open(self, path="/"):
        self.driver.get(self.server.url + path)
        self.check()

    def sign_in(self, login):
        sign_in(self.driver, self.server, login)
        self.check()

    @property
    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    @property
    def source(self):
        return self.driver.page_source

    def check(self):
        """What holds on every page."""
        layout = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})
        assert layout["cssContentSize"]["width"] <= self.width, self.driver.current_url
        assert "owned" != self.driver.title
        # Each field has a label.
        labelled = {label.get_attribute("for") for label in self.driver.find_elements(By.TAG_NAME, "label")}
        fields = self.driver.find_elements(By.CSS_SELECTOR, "input:not([type=hidden]), textarea, select")
        assert {field.get_attribute("id") for field in fields} <= labelled
        assert not [e for e in self.driver.get_log("browser") if "Content Security Policy" in e["message"]]

    def click(self, text):
        """A button or a link that says so."""
        for found in self.driver.find_elements(By.CSS_SELECTOR, "button, a, summary"):
            if found.is_displayed() and (found.text == text or found.text.startswith(text + " ")):
                before, opens = self.driver.find_element(By.TAG_NAME, "html"), found.tag_name == "summary"
                found.click()
                # What only opens leads to no other page.
                if not opens:
                    wait_for(lambda: is_gone(before))
                    self.check()
                return
        raise AssertionError(f"nothing says {text!r}: {self.text}")

    def fill(self, **fields):
        for id, text in fields.items():
            field = self.driver.find_element(By.ID, id)
            field.clear()
            if field.get_attribute("type") == "date":
                # As Chromium's English fields for dates are typed.
                text = datetime.date.fromisoformat(text).strftime("%m%d%Y")
            field.send_keys(text)

    def add(self, name, value, **fields):
        self.open()
        self.click("Add")
        self.fill(name=name, value=value, **fields)
        self.click("Save")

    def row(self, name):
        rows = self.driver.find_elements(By.CSS_SELECTOR, "table[aria-labelledby=credentials] tbody tr")
        [row] = [row for row in rows if row.find_element(By.TAG_NAME, "a").text == name]
        return row.text


def is_gone(element):
    try:
        element.is_enabled()
        return False
    except WebDriverException:
        return True


def stored(server, login):
    """The secrets of somebody with their values, as the API tells them."""
    info = signed_in(server, login).ask("GET", "/dip/publicapi/auth/info?withSecrets=true")[1]
    return {secret["key"]: secret["value"] for secret in info["secrets"]}


def actions(server, login):
    events = signed_in(server, login).ask("GET", "/dkusecrets/v1/audit")[1]["events"]
    return [(event["action"], *event["names"], event["outcome"]) for event in events if event["action"] != "sign-in"]


def test_a_secret_is_added_shown_edited_removed_and_restored(page, strict):
    assert "There are none yet." in page.text
    soon = (datetime.date.today() + datetime.timedelta(days=5)).isoformat()
    value = f"{MARKER} one\n  two\n\nthree\n"
    page.add("db-password", value, description="of the database", expires=soon)
    assert "Stored." in page.text
    row = page.row("db-password")
    assert "of the database" in row and soon in row and re.search(r"expires in [45] days", row)
    # Byte for byte what was typed, though browsers send other line breaks.
    assert stored(strict, "bob") == {"db-password": value}
    # Nothing of the value is in any page before it is asked for.
    assert MARKER not in page.source
    page.click("db-password")
    assert MARKER not in page.source
    count = lambda: actions(strict, "bob").count(("read", "db-password", "ok"))
    assert count() == 0
    page.click("Show")
    assert page.driver.find_element(By.CSS_SELECTOR, "pre.value").get_property("textContent") == value
    assert count() == 1
    page.click("Hide")
    assert MARKER not in page.source
    # The value is replaced; what the page does not change stays.
    page.fill(value="second")
    page.click("Save")
    assert "Saved." in page.text and stored(strict, "bob") == {"db-password": "second"}
    page.fill(description="of the other database")
    page.click("Save")
    page.open()
    row = page.row("db-password")
    assert "of the other database" in row and soon in row and row.split()[-1] == "2"
    # An earlier version.
    page.click("db-password")
    page.click("Restore version 1")
    assert "Restored." in page.text and stored(strict, "bob") == {"db-password": value}
    assert MARKER not in page.source
    # Removed, undone, removed, restored.
    page.click("Remove")
    assert "Removed." in page.text and stored(strict, "bob") == {}
    page.click("Undo")
    assert stored(strict, "bob") == {"db-password": value}
    page.click("Remove")
    page.open()
    page.click("Restore")
    assert "Restored." in page.text and stored(strict, "bob") == {"db-password": value}
    told = [did for did, *names, outcome in actions(strict, "bob") if names == ["db-password"] and outcome == "ok"]
    assert [did for did in told[::-1] if not did.startswith("read")] == [
        "set", "set", "described", "restored", "removed", "restored", "removed", "restored",
    ]
    assert MARKER.encode() not in (strict.directory / "log").read_bytes()


def test_a_name_that_is_there_and_what_cannot_be_stored(page, strict):
    page.add("token", "first")
    page.add("token", "second", description="typed")
    assert "already" in page.text and stored(strict, "bob") == {"token": "first"}
    # What was typed is there, but for the value.
    assert page.driver.find_element(By.ID, "description").get_property("value") == "typed"
    assert page.driver.find_element(By.ID, "value").get_property("value") == ""
    page.fill(name="token2", value="second")
    page.click("Save")
    assert stored(strict, "bob") == {"token": "first", "token2": "second"}


def test_what_a_second_tab_saves_wipes_nothing(page, strict):
    page.add("token", "first", description="one")
    page.click("token")
    one = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": page.width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    page.open()
    page.click("token")
    page.fill(value="second", description="two")
    page.click("Save")
    page.driver.switch_to.window(one)
    page.fill(value="third", description="three")
    page.click("Save")
    assert "changed after you opened it" in page.text and "you saw version 1" in page.text
    assert stored(strict, "bob") == {"token": "second"} and "two" in page.text
    assert page.driver.find_element(By.ID, "description").get_property("value") == "three"
    assert "third" not in page.source and "second" not in page.source
    # Knowing that, it is saved.
    page.fill(value="third")
    page.click("Save")
    assert "Saved." in page.text and stored(strict, "bob") == {"token": "third"}
    # A description is no version: it is not wiped either. Nor is what changed meanwhile removed or restored.
    browser = signed_in(strict, "bob")
    describe = lambda text: browser.change("POST", "/dkusecrets/v1/secrets/describe", {"name": "token", "description": text})
    assert describe("by the API")[0] == 200
    for button in ["Save", "Remove", "Restore version 1"]:
        page.click(button)
        assert "changed after you opened it" in page.text and "by the API" in page.text
        assert "Its value is the one that you saw" in page.text
        assert stored(strict, "bob") == {"token": "third"}
        describe("by the API again")
    # Removed meanwhile.
    assert browser.change("POST", "/dkusecrets/v1/secrets/remove", {"name": "token"})[0] == 200
    page.click("Save")
    assert "It was removed." in page.text and stored(strict, "bob") == {}


def test_a_name_full_of_html_and_quotes(page, strict):
    page.add(NASTY, NASTY, description=NASTY)
    assert NASTY in page.row(NASTY)
    page.click(NASTY)
    page.click("Show")
    assert page.driver.find_element(By.CSS_SELECTOR, "pre.value").text == NASTY
    page.click("Hide")
    # The snippets read it.
    snippets = {one: page.driver.find_element(By.CSS_SELECTOR, f"pre.{one}").text for one in ["r", "python"]}
    page.click("API keys")
    page.fill(label=NASTY)
    page.click("Create")
    key = page.driver.find_element(By.CSS_SELECTOR, "pre.key").text
    assert NASTY in page.text
    env = {**os.environ, "DKU_DSS_URL": strict.url, "DKU_API_KEY": key, "PYTHONPATH": str(dss_client("15.2.0"))}
    env["HOME"] = str(strict.directory)
    for command, code, say in [
        (["Rscript", "-e"], snippets["r"], "\ncat(secret_value)"),
        ([sys.executable, "-c"], snippets["python"], "\nprint(secret_value, end='')"),
    ]:
        done = subprocess.run([*command, code + say], env=env, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, NASTY), done.stderr
    page.click("Activity")
    assert NASTY in page.text
    page.open()
    page.click(NASTY)
    page.click("Remove")
    assert NASTY in page.text
    # No name is in an address, nor in the server's own log.
    assert "img" not in page.driver.current_url and b"onerror" not in (strict.directory / "log").read_bytes()


def test_api_keys(page, strict):
    page.click("API keys")
    assert "You have none." in page.text
    page.fill(label="laptop", expires="2099-12-31")
    page.click("Create")
    key = page.driver.find_element(By.CSS_SELECTOR, "pre.key").text
    assert key.startswith("dkuaps-") and page.driver.find_element(By.CSS_SELECTOR, "tbody tr").text.count("–") == 1
    info = lambda: strict.ask("GET", "/dip/publicapi/auth/info?withSecrets=true", basic(key))
    assert info()[0] == 200 and info()[2]["associatedDSSUser"] == "bob"
    page.open("/keys")
    # Shown once; used since.
    row = page.driver.find_element(By.CSS_SELECTOR, "tbody tr").text
    assert key not in page.source and "laptop" in row and "–" not in row and "2100-01-01 00:00" in row
    page.click("Revoke")
    assert "The key is revoked." in page.text and "You have none." in page.text
    assert info()[0] == 401
    page.fill(label="old", expires="2001-01-01")
    page.click("Create")
    assert "over already" in page.text and "You have none." in page.text


def test_activity_in_plain_words(page, strict):
    page.add("db-password", "x")
    page.add("token", "y")
    key = signed_in(strict, "bob").change("POST", "/public/api/personal-api-keys", {"label": "job"})[1]["key"]
    for name, script in [("db-password", "nightly.R"), ("token", "report.R")]:
        asked = {**basic(key), "X-Dkusecrets-Script": script}
        assert strict.ask("POST", "/dkusecrets/v1/secrets/get", asked, {"name": name})[0] == 200
    page.click("Activity")
    rows = lambda: [row.text for row in page.driver.find_elements(By.CSS_SELECTOR, "tbody tr")]
    assert "Value read: token" in rows()[0] and "report.R" in rows()[0]
    assert "Value read: db-password" in rows()[1] and "nightly.R" in rows()[1]
    assert any("API key created" in row for row in rows()) and any("Sign-in" in row for row in rows())
    # Nothing is told in the log's own words.
    told = [cell.text for cell in page.driver.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(2)")]
    assert "Link for a password made: bob" in told and all(says[0].isupper() for says in told)
    # Which script read it last week?
    choose = lambda **wanted: [
        Select(page.driver.find_element(By.ID, id)).select_by_visible_text(says) for id, says in wanted.items()
    ]
    choose(secret="db-password", what="reads", days="the last 7 days")
    page.click("Filter")
    assert len(rows()) == 1 and "Value read: db-password" in rows()[0] and "nightly.R" in rows()[0]
    assert "db-password" not in page.driver.current_url
    choose(what="changes")
    page.click("Filter")
    assert len(rows()) == 1 and "Value stored: db-password" in rows()[0]
    choose(secret="all", what="all", script="report.R")
    page.click("Filter")
    assert len(rows()) == 1 and "Value read: token" in rows()[0]
    # Who looks at the list sees when it was last read.
    page.open()
    assert page.row("token").count("UTC") == 2


@pytest.mark.parametrize("width", [360, 1280])
def test_two_people_at_once_and_in_french(strict, browser, width):
    for login in ["bob", "carol"]:
        with_password(strict, login)
    bob = Page(browser(javascript=False), strict, width)
    carol = Page(browser(javascript=False, language="fr-FR,fr"), strict, width)
    bob.sign_in("bob")
    carol.open()
    assert carol.driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == "fr"
    carol.fill(login="carol", password=GOOD)
    carol.click("Se connecter")
    bob.add("token", "MARKER-bob")
    carol.click("Ajouter")
    carol.fill(name="token", value="MARKER-carol")
    carol.click("Enregistrer")
    assert "Autres identifiants" in carol.text and "Mon compte" in carol.text
    for page, login, other, show in [(bob, "bob", "carol", "Show"), (carol, "carol", "bob", "Afficher")]:
        assert stored(strict, login) == {"token": f"MARKER-{login}"}
        page.click("token")
        page.click(show)
        assert f"MARKER-{login}" in page.text and other not in page.source
    # The address of one's own secret is nothing to somebody else.
    bob.open(carol.driver.current_url.removesuffix("/show").removeprefix(strict.url))
    assert "That did not work" in bob.text and "MARKER" not in bob.source
    for path, says in [("/keys", "Clés d’API"), ("/activity", "Valeur enregistrée"), ("/password", "Mot de passe actuel")]:
        carol.open(path)
        assert says in carol.text


def test_no_value_is_in_any_answer_before_it_is_shown(strict):
    with_password(strict, "bob")
    browser = signed_in(strict, "bob")
    value = {"name": "token", "value": MARKER, "description": "d"}
    assert browser.change("POST", "/dkusecrets/v1/secrets/set", value)[0] == 200
    page = browser.send("GET", "/")[1]
    at = re.search(r'href="(/secrets/[^"]+)"', page)[1]
    answers = []
    for path in ["/", at, "/keys", "/activity", "/password", "/style.css", "/link"]:
        status, text = browser.send("GET", path)
        answers.append((status, str(browser.answered), text))
        assert browser.answered["Cache-Control"] == "no-store" and browser.answered["X-Content-Type-Options"] == "nosniff"
        if path != "/style.css":
            policy = browser.answered["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
            assert len(text) < 100_000
    seen = re.search(r'name="seen" value="([^"]+)"', browser.send("GET", at)[1])[1]
    form = {"csrf": browser.csrf, "seen": seen, "value": "", "description": "e", "expires": ""}
    for path in [at, f"{at}/remove", f"{at}/restore"]:
        answers.append((*browser.form(path, **form), str(browser.answered)))
        answers.append((*browser.form(path, **{**form, "seen": "1.1.0"}), str(browser.answered)))
    assert [answer[0] for answer in answers[7:]] == [303, 409, 409, 409, 409, 409]
    assert not any(MARKER in str(answer) for answer in answers)
    status, text = browser.form(f"{at}/show", csrf=browser.csrf)
    assert status == 200 and MARKER in text and MARKER not in str(browser.answered)
    # It goes by itself, without a script.
    assert browser.answered["Refresh"] == f"30; url={at}"


def test_forms_of_others_are_refused_and_change_nothing(strict):
    for login in ["bob", "carol"]:
        with_password(strict, login)
    browser, carol = signed_in(strict, "bob"), signed_in(strict, "carol")
    put_by = lambda who: who.change("POST", "/dkusecrets/v1/secrets/set", {"name": "token", "value": MARKER})[0]
    assert put_by(browser) == 200
    at = re.search(r'href="(/secrets/[^"]+)"', browser.send("GET", "/")[1])[1]
    seen = re.search(r'name="seen" value="([^"]+)"', browser.send("GET", at)[1])[1]
    id = browser.change("POST", "/public/api/personal-api-keys", {"label": "x"})[1]["id"]
    host = urllib.parse.urlsplit(strict.url).netloc
    forms = {
        "/secrets": {"name": "new", "value": "v", "description": "", "expires": ""},
        at: {"seen": seen, "value": "v", "description": "", "expires": ""},
        f"{at}/show": {}, f"{at}/remove": {"seen": seen}, f"{at}/restore": {"seen": seen},
        "/keys": {"label": "evil", "expires": ""}, "/keys/revoke": {"id": id}, "/confirm-key": {"id": id},
        "/sign-out": {}, "/sign-out-everywhere": {}, "/password": {"password": GOOD, "new": GOOD, "again": GOOD},
    }
    before = browser.ask("GET", "/dkusecrets/v1/secrets")[1], len(browser.ask("GET", "/public/api/personal-api-keys")[1])
    for path, fields in forms.items():
        for csrf in ["", "x", carol.csrf]:
            status, text = browser.form(path, csrf=csrf, **fields)
            assert status == 403 and MARKER not in text, path
        assert browser.form(path, **fields)[0] == 403
        # With the token, but not from one of our pages.
        for headers in [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
                        {"Origin": "null"}, {"Origin": f"http://{host}x"}, {"Origin": "http://evil.example", "Host": host}, {}]:
            status, text = browser.form(path, headers, csrf=browser.csrf, **fields)
            assert status == 403 and MARKER not in text, (path, headers)
        # Somebody else's session with one's own token, and nobody's.
        if path.startswith("/secrets/"):
            assert carol.form(path, csrf=carol.csrf, **fields)[0] == 404
        assert Browser(strict).form(path, csrf=browser.csrf, **fields)[0] == 401
    after = browser.ask("GET", "/dkusecrets/v1/secrets")[1], len(browser.ask("GET", "/public/api/personal-api-keys")[1])
    assert before == after
    assert ("form", "not_allowed") in actions(strict, "bob")
    assert not [action for action in actions(strict, "bob") if action[0] == "read"]
    # A forged Host is in no page.
    for path in ["/", at, "/keys"]:
        assert "evil" not in browser.send("GET", path, headers={**OWN, "Host": "evil.example"})[1]


def test_a_value_of_the_greatest_size(strict):
    with_password(strict, "bob")
    browser = signed_in(strict, "bob")
    form = {"csrf": browser.csrf, "description": "", "expires": ""}
    # Each byte of it is three in the form.
    assert browser.form("/secrets", name="most", value="%" * 2**20, **form)[0] == 303
    status, page = browser.form("/secrets", name="more", value="%" * (2**20 + 1), **form)
    assert status == 400 and "1 MiB" in page and len(page) < 100_000
    assert stored(strict, "bob") == {"most": "%" * 2**20}
    # Nobody sends that much who is not signed in: the server closes, whether or not its answer is still read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert Browser(strict).form("/secrets", name="more", value="%" * 2**20, **form)[0] == 400
    assert stored(strict, "bob") == {"most": "%" * 2**20}


def test_who_cannot_open_secrets_sees_none(strict):
    """A password that somebody else had a part in."""
    with_password(strict, "bob")
    secret = {"name": "token", "value": MARKER}
    assert signed_in(strict, "bob").change("POST", "/dkusecrets/v1/secrets/set", secret)[0] == 200
    assert set_by_link(strict, link_of(strict, "bob"), "bob", OTHER)[0] == 303
    browser = signed_in(strict, "bob", OTHER)
    page = browser.send("GET", "/")[1]
    assert "opens none of your secrets" in page and "token" not in page and MARKER not in page
    assert browser.send("GET", "/activity")[0] == 403
    assert browser.form("/secrets", csrf=browser.csrf, name="n", value="v", description="", expires="")[0] == 403
    # Nor does it make or revoke keys.
    key = strict.key("bob")
    id = re.search(r'name="id" value="([^"]+)"', browser.send("GET", "/keys")[1])[1]
    assert browser.form("/keys", csrf=browser.csrf, label="l", expires="")[0] == 403
    assert browser.form("/keys/revoke", csrf=browser.csrf, id=id)[0] == 403
    assert browser.form("/confirm-key", csrf=browser.csrf, id=id)[0] == 403
    assert strict.ask("GET", "/dip/publicapi/auth/info", basic(key))[0] == 200
