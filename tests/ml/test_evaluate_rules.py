"""The engine as a process: beside a job that trains, killed and started again, by hand, and over S3."""

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
import urllib.parse
from xml.sax.saxutils import escape

import numpy as np
import pytest

import evaluate_rules
from tests.ml.tensor_writer import TensorWriter
from tests.waiting import PATIENCE_S, wait_until

LOSS = "CrossEntropyLoss_output_0"
RULES = {
    "LossNotDecreasing": {"action_json": '{"name": "stoptraining"}'},
    "VanishingGradient": {},
    "ExplodingTensor": {},
}


class Beside:
    """A training that the test writes, and an evaluator that follows it."""

    def __init__(self, folder, environment):
        self.writer, self.output, self.environment = TensorWriter(folder / "tensors"), folder / "out", environment
        configurations = [
            {"RuleConfigurationName": name, "RuleParameters": {"rule_to_invoke": name} | parameters}
            for name, parameters in RULES.items()
        ]
        (folder / "rules.json").write_text(json.dumps(configurations))
        self.command = [sys.executable, evaluate_rules.__file__, "--rules", str(folder / "rules.json")]
        self.command += ["--tensors", str(folder / "tensors")]
        self.process = None

    def follow(self, *flags):
        command = [*self.command, "--follow", "--poll", "0.05", "--output", str(self.output), *flags]
        self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)

    def judge(self, output):
        """All at once, when it has ended: {rule: verdict}."""
        subprocess.run([*self.command, "--output", str(output)], env=self.environment, check=True, timeout=PATIENCE_S)
        return {name: json.loads((output / name / "verdict.json").read_text()) for name in RULES}

    def train(self, losses):
        for loss in losses:
            self.writer.save("TRAIN", {LOSS: np.float32(loss), "gradient/fc.weight": np.full(4, 0.1, np.float32)})

    def verdict(self, rule):
        path = self.output / rule / "verdict.json"
        return json.loads(path.read_text()) if path.exists() else None

    def wait_for(self, rule):
        def verdict():
            running = self.process.poll() is None
            found = self.verdict(rule)
            assert found or running, f"it ended with no verdict of {rule}"
            return found

        return wait_until(verdict, f"no verdict of {rule}")

    def finished(self):
        """-> {rule: status} once the evaluator has ended by itself."""
        assert self.process.wait(PATIENCE_S) == 0
        return {name: self.verdict(name)["RuleEvaluationStatus"] for name in RULES}


@pytest.fixture
def beside(tmp_path, environment):
    beside = Beside(tmp_path, environment)
    yield beside
    if beside.process is not None:
        beside.process.kill()
        beside.process.communicate()


def test_an_issue_is_told_while_the_job_trains_and_the_rest_when_it_ends(beside):
    beside.follow()
    beside.train([1.5] * 5)
    beside.train([1.5] * 15)
    verdict = beside.wait_for("LossNotDecreasing")
    assert verdict["RuleEvaluationStatus"] == "IssuesFound" and verdict["Evidence"]["step"] == 10
    assert verdict["Actions"] == [{"name": "stoptraining"}]
    assert beside.verdict("VanishingGradient") is None and beside.process.poll() is None
    beside.train([1.5])
    beside.writer.end()
    statuses = beside.finished()
    assert statuses == {
        "LossNotDecreasing": "IssuesFound",
        "VanishingGradient": "NoIssuesFound",
        "ExplodingTensor": "NoIssuesFound",
    }
    assert beside.verdict("VanishingGradient")["Evidence"]["smallest_abs_mean"] == pytest.approx(0.1)


def test_a_killed_evaluator_comes_to_the_same_verdicts(beside, tmp_path):
    beside.follow()
    beside.train([1.5] * 20)
    told = beside.wait_for("LossNotDecreasing")
    beside.process.kill()
    beside.process.wait()
    when = (beside.output / "LossNotDecreasing" / "verdict.json").stat().st_mtime_ns
    beside.train([1.5] * 3 + [float("nan")] * 3)
    beside.writer.end()
    beside.follow()
    beside.finished()
    assert beside.verdict("LossNotDecreasing") == told
    assert (beside.output / "LossNotDecreasing" / "verdict.json").stat().st_mtime_ns == when  # not told twice
    assert {name: beside.verdict(name) for name in RULES} == beside.judge(tmp_path / "at once")
    assert beside.verdict("ExplodingTensor")["Evidence"]["step"] == 23


def test_a_job_that_died_without_a_marker_is_ended_by_the_platform(beside, tmp_path):
    beside.follow("--job-ended", str(tmp_path / "ended"))
    beside.train([2.0 * 0.9**i for i in range(30)])
    (tmp_path / "ended").touch()
    assert beside.finished()["LossNotDecreasing"] == "NoIssuesFound"


def test_a_job_that_nobody_ended_is_given_up(beside):
    beside.train([2.0 * 0.9**i for i in range(30)])
    beside.follow("--timeout", "0.5")
    assert set(beside.finished().values()) == {"Error"}
    assert "no step was saved for 0.5 s" in beside.verdict("LossNotDecreasing")["StatusDetails"]


def test_a_job_that_ends_before_its_first_step_is_not_waited_for(beside, tmp_path):
    (tmp_path / "ended").touch()
    beside.follow("--job-ended", str(tmp_path / "ended"))
    assert set(beside.finished().values()) == {"Error"}


def test_steps_that_come_out_of_order_are_judged_in_order(beside, tmp_path):
    """As where a mirror copies files in any order: when all are there, whoever has no verdict yet looks again."""
    beside.follow()
    losses = [2.0 * 0.9**i for i in range(20)] + [5.0] * 10 + [2.0 * 0.9**i for i in range(30, 40)]
    for step in [*range(10), *range(30, 40)]:  # the last one tells us by VanishingGradient that all these were seen
        gradient = np.full(1, 0.0 if step == 39 else 0.1)
        beside.writer.write(step, "TRAIN", step, {LOSS: np.float32(losses[step]), "gradient/fc.weight": gradient})
    beside.wait_for("VanishingGradient")
    for step in range(10, 30):
        beside.writer.write(step, "TRAIN", step, {LOSS: np.float32(losses[step])})
    beside.writer.end()
    beside.finished()
    assert beside.verdict("LossNotDecreasing")["Evidence"]["step"] == 30
    assert beside.verdict("LossNotDecreasing") == beside.judge(tmp_path / "at once")["LossNotDecreasing"]


def test_damaged_files_are_errors_that_name_them(beside, tmp_path):
    beside.train([2.0 * 0.9**i for i in range(30)])
    beside.writer.end()
    (tmp_path / "tensors/index/000000000/000000000007_worker_0.json").write_text("{")
    verdicts = beside.judge(tmp_path / "out")
    assert {verdict["RuleEvaluationStatus"] for verdict in verdicts.values()} == {"Error"}
    for verdict in verdicts.values():
        assert verdict["StatusDetails"].startswith("CorruptTensors: ")
        assert "000000000007_worker_0.json is not an index of tensors" in verdict["StatusDetails"]


def test_by_hand_there_is_a_table_with_advice(tmp_path, capsys):
    writer = TensorWriter(tmp_path)
    for _ in range(12):
        writer.save("TRAIN", {LOSS: np.float32(1.5)})
    writer.end()
    assert evaluate_rules.main(["--tensors", str(tmp_path), "--rules", "LossNotDecreasing, ExplodingTensor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["LossNotDecreasing", "IssuesFound", "10"]
    assert any("-> Lower the learning rate" in text for text in lines)
    assert lines[-1].split() == ["ExplodingTensor", "NoIssuesFound", "nothing", "wrong"]


def test_a_name_that_is_no_rule_is_a_usage_error(tmp_path, capsys):
    assert evaluate_rules.main(["--tensors", str(tmp_path), "--rules", "LossNotDecresing"]) == 2
    assert "'LossNotDecresing' is neither a file nor a rule; the rules are LossNotDecreasing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("configurations", "complaint"),
    [
        ([{"RuleConfigurationName": "../out"}], "'../out' cannot be the name of a folder"),
        ([{"RuleConfigurationName": "A"}, {"RuleConfigurationName": "A"}], "'A' occurs twice"),
        ([{"RuleConfigurationName": "A", "RuleParameters": "threshold"}], "cannot be read"),
        ([{}], "RuleConfigurationName"),
        ("A", "cannot be read"),
    ],
)
def test_configurations_that_cannot_be_used_are_a_usage_error(configurations, complaint, tmp_path, capsys):
    (tmp_path / "rules.json").write_text(json.dumps(configurations))
    assert evaluate_rules.main(["--tensors", str(tmp_path), "--rules", str(tmp_path / "rules.json")]) == 2
    assert complaint in capsys.readouterr().err


class Store(http.server.BaseHTTPRequestHandler):
    """As much of S3 as reading tensors takes, over a folder; three keys to a page, in no useful order."""

    root = None

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if "list-type" in query:
            return self.reply(200, self.listing(query))
        path = self.root / urllib.parse.unquote(url.path).removeprefix("/bucket/")
        if not path.is_file():
            return self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        content, span = path.read_bytes(), self.headers.get("Range")
        if span:
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            return self.reply(206, content[first : last + 1])
        return self.reply(200, content)

    do_HEAD = do_GET

    def listing(self, query):
        prefix, found = query["prefix"], {}
        for path in self.root.rglob("*"):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix):
                whole = "delimiter" not in query
                head, slash, _ = (key[len(prefix) :], "", "") if whole else key[len(prefix) :].partition("/")
                found[prefix + head + slash] = bool(slash)
        keys = sorted(found, reverse=True)
        start = int(query.get("continuation-token", "0"))
        entries = [
            f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>"
            if found[key]
            else f"<Contents><Key>{escape(key)}</Key></Contents>"
            for key in keys[start : start + 3]
        ]
        more = start + 3 < len(keys)
        token = f"<NextContinuationToken>{start + 3}</NextContinuationToken>" if more else ""
        return f"<L><IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}</L>".encode()

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 08:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def store(tmp_path):
    """(folder behind the bucket's keys, endpoint)"""
    handler = type("Handler", (Store,), {"root": tmp_path / "bucket"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path / "bucket", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def judged_in_s3(output, environment, endpoint, *where):
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [sys.executable, evaluate_rules.__file__, "--rules", "LossNotDecreasing", "--output", str(output), *where]
    subprocess.run(command, env=environment | keys | {"AWS_ENDPOINT_URL_S3": endpoint}, check=True, timeout=PATIENCE_S)
    return json.loads((output / "LossNotDecreasing/verdict.json").read_text())


def test_tensors_in_s3_are_judged_like_those_in_a_folder(store, tmp_path, environment):
    pytest.importorskip("boto3")
    folder, endpoint = store
    writer = TensorWriter(folder / "job/debug-output")
    for _ in range(12):
        writer.save("TRAIN", {LOSS: np.float32(1.5)})
    writer.end()
    verdict = judged_in_s3(tmp_path / "out", environment, endpoint, "--tensors", "s3://bucket/job/debug-output")
    assert verdict["RuleEvaluationStatus"] == "IssuesFound" and verdict["Evidence"]["step"] == 10


@pytest.mark.parametrize("place", ["job/output/output.tar.gz", "job/output", "job/unpacked"])
def test_a_trainings_output_in_s3_is_judged_like_a_file(place, store, tmp_path, environment):
    pytest.importorskip("boto3")
    folder, endpoint = store
    writer = TensorWriter(folder / "job/unpacked/debug-output")
    for _ in range(12):
        writer.save("TRAIN", {LOSS: np.float32(1.5)})
    (folder / "job/output").mkdir()
    with tarfile.open(folder / "job/output/output.tar.gz", "w:gz") as archive:
        archive.add(folder / "job/unpacked/debug-output", "debug-output")
    verdict = judged_in_s3(tmp_path / "out", environment, endpoint, "--training-output", f"s3://bucket/{place}")
    assert verdict["RuleEvaluationStatus"] == "IssuesFound"
    archive = "/output.tar.gz" if place == "job/output" else ""
    assert verdict["Tensors"] == f"s3://bucket/{place}{archive}/debug-output"


def test_without_boto3_s3_is_a_usage_error(tmp_path, environment):
    (tmp_path / "boto3.py").write_text("raise ImportError('no boto3 here')")
    settings = environment | {"PYTHONPATH": os.fspath(tmp_path)}
    command = [sys.executable, evaluate_rules.__file__, "--tensors", "s3://bucket/x"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "can only be read with boto3, which is not installed: pip install boto3" in done.stderr
