"""`make conformance-matrix`: the suite against local_sagemaker and against moto's server, as a Markdown table.

Each case is one test: passed, or the first line of why not. moto keeps the buckets itself. A case tests what a user
sees: a job that is only said to be Completed fails where the script's own output is asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import xml.etree.ElementTree
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOTO = ROOT / ".venv/moto/bin"
PORT = 14399
CLIENTS = {
    "test_boto3": "boto3",
    "test_aws_cli": "aws-cli",
    "test_sdk2": "SageMaker SDK 2",
    "test_sdk3": "SageMaker SDK 3",
    "test_airflow": "Airflow operators",
    "test_smdebug": "smdebug",
}

Results = dict[tuple[str, str], str]
"""(client, case) → `passed`, or why not."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", help="only the cases whose name matches, as for pytest")
    choice = parser.parse_args(arguments)
    with moto_server() as url:
        theirs = run("moto", choice.k, {"CONFORMANCE_ENDPOINT_URL": url, "CONFORMANCE_S3_ENDPOINT_URL": url})
    ours = run("local_sagemaker", choice.k, {})
    print(table(ours, theirs, pinned("moto", "moto")))
    return int(any(why != "passed" for why in ours.values()))


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    with tempfile.TemporaryFile() as log:
        command = [str(MOTO / "moto_server"), "-H", "127.0.0.1", "-p", str(PORT)]
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"MOTO_ACCOUNT_ID": "000000000000"})
    try:
        deadline = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), timeout=1):
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/moto-api/data.json", timeout=30).read()
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"moto_server does not answer on port {PORT}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.terminate()
        server.wait()


def pinned(group: str, package: str) -> str:
    pins = (ROOT / "requirements" / f"{group}.txt").read_text()
    return pins.partition(f"\n{package}==")[2].partition("\n")[0]


def run(name: str, chosen: str, environment: dict[str, str]) -> Results:
    """The suite in a pytest of its own; its progress goes to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        print(f"== {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider"]
        subprocess.run(
            [*command, *(["-k", chosen] if chosen else []), f"--junitxml={report}", "tests/conformance"],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=sys.stderr,
            check=False,
        )
        return read(report)


def read(report: Path) -> Results:
    results: Results = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        client = CLIENTS.get(case.get("classname", "").rpartition(".")[2], "?")
        problems = [child for child in case if child.tag in ("failure", "error", "skipped")]
        name = case.get("name", "").removeprefix("test_").replace("_", " ")
        results[client, name] = first_line(problems[0].get("message", "")) if problems else "passed"
    return results


def first_line(message: str) -> str:
    """The one sentence of a failure that says why, fit for a cell of a table."""
    line = message.strip().partition("\n")[0].removeprefix("AssertionError: ")
    if "<!doctype html>" in line:  # what a web framework answers when the server itself has failed
        line = line.partition("b'<!doctype")[0].partition(": <!doctype")[0] or "HTTP 500, Internal Server Error"
    line = re.sub(r"\s+", " ", re.sub(r"^[\w.]*\.(\w+(Error|Exception)\b)", r"\1", line)).replace("|", "\\|")
    return line if len(line) <= 160 else f"{line[:157]}…"


def table(ours: Results, theirs: Results, version: str) -> str:
    cases = list(dict.fromkeys([*ours, *theirs]))
    lines = [f"| client | case | local_sagemaker | moto {version} |", "|---|---|---|---|"]
    for case in cases:
        lines.append(f"| {case[0]} | {case[1]} | {ours.get(case, 'not run')} | {theirs.get(case, 'not run')} |")
    clients = ", ".join(f"{name} {metadata.version(name)}" for name in ("boto3", "awscli", "sagemaker"))
    clients += f", sagemaker {pinned('sdk2', 'sagemaker')}, apache-airflow-providers-amazon"
    clients += f" {metadata.version('apache-airflow-providers-amazon')}, smdebug {pinned('ml', 'smdebug')}"
    return "\n".join([*summary(cases, ours, theirs, version), "", *lines, "", f"Clients: {clients}."])


def summary(cases: list[tuple[str, str]], ours: Results, theirs: Results, version: str) -> list[str]:
    lines = [f"| client | cases | local_sagemaker | moto {version} |", "|---|---|---|---|"]
    for client in [*dict.fromkeys(client for client, _ in cases), "all"]:
        mine = [case for case in cases if client in (case[0], "all")]
        passed = [sum(each.get(case) == "passed" for case in mine) for each in (ours, theirs)]
        lines.append(f"| {client} | {len(mine)} | {passed[0]} | {passed[1]} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
