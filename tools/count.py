"""Adds up the suites that tools/test.sh ran: python3 tools/count.py <folder> <suite>...

A suite leaves <suite>.status (its exit status) and either <suite>.tsv (status, name, reason a line),
<suite>.xml (JUnit) or, of cargo test, <suite>.log. A suite that ran no test, or ended badly with no
failed test to show for it, counts as one failure. Ends with one line and exit status 1 on a failure.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def read_tsv(text):
    for line in text.splitlines():
        yield tuple(line.split("\t"))


def read_junit(text):
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        for tag, status in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            found = case.find(tag)
            if found is not None:
                yield status, name, found.get("message") or ""
                break
        else:
            yield "passed", name, ""


def read_cargo(text):
    status = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
    # A test that cannot run here says so on a line of its own and ends well.
    skipped = dict(re.findall(r"^skipped: (\S+): (.*)$", text, re.M))
    for name, result, reason in re.findall(r"^test (.+?) \.\.\. (ok|FAILED|ignored)(?:, (.*))?$", text, re.M):
        if result == "ok" and name in skipped:
            yield "skipped", name, skipped[name]
        else:
            yield status[result], name, reason
    # A test program that was killed prints no results; cargo says how it ended.
    for how in re.findall(r"process didn't exit successfully: (.*\(signal: .*)", text):
        yield "failed", "test program", how


def read_suite(folder, name):
    """The suite's tests as (status, name, reason)."""
    tests = []
    for suffix, read in ((".tsv", read_tsv), (".xml", read_junit), (".log", read_cargo)):
        path = folder / (name + suffix)
        if path.exists():
            tests = list(read(path.read_text(errors="replace")))
            break
    path = folder / f"{name}.status"
    status = path.read_text().strip() if path.exists() else "none"
    if status != "0" and not any(test[0] == "failed" for test in tests):
        tests.append(("failed", "the suite itself", f"exit status {status}"))
    elif not tests:
        tests.append(("failed", "the suite itself", "it ran no test"))
    return tests


def main(folder, names):
    total = {"passed": 0, "failed": 0, "skipped": 0}
    shown = []
    print("\n== results")
    for name in names:
        tests = read_suite(folder, name)
        counts = {status: sum(test[0] == status for test in tests) for status in total}
        for status in total:
            total[status] += counts[status]
        print(f"{name}: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
        shown += [f"  {s} {name}: {test} ({reason})" for s, test, reason in tests if s != "passed"]
    print("\n".join(shown)) if shown else None
    print(", ".join(f"{n} {status}" for status, n in total.items()))
    return 1 if total["failed"] or not total["passed"] else 0


sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
