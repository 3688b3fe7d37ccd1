"""The laptop stack in a folder of its own, on free ports, with one tiny recipe, and what starts its services again."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from stack import lifecycle, processes, readiness, store
from stack.airflow_api import AirflowApi
from stack.credentials import Credentials
from stack.services import AIRFLOW_PARTS, SERVER, STORE, Service, services, write_airflow_password
from stack.settings import GRPC_OFFSET, STORE_PARTS, Settings
from tests.e2e.laptop import RECIPE, draw
from tests.object_store import DRAW, free_ports, is_free
from tests.shipped import ROOT, copy_dags
from tests.waiting import wait_until

DAG = "retrain_tiny"
ENDPOINT = "tiny-endpoint"
IMAGES_OF_A_CLASS = 12
READY_WITHIN_S = 240

# Airflow's own defaults leave a dead task unnoticed for five minutes, and a dead scheduler's for as long.
IMPATIENT = {
    "SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "25",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
    "CORE__PARALLELISM": "4",
    # Two cores with all of this on them: an API server that has just started takes its time for a first answer.
    "WORKERS__EXECUTION_API_TIMEOUT": "30",
    # The recipe does not change.
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "600",
}

# Tasks are forked from the scheduler: what it has imported they need not. A run of thirty tasks takes half as long so.
FORKED_WITH = """
import sys
import boto3, sagemaker.core.image_uris, smdebug_rulesconfig, numpy, PIL.Image, PIL.PngImagePlugin
import airflow.providers.standard.operators.python, airflow.providers.amazon.aws.hooks.base_aws
import retraining.page.archive
import retraining.steps, retraining.sensors, retraining.steps.task_requests, retraining.release.served
from retraining.operators import approval, endpoint, jobs, register, resources, rules, training, verification
from airflow.__main__ import main
sys.argv = ["airflow", *sys.argv[1:]]
main()
"""
#: What in the laptop's tiny recipe makes a run longer, and nothing more true of kills.
SHORTER = {
    "max_jobs: 2": "max_jobs: 1",
    "max_parallel_jobs: 2": "max_parallel_jobs: 1",
    "epochs: 4": "epochs: 3",
    "profiler: true": "profiler: false",
    "LossNotDecreasing: warn, VanishingGradient: warn": "LossNotDecreasing: warn",
}


class Installation:
    """Not thread-safe, but for `running` and the clients it makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = _settings(folder)
        self.credentials: Credentials = lifecycle.credentials_of(self.settings)
        self.source = folder / "images"
        self.api = AirflowApi(self.settings.airflow_url, self.credentials.airflow_password)
        if not (folder / "dags").exists():
            copy_dags(folder / "dags", recipes=())
            (folder / "recipes").mkdir()
            (folder / "recipes/tiny.yaml").write_text(recipe(self.source))
        self._services = {service.name: self._adapted(service) for service in services(self.settings, self.credentials)}

    def client(self, service: str, read_timeout_s: float = 20) -> Any:
        """A boto3 client that retries nothing."""
        return readiness.aws_client(service, self.settings, self.credentials, read_timeout_s=read_timeout_s)

    def new_images(self, seed: int) -> None:
        """Other images than those of another seed, of the same two classes."""
        for kind in ("sky", "ground"):
            (self.source / kind).mkdir(parents=True, exist_ok=True)
            for number in range(IMAGES_OF_A_CLASS):
                (self.source / kind / f"{number}.png").write_bytes(draw(kind, 1000 * seed + number))

    def start(self) -> None:
        """All of it, ready for work."""
        self._run.mkdir(exist_ok=True)
        write_airflow_password(self.settings, self.credentials)
        lifecycle.migrate_airflow_database(self.settings, self.credentials)
        self.start_missing()
        self.await_ready()
        wait_until(lambda: self.api.dag(DAG) is not None, "no DAG", every_s=1, patience_s=READY_WITHIN_S)
        self.api.unpause(DAG)

    def stop(self) -> None:
        records = processes.all_recorded(self._run)
        processes.stop([record for record in records if record.name != STORE], run=self._run, patience_s=15)
        processes.stop([record for record in records if record.name == STORE], run=self._run, patience_s=3)
        self.sweep(lambda _process: True)

    def problem(self) -> str:
        """What is not ready for work; empty when all is."""
        records = {record.name: record for record in processes.all_recorded(self._run)}
        return (
            readiness.store_problem(self.client("s3", 3))
            or readiness.server_problem(self.client("sts", 3))
            or readiness.airflow_problem(self.settings, records)
            or ""
        )

    def ready(self, name: str) -> bool:
        """Whether that service works again."""
        if name == STORE:
            return readiness.store_problem(self.client("s3", 3)) is None
        if name == SERVER:
            return readiness.server_problem(self.client("sts", 3)) is None
        record = processes.recorded(self._run, name)
        problem = readiness.airflow_problem(self.settings, {name: record} if record else {})
        return problem is None or (not problem.startswith("api-server") and f"{name} is" not in problem)

    def running(self) -> dict[str, processes.Record]:
        """Service → its process, of those that run."""
        records = processes.all_recorded(self._run)
        return {record.name: record for record in records if processes.is_running(record)}

    @property
    def services(self) -> tuple[str, ...]:
        """Their names, in the order in which they are started."""
        return tuple(self._services)

    @property
    def jobs(self) -> Path:
        """Where `local_sagemaker` keeps a folder for each job and model server."""
        return self.settings.state / "sagemaker"

    def start_missing(self) -> bool:
        """What does not run is started; always true."""
        running = self.running()
        for name in self.services:
            if name not in running:
                self.start_again(name)
        return True

    def await_ready(self) -> None:
        wait_until(lambda: not self.problem(), self.problem, every_s=1, patience_s=READY_WITHIN_S)

    def sessions(self) -> set[int]:
        """Of every process that was ever started as a service here; each leads one."""
        lines = self._started.read_text().splitlines() if self._started.exists() else []
        births = {int(pid): birth for pid, _, birth in (line.partition(" ") for line in lines)}
        # A number that another process has now, of whatever session, leads none of ours any more.
        return {pid for pid, birth in births.items() if processes.birth(pid) in (None, birth)}

    def mine(self) -> list[psutil.Process]:
        """Every process that lives in one of those sessions, or carries this folder as what it works for."""
        sessions, found = self.sessions(), []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in sessions or _works_for(process, self.folder):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def sweep(self, which: Callable[[psutil.Process], bool]) -> int:
        """Kills those of `mine` that do not descend from a running service and of which `which` is true."""
        kept = {record.pid for record in self.running().values()}
        ended = 0
        for process in self.mine():
            try:
                if not kept & {process.pid, *(parent.pid for parent in process.parents())} and which(process):
                    process.send_signal(signal.SIGKILL)
                    ended += 1
            except psutil.Error:
                continue
        return ended

    @property
    def _run(self) -> Path:
        return lifecycle.run_folder(self.settings)

    @property
    def _started(self) -> Path:
        return self._run / "started"

    def start_again(self, name: str) -> None:
        """As its service manager does."""
        if name == STORE:
            store.prepare(self.settings)
        service = self._services[name]
        record = processes.start(
            name,
            service.command,
            environment=service.environment,
            cwd=self.folder,
            log=self.settings.state / "logs" / f"{name}.log",
            run=self._run,
        )
        with self._started.open("a") as file:
            file.write(f"{record.pid} {record.birth}\n")

    def _adapted(self, service: Service) -> Service:
        environment = dict(service.environment) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
        command = service.command
        if service.name in AIRFLOW_PARTS:
            environment |= {
                "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
                "RETRAINING_RECIPES": str(self.folder / "recipes"),
                "RETRAINING_POLL_SECONDS": "1",
            }
            environment |= {f"AIRFLOW__{name}": value for name, value in IMPATIENT.items()}
        if service.name == "scheduler":
            command = (command[0], "-c", FORKED_WITH, *command[3:])
        if service.name == SERVER:
            command = (*command, "--stop-grace", "3", "--time-scale", "0.01", "--cores", "1", "--max-instances", "1")
        if service.name == STORE:
            command = store.command(dataclasses.replace(self.settings, root=self.folder), service.command[0])
        return dataclasses.replace(service, command=command, environment=environment)


def recipe(source: Path) -> str:
    """Of the one classifier, as YAML."""
    text = RECIPE.format(source=source)
    for long, short in SHORTER.items():
        assert long in text, long
        text = text.replace(long, short)
    return text


def _settings(folder: Path) -> Settings:
    """The same ports each time for one folder, so that a campaign can go on."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "ports.json"
    if not kept.exists():
        kept.write_text(json.dumps(_free_ports()))
    return Settings(root=ROOT, state=folder / "state", **json.loads(kept.read_text()))


def _free_ports() -> dict[str, int]:
    server, airflow = free_ports(2)
    while True:
        first = DRAW.randrange(20_000, 30_000)
        needed = [first + offset for offset in range(len(STORE_PARTS))]
        if all(is_free(port) and is_free(port + GRPC_OFFSET) for port in needed):
            return {"sagemaker_port": server, "airflow_port": airflow, "s3_port": first}


def _works_for(process: psutil.Process, folder: Path) -> bool:
    mark = process.environ().get("LOCAL_SAGEMAKER_PROCESS", "")
    return mark.startswith(f"{folder}/")
