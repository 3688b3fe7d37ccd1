"""A training that watches itself, for accounts without SageMaker Debugger, and what is judged of it afterwards."""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import evaluate_rules
from debugger import watcher
from network import model
from recordings.output import UnusableOutput, opened
from tests.waiting import PATIENCE_S
from training import flags

ML = Path(watcher.__file__).parents[1]
EVERY = {"save_interval": "1"}
HOOK = {
    "CollectionConfigurations": [
        {"CollectionName": "losses", "CollectionParameters": EVERY},
        {"CollectionName": "gradients", "CollectionParameters": EVERY | {"reductions": "abs_mean,min,max"}},
        {"CollectionName": "labels", "CollectionParameters": EVERY | {"include_regex": "^(labels|predictions)_"}},
        {"CollectionName": "images", "CollectionParameters": EVERY | {"include_regex": "^ResNet_input_0"}},
    ]
}
RULES = {
    "LossNotDecreasing": {"num_steps": "3"},
    "VanishingGradient": {},
    "ExplodingTensor": {},
    "ClassImbalance": {
        "samples": "20",
        "argmax": "True",
        "labels_regex": "^labels",
        "predictions_regex": "^predictions",
    },
    "Confusion": {"labels_collection": "labels", "predictions_collection": "labels"},
    "CheckInputImages": {"regex": "^ResNet_input_0", "threshold_samples": "20", "threshold_mean": "3"},
    "ProfilerReport": {},
}
MARKER = "training_job_end.ts"


def self_hosted(**others):
    return {"debug-hook-config": json.dumps(HOOK), "profile": "true"} | others


class Judged:
    """Verdicts of a training's output, by the program as a processing job starts it."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment
        folder.mkdir()
        names = [{"RuleConfigurationName": name, "RuleParameters": given} for name, given in RULES.items()]
        (folder / "rules.json").write_text(json.dumps(names))
        (folder / "job.json").write_text(json.dumps({"TrainingJobName": "watched-itself"}))

    def __call__(self, name, *arguments, program=(evaluate_rules.__file__,)):
        files = ["--rules", self.folder / "rules.json", "--job", self.folder / "job.json"]
        command = [sys.executable, *program, *arguments, *files, "--output", self.folder / name]
        subprocess.run(list(map(str, command)), env=self.environment, check=True, timeout=PATIENCE_S)
        return self.verdicts(name)

    def verdicts(self, name):
        return {rule: json.loads((self.folder / name / rule / "verdict.json").read_text()) for rule in RULES}

    def statuses(self, *arguments):
        return {rule: verdict["RuleEvaluationStatus"] for rule, verdict in self("out", *arguments).items()}


@pytest.fixture
def judged(tmp_path, environment):
    return Judged(tmp_path / "judged", environment)


@pytest.fixture(scope="module")
def output(images, environment, job_class, tmp_path_factory):
    """SM_OUTPUT_DATA_DIR of a training that watched itself from beginning to end."""
    job = job_class(tmp_path_factory.mktemp("watched"), images, environment | {"TRAINING_JOB_NAME": "watched-itself"})
    status, _, stderr = job.run(**self_hosted(epochs=4))
    assert status == 0, stderr
    return job.output_dir / "data"


def packed(output, path):
    """As SageMaker packs it."""
    with tarfile.open(path, "w:gz") as archive:
        for entry in sorted(output.iterdir()):
            archive.add(entry, entry.name)
    return path


def files(folder):
    """{name: content} of what a rule has written, but for when it was written."""
    return {
        path.relative_to(folder).as_posix(): re.sub(rb"<footer>Written [^<.]+\.", b"", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_tensors_and_times_lie_in_the_layout_of_the_platform(output):
    names = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert {f"debug-output/{MARKER}", "debug-output/index/000000000/000000000000_worker_0.json"} <= names
    assert {f"profiler-output/{part}/{MARKER}" for part in ("system", "framework")} <= names
    assert any(name.startswith("profiler-output/system/incremental/") for name in names)
    assert any(name.startswith("profiler-output/framework/pevents/") for name in names)


def test_an_archive_is_judged_as_its_folders_are(output, judged):
    """The same bytes in every file but for the member that names the place."""
    managed = judged("managed", "--tensors", output / "debug-output", "--profiler", output / "profiler-output")
    archive = packed(output, judged.folder / "output.tar.gz")
    own = judged("own", "--training-output", archive)
    assert {verdict.pop("Tensors") for verdict in own.values()} == {f"{archive}/debug-output"}
    assert own == {rule: {key: verdict[key] for key in own[rule]} for rule, verdict in managed.items()}
    reports = [files(judged.folder / name / "ProfilerReport/profiler-output") for name in ("managed", "own")]
    assert reports[0] == reports[1]
    assert not list(judged.folder.glob(".training-output-*"))


def test_unpacked_folders_give_the_same_bytes(output, judged):
    judged("managed", "--tensors", output / "debug-output", "--profiler", output / "profiler-output")
    judged("own", "--training-output", output)
    assert files(judged.folder / "own") == files(judged.folder / "managed")


def test_rules_about_data_find_their_tensors(output, judged):
    """Labels, predictions and inputs are registered where a collection names them."""
    verdicts = judged("out", "--training-output", output)
    assert verdicts["ClassImbalance"]["Evidence"]["judgements"] > 0
    assert len(verdicts["Confusion"]["Evidence"]["confusion"]) == 3
    assert verdicts["CheckInputImages"]["Evidence"]["images"] > 20


def test_the_one_logit_of_a_binary_head_is_a_score_of_each_class(monkeypatch):
    monkeypatch.setattr(watcher, "platform_config", lambda: None)
    debugger, saved = watcher.Debugger(), {}
    debugger.hook = SimpleNamespace(record=saved.__setitem__, saves=lambda _: False)
    logits = torch.tensor([[-2.0], [3.0]])
    debugger.batch(torch.tensor([0, 1]), logits)
    assert saved["predictions"].argmax(1).tolist() == model.predictions(logits).tolist() == [0, 1]


BLOCKED = """
import runpy, sys, sysconfig
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        ours = (own / f"{top}.py").is_file() or (own / top).is_dir()
        known = top in sys.stdlib_module_names or top == "numpy" or ours
        if not known:
            raise ImportError(f"{name} is not in a plain container")
from pathlib import Path
own = Path(sys.argv[1]).parent
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_judging_needs_nothing_but_numpy(output, judged, tmp_path):
    (tmp_path / "blocked.py").write_text(BLOCKED)
    judged.environment = judged.environment | {"PYTHONPATH": str(ML)}
    archive = packed(output, judged.folder / "output.tar.gz")
    program = (tmp_path / "blocked.py", evaluate_rules.__file__)
    with pytest.raises(subprocess.CalledProcessError):  # the block blocks
        subprocess.run(
            [sys.executable, program[0], str(ML / "train.py")],
            check=True,
            env=judged.environment,
            stderr=subprocess.PIPE,
        )
    verdicts = judged("out", "--training-output", archive, program=program)
    assert verdicts["ProfilerReport"]["RuleEvaluationStatus"] != "Error"


def test_a_training_that_fails_leaves_its_last_step_and_the_markers(job, judged):
    assert job.run(**self_hosted(lr=10, optimizer="sgd", epochs=40))[0] == 1
    assert job.failure.partition("NONFINITE_")[2].startswith(("LOSS", "METRIC"))  # whichever the numbers reach first
    output = job.output_dir / "data"
    assert (output / f"debug-output/{MARKER}").exists() and (output / f"profiler-output/system/{MARKER}").exists()
    statuses = judged.statuses("--training-output", packed(output, judged.folder / "output.tar.gz"))
    assert statuses["ExplodingTensor"] == "IssuesFound"


def test_a_killed_training_is_judged_by_what_it_left_and_goes_on_watched_otherwise(job, judged, tmp_path):
    checkpoints = {"checkpoint-dir": tmp_path / "checkpoints"}
    process = job.start(**self_hosted(epochs=6, **checkpoints))
    assert next((line for line in process.stdout if "epoch=2/" in line), None)
    process.kill()
    process.communicate()
    output = job.output_dir / "data"
    assert not list(output.rglob(MARKER))
    statuses = judged.statuses("--training-output", packed(output, judged.folder / "output.tar.gz"))
    assert statuses["ExplodingTensor"] == "NoIssuesFound" and statuses["ProfilerReport"] != "Error"

    losses = {"CollectionConfigurations": HOOK["CollectionConfigurations"][:1]}
    status, stdout, stderr = job.run(**checkpoints, **{"epochs": 6, "debug-hook-config": json.dumps(losses)})
    assert status == 0 and "from the checkpoint" in stdout, stderr
    first = min(path.name for path in output.glob("debug-output/index/*/*.json"))
    assert int(first.partition("_")[0]) > 0  # the first half's files do not stay beside the second's
    described = json.loads((job.model_dir / "model.json").read_text())
    assert not {"debug_hook_config", "profile"} & described["hyperparameters"].keys()


WATCHED = """
import json, sys, torch
from debugger.watcher import Debugger
network, criterion = torch.nn.Sequential(torch.nn.Linear(3, 2)), torch.nn.CrossEntropyLoss()
debugger = Debugger(json.loads(sys.argv[1]), sys.argv[2])
debugger.watch(network, criterion)
debugger.phase("train")
for _ in range(2):
    criterion(network(torch.ones(4, 3)), torch.tensor([0, 1, 0, 1])).backward()
    debugger.gradients()
"""


@pytest.fixture
def watched(tmp_path, environment):
    """watched(**environment) -> (debug-output, stdout) of a training of two steps that ends without a word."""

    def run(**variables):
        settings = environment | variables | {"PYTHONPATH": str(ML)}
        command = [sys.executable, "-c", WATCHED, json.dumps(HOOK), str(tmp_path / "data")]
        ended = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        return tmp_path / "data/debug-output", ended.stdout

    return run


@pytest.mark.parametrize("kind", ["own", "smdebug"])
def test_either_hook_follows_the_flag(watched, kind):
    folder, _ = watched(RETRAINING_DEBUG_HOOK=kind, TRAINING_JOB_NAME="watched-itself")
    assert len(list(folder.glob("index/*/*.json"))) == 2
    assert (folder / MARKER).exists()


def test_the_platforms_configuration_goes_first(watched, tmp_path):
    platform = HOOK | {"LocalPath": str(tmp_path / "tensors")}
    (tmp_path / "hook.json").write_text(json.dumps(platform))
    folder, stdout = watched(SMDEBUG_CONFIG_FILE_PATH=str(tmp_path / "hook.json"))
    assert f"--debug-hook-config is left alone: the platform's {tmp_path / 'hook.json'} is followed" in stdout
    assert (tmp_path / "tensors/index").is_dir() and not folder.exists()


# -- the flags ----------------------------------------------------------------------------------------------------

REGEX = {"CollectionName": "x", "CollectionParameters": {"include_regex": "("}}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "is not JSON: Expecting property name"),
        ("[]", "is no JSON object with CollectionConfigurations"),
        ('{"Collections": []}', "it has 'Collections'; known are CollectionConfigurations and HookParameters"),
        ('{"CollectionConfigurations": {}}', "must be a list of objects with CollectionName"),
        ('{"CollectionConfigurations": ["losses"]}', "'losses' in CollectionConfigurations must be an object"),
        (json.dumps({"CollectionConfigurations": [REGEX]}), "include_regex '(' of collection 'x': "),
        (
            '{"CollectionConfigurations": [{"CollectionName": "x"}]}',
            "collection 'x' names no tensors; give it an include_regex",
        ),
        (
            '{"HookParameters": {"save_interval": 5}}',
            "HookParameters {'save_interval': 5} must be an object of strings",
        ),
        (
            '{"HookParameters": {"save_interval": "0"}}',
            "save_interval='0' of collection 'losses' must be a whole number",
        ),
    ],
)
def test_a_hook_configuration_that_cannot_be_followed_is_a_wrong_flag(text, rule):
    with pytest.raises(flags.UsageError) as refused:
        flags.parse(["--train-dir=t", "--validation-dir=v", "--model-dir=m", "--debug-hook-config", text], "")
    assert str(refused.value).startswith(f"argument --debug-hook-config: {text!r}"[:50])
    assert rule in str(refused.value)


def parsed(text):
    return flags.parse(
        ["--train-dir=t", "--validation-dir=v", "--model-dir=m", "--output-data-dir=o", "--debug-hook-config", text], ""
    ).watching.debug_hook_config


def test_the_flag_is_read_as_the_toolkit_and_as_sdks_pass_it(monkeypatch):
    """The toolkit turns a hyperparameter that is a JSON object into `key=value,…`; SDKs encode texts once more."""
    assert parsed(json.dumps(HOOK)) == parsed(json.dumps(json.dumps(HOOK))) == HOOK
    monkeypatch.setenv("SM_HPS", json.dumps({"debug-hook-config": HOOK}))
    assert parsed(f"CollectionConfigurations={HOOK['CollectionConfigurations']}") == HOOK


@pytest.mark.parametrize("flag", [("--debug-hook-config", "{}"), ("--profile", "true")])
def test_recording_needs_a_place(flag, monkeypatch):
    monkeypatch.delenv("SM_OUTPUT_DATA_DIR", raising=False)
    with pytest.raises(flags.UsageError, match=f"argument {flag[0]}: needs --output-data-dir"):
        flags.parse(["--train-dir=t", "--validation-dir=v", "--model-dir=m", *flag], "")


# -- the archive --------------------------------------------------------------------------------------------------


def archive_of(path, *members):
    """A tar file with these (name, type, link) and a few bytes in each."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"four"))
    return path


@pytest.mark.parametrize(
    ("member", "rule"),
    [
        (("debug-output/x", tarfile.SYMTYPE, "/etc/passwd"), "'debug-output/x' is a link or a device"),
        (("debug-output/x", tarfile.LNKTYPE, "history.json"), "'debug-output/x' is a link or a device"),
        (("debug-output/x", tarfile.FIFOTYPE, ""), "'debug-output/x' is a link or a device"),
        (("debug-output/../../x", tarfile.REGTYPE, ""), "'debug-output/../../x' would lie outside"),
        (("/debug-output/x", tarfile.REGTYPE, ""), "'/debug-output/x' would lie outside"),
        (("debug-output/y", tarfile.REGTYPE, ""), "it holds more than 7 bytes"),
    ],
)
def test_an_archive_leaves_its_folder_by_no_way(member, rule, tmp_path):
    path = archive_of(tmp_path / "output.tar.gz", ("debug-output/a", tarfile.REGTYPE, ""), member)
    with pytest.raises(UnusableOutput, match="is not unpacked") as refused, opened(path, most_bytes=7):
        pass
    assert rule in str(refused.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["output.tar.gz"]


def test_other_files_of_the_training_are_left_in_the_archive(tmp_path):
    others = [("history.json", tarfile.REGTYPE, ""), ("latest", tarfile.SYMTYPE, "history.json")]
    path = archive_of(tmp_path / "output.tar.gz", *others, ("./debug-output/a", tarfile.REGTYPE, ""))
    with opened(tmp_path) as (place, folder):
        assert place == str(path)
        assert files(folder) == {"debug-output/a": b"four"}


@pytest.mark.parametrize("left", ["nothing", "half", "other", "tensors", "profile"])
def test_what_is_missing_is_an_error_that_says_so(left, output, judged, tmp_path):
    archive = judged.folder / "output.tar.gz"
    folder = tmp_path / "left"
    folder.mkdir()
    if left == "half":
        packed(output, archive)
        archive.write_bytes(archive.read_bytes()[:20_000])
    elif left != "nothing":
        shutil.copy(output / "history.json", folder)
        for part in {"tensors": ["debug-output"], "profile": ["profiler-output"]}.get(left, []):
            shutil.copytree(output / part, folder / part)
        packed(folder, archive)
    verdicts = judged("out", "--training-output", archive)
    said = {rule: verdict["StatusDetails"] for rule, verdict in verdicts.items()}
    failed = {rule for rule, verdict in verdicts.items() if verdict["RuleEvaluationStatus"] == "Error"}
    report = {"ProfilerReport"}
    assert failed == {"tensors": report, "profile": RULES.keys() - report}.get(left, RULES.keys())
    missing = {
        "nothing": f"there is no '{archive}'; SageMaker makes it of SM_OUTPUT_DATA_DIR when a job ends",
        "half": f"'{archive}' is not a whole archive: ",
        "tensors": f"'{archive}' holds no profiler-output/; the training must run with --profile true",
    }.get(left, f"MissingTensors: '{archive}' holds no tensors in debug-output/; the training must run with")
    text = said["ProfilerReport" if left == "tensors" else "LossNotDecreasing"]
    assert text.removeprefix("TensorUnavailable: ").startswith(missing.removeprefix("MissingTensors: "))
