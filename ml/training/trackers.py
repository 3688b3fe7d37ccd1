"""One tracker's process: reads what tracking.py sends, and records it with the tracker's library.

    python trackers.py wandb|mlflow        lines of JSON on stdin; says on stderr where the run is, or what went wrong

It outlives a SIGTERM, which is meant for the training, and ends itself soon after the training has ended in whichever
way: when the lines end without a word about the end, the training was killed. Nothing secret is printed: libraries are
silenced, and what an error quotes is held against the environment.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Lines = queue.SimpleQueue[str | None]

LINGER_S = 60  # after the training has ended
HTTP_TIMEOUT_S = 10
SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


class WandbRun:
    """A run of Weights & Biases. It is offline where WANDB_MODE says so."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        if output := os.environ.get("SM_OUTPUT_DATA_DIR"):  # what lies there outlives the job
            os.makedirs(output, exist_ok=True)
            os.environ.setdefault("WANDB_DIR", output)
        os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(HTTP_TIMEOUT_S))
        import wandb

        # Nothing but what it is told: this process is not the training, so its code, output and load mean nothing.
        settings = wandb.Settings(
            init_timeout=3 * HTTP_TIMEOUT_S, console="off", disable_code=True, disable_git=True, save_code=False
        )
        self.run = wandb.init(
            id=start["run"],
            name=os.environ.get("WANDB_NAME") or start["tags"].get("training_job"),
            resume="allow",
            config=start["hyperparameters"] | start["tags"],
            tags=[value for name, value in start["tags"].items() if name in ("training_job", "tuning_job")],
            settings=settings,
        )
        self.place = self.run.url or self.run.dir

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        self.run.log({**values, "epoch": number}, step=number)

    def end(self, status: str, best: Mapping[str, float]) -> None:
        self.run.summary.update({f"best/{name}": value for name, value in best.items()} | {"status": status})
        # W&B knows finished and failed; a stop that was asked for is no failure.
        self.run.finish(exit_code=0 if status in ("finished", "stopped") else 1)


class MlflowRun:
    """A run of MLflow, on a server or in a folder."""

    STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "killed": "KILLED"}

    def __init__(self, start: Mapping[str, Any]) -> None:
        # Its own patience is minutes; and it wants to be told that a folder is meant as a store.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(HTTP_TIMEOUT_S))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise ValueError("MLFLOW_TRACKING_URI is not set; it is the address of a server, or a folder")
        from mlflow import MlflowClient

        self.client = MlflowClient()
        experiment = self.experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default")
        found = self.found(experiment, start["run"]) if start["resumed"] else None
        if found is None:
            names = start["tags"] | {"training": start["run"]}
            made = self.client.create_run(experiment, tags=names, run_name=names.get("training_job"))
            self.id: str = made.info.run_id
            for name, value in start["hyperparameters"].items():
                self.client.log_param(self.id, name, value)
        else:
            self.id = found
            self.client.update_run(self.id, status="RUNNING")
        self.place = f"{hidden(os.environ['MLFLOW_TRACKING_URI'])} experiment {experiment} run {self.id}"

    def experiment(self, name: str) -> str:
        known = self.client.get_experiment_by_name(name)
        return known.experiment_id if known else self.client.create_experiment(name)

    def found(self, experiment: str, training: str) -> str | None:
        """The run of a training that goes on."""
        runs = self.client.search_runs([experiment], filter_string=f"tags.training = '{training}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=number)

    def end(self, status: str, best: Mapping[str, float]) -> None:
        for name, value in best.items():
            self.client.log_metric(self.id, f"best/{name}", value)
        self.client.set_tag(self.id, "status", status)
        self.client.set_terminated(self.id, self.STATUS[status])


RUNS: dict[str, Callable[[Mapping[str, Any]], WandbRun | MlflowRun]] = {"wandb": WandbRun, "mlflow": MlflowRun}


def follow(
    make_run: Callable[[Mapping[str, Any]], WandbRun | MlflowRun], lines: Lines, say: Callable[[str], object]
) -> None:
    """Record the events of the queue `lines` until the training's end, or theirs, which means that it was killed."""
    run: WandbRun | MlflowRun | None = None
    while (line := lines.get()) is not None:
        message = json.loads(line)
        event = message.pop("event")
        if event == "start":
            run = make_run(message)
            say(f"tracking: {run.place}")
            continue
        assert run is not None  # a start comes first
        if event == "epoch":
            run.epoch(**message)
        else:
            run.end(**message)
            return
    if run is not None:
        run.end("killed", {})


def read(stream: Iterable[str]) -> Lines:
    """A queue of the lines of `stream`, then None. From then on a library that hangs has LINGER_S left."""
    lines: Lines = queue.SimpleQueue()

    def fill() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)
        time.sleep(LINGER_S)
        os._exit(1)

    threading.Thread(target=fill, daemon=True).start()
    return lines


def hidden(text: str) -> str:
    """`text` without passwords in addresses, and without the values of variables whose names sound secret."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= 6:
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def main() -> None:
    (name,) = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = os.fdopen(os.dup(2), "w", buffering=1)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)

    def say(text: str) -> None:
        own.write(text + "\n")

    try:
        follow(RUNS[name], read(sys.stdin), say)
    except BaseException as error:  # also a library's own exit
        what = " ".join(hidden(f"{type(error).__name__}: {error}").split())[:400]
        say(f"WARNING: tracking: {name} failed and records no more ({what}); the training is not affected")
        own.flush()
        os._exit(1)  # without the waits that libraries hang on a normal end


if __name__ == "__main__":
    del sys.path[0]  # this folder: a library that imports `metrics` must not get ours
    main()
