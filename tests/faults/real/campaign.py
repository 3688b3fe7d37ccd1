"""Run after run of one installation, with kills in each; what was seen goes into a ledger, one line a run."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from retraining.plan import run_name
from stack.errors import StackError
from stack.services import SERVER
from stack.settings import BUCKET
from tests.faults.real import evidence, invariants
from tests.faults.real.client import Client, outages, unexcused
from tests.faults.real.evidence import Evidence
from tests.faults.real.installation import DAG, ENDPOINT, Installation
from tests.faults.real.tree import MODEL_SERVER, Pick, Row, pick, targets

POLL_S = 0.5
RESTART_S = (0.5, 3.0)
"""After how long a service manager starts a killed service again."""
PEACE_S = 1500
"""A run that nothing was killed in for so long is not waited for any more."""
MOST_AWAY = 2
"""Services on their way back, beside which nothing is killed: a machine that only starts them shows nothing."""
STOPPING_WITHIN_S = 20
JOB_MARKS = ("training-job", "processing-job", "transform-job", "rule-evaluation")
#: Kills of these take answers away from clients of the endpoint.
SERVING = (SERVER, MODEL_SERVER, f"{MODEL_SERVER}'s keeper")


@dataclasses.dataclass
class Kill:
    at: float
    kind: str
    pid: int
    title: str
    whole: bool
    task: str = ""
    """What Airflow was at, at that moment."""
    recovered_s: float | None = None
    """Until the service was ready for work again; None for what nobody starts again."""


@dataclasses.dataclass
class Entry:
    """A run in the ledger."""

    seed: str
    run: str
    state: str
    outcome: str
    reason: str
    seconds: float
    kills: list[Kill]
    harms: list[str]
    lost: str
    requests: int
    failed: int
    outage_s: list[float]

    def line(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of(cls, line: str) -> Entry:
        told = json.loads(line)
        return cls(**told | {"kills": [Kill(**kill) for kill in told["kills"]]})


@dataclasses.dataclass
class Beginning:
    """A run that is under way, as a campaign that was interrupted finds it again. Times are time.time()."""

    number: int
    seed: str
    run_id: str
    name: str
    began: float
    before: dict[str, Any]
    """champion.json when it began."""
    kills: list[Kill]

    @classmethod
    def read(cls, path: Path) -> Beginning | None:
        if not path.exists():
            return None
        told = json.loads(path.read_text())
        return cls(**told | {"kills": [Kill(**kill) for kill in told["kills"]]})

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))


class Campaign:
    def __init__(
        self, installation: Installation, *, seed: int, every_s: float, most: int, say: Callable[[str], None]
    ) -> None:
        """`every_s`: the mean time between two kills; `most`: kills of one run."""
        self._installation, self._seed, self._every_s, self._most = installation, seed, every_s, most
        self._say = say
        self._under_way = installation.folder / "run.json"
        self.ledger = installation.folder / "ledger.jsonl"

    def entries(self) -> list[Entry]:
        return [Entry.of(line) for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []

    def go_on(self, kills: int) -> Iterator[Entry]:
        """Runs until the ledger has that many kills; the one that makes the first champion is left in peace."""
        while (missing := kills - sum(len(entry.kills) for entry in self.entries())) > 0:
            run = Beginning.read(self._under_way)
            # What was picked before the interruption is not picked again.
            rng = random.Random(f"{run.seed}/{len(run.kills)}" if run else f"{self._seed}/{len(self.entries())}")
            entry = self._run(run or self._begin(len(self.entries())), rng, min(self._most, missing))
            with self.ledger.open("a") as file:
                file.write(entry.line() + "\n")
            self._under_way.unlink()
            yield entry

    def _begin(self, number: int) -> Beginning:
        installation = self._installation
        while evidence.patiently(lambda: installation.api.active_runs(DAG)):
            time.sleep(2)
        installation.new_images(number)
        before = evidence.patiently(lambda: evidence.champion(installation.client("s3")))
        begun = evidence.patiently(lambda: installation.api.trigger(DAG, {"force": True}))
        run_id = str(begun["dag_run_id"])
        name = run_name("tiny", datetime.fromisoformat(begun["run_after"]), run_id, BUCKET)
        run = Beginning(number, f"{self._seed}/{number}", run_id, name, time.time(), before, [])
        run.write(self._under_way)
        return run

    def _run(self, run: Beginning, rng: random.Random, most: int) -> Entry:
        """At most `most` kills, none where nothing serves yet."""
        installation = self._installation
        self._say(f"run {run.number}: {run.name}, seed {run.seed}")
        client = Client(ENDPOINT, lambda service: installation.client(service, read_timeout_s=60))
        since = time.time()
        if run.before:
            client.start()
        state = self._follow(run, rng, most if run.before else 0)
        seconds = time.time() - run.began
        self._recover()
        if run.before:
            client.stop()
        found = self._found(run.name, state, run.before, client)
        told = invariants.harms(found)
        # Of kills before an interruption the answers are lost.
        at = [kill.at for kill in run.kills if kill.kind in SERVING and kill.at > since]
        windows = outages(client.answers, at, time.time())
        told += invariants.unanswered(unexcused(client.answers, windows))
        report = found.report or {}
        reason = " ".join(str(report.get("reason")).split())[:300]
        return Entry(
            seed=run.seed,
            run=run.name,
            state=state,
            outcome=str(report.get("outcome")),
            reason=reason,
            seconds=round(seconds, 1),
            kills=run.kills,
            harms=told,
            lost="" if state == "success" else f"{state}: {reason}",
            requests=len(client.answers),
            failed=sum(bool(answer.wrong) for answer in client.answers),
            outage_s=[round(end - start, 1) for start, end in windows],
        )

    def _follow(self, run: Beginning, rng: random.Random, most: int) -> str:
        """Kills, and starts again, until the run has ended; its state."""
        starts: dict[str, float] = {}
        now = last = time.time()
        due = now + self._pause(rng)
        while True:
            time.sleep(POLL_S)
            now = time.time()
            self._start_again(starts, rng, now)
            self._note_recoveries(run.kills, starts, now)
            if now >= due and len(run.kills) < most and len(self._away(run.kills)) < MOST_AWAY:
                if kill := self._kill(rng, run):
                    run.kills.append(kill)
                    self._say(
                        f"  kill -9 {kill.pid} {kill.kind}{' and all below' if kill.whole else ''} at {kill.task}"
                    )
                last = time.time()
                due = last + self._pause(rng)
                run.write(self._under_way)
            state = self._state(run.run_id)
            if state in ("success", "failed"):
                return state
            if now > last + PEACE_S:
                return f"still {state} after {PEACE_S} s"

    def _away(self, kills: list[Kill]) -> set[str]:
        """The services that were killed and are not ready yet."""
        return {kill.kind for kill in kills if kill.recovered_s is None and kill.kind in self._installation.services}

    def _pause(self, rng: random.Random) -> float:
        return rng.uniform(0.3, 1.7) * self._every_s

    def _start_again(self, starts: dict[str, float], rng: random.Random, now: float) -> None:
        """`starts`: killed service → when it is started again."""
        running = self._installation.running()
        for name in self._installation.services:
            if name not in running:
                starts.setdefault(name, now + rng.uniform(*RESTART_S))
        for name in [name for name, at in starts.items() if now >= at]:
            self._installation.start_again(name)
            del starts[name]

    def _note_recoveries(self, kills: list[Kill], starts: dict[str, float], now: float) -> None:
        running = self._installation.running()
        for kill in kills:
            # One that was killed this moment may still be there.
            anew = kill.kind in running and running[kill.kind].pid != kill.pid
            pending = anew and kill.recovered_s is None and kill.kind not in starts
            if pending and self._installation.ready(kill.kind):
                kill.recovered_s = round(now - kill.at, 1)

    def _kill(self, rng: random.Random, run: Beginning) -> Kill | None:
        services = {record.pid: name for name, record in self._installation.running().items()}
        # A service that is on its way back is not killed anew: that would measure patience, not recovery.
        away = self._away(run.kills)
        found = {kind: rows for kind, rows in targets(self._rows(), services).items() if kind not in away}
        chosen = pick(rng, found, self._installation.services)
        return self._strike(chosen, self._at(run.run_id)) if chosen else None

    def _strike(self, chosen: Pick, task: str) -> Kill | None:
        victims = [chosen.row.pid]
        if chosen.whole:
            victims += [row.pid for row in below(self._rows(), chosen.row.pid)]
        at = time.time()
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                if pid == chosen.row.pid:
                    return None  # it ended by itself
        return Kill(at, chosen.kind, chosen.row.pid, chosen.row.title[:120], chosen.whole, task)

    def _rows(self) -> list[Row]:
        rows, root = [], self._installation.jobs
        for process in self._installation.mine():
            try:
                title = " ".join(process.cmdline())
                mark = _mark(process).removeprefix(f"{root}/")
                if process.status() != psutil.STATUS_ZOMBIE and title:
                    rows.append(Row(process.pid, process.ppid(), title, mark))
            except psutil.Error:
                continue
        return rows

    def _state(self, run_id: str) -> str:
        try:
            return str(self._installation.api.run(DAG, run_id)["state"])
        except (httpx.HTTPError, StackError):
            return "unknown"

    def _at(self, run_id: str) -> str:
        try:
            tasks = self._installation.api.task_instances(DAG, run_id)
        except (httpx.HTTPError, StackError):
            return "(the API server is away)"
        return ", ".join(f"{t['task_id']} {t['state']}" for t in tasks if t["state"] in AT_WORK) or "(between tasks)"

    def _recover(self) -> None:
        """All services ready, and what dead schedulers left without work is gone."""
        evidence.patiently(self._installation.start_missing)
        self._installation.await_ready()
        self._installation.sweep(lambda process: "<idle>" in " ".join(process.cmdline()))

    def _found(self, name: str, state: str, before: dict[str, Any], client: Client) -> Evidence:
        """Read once all is back."""
        installation = self._installation
        s3, sagemaker = installation.client("s3", 60), installation.client("sagemaker", 60)
        runtime = installation.client("sagemaker-runtime", 60)
        jobs = evidence.patiently(lambda: evidence.settled(sagemaker, name, STOPPING_WITHIN_S))
        champion = evidence.patiently(lambda: evidence.champion(s3))
        return Evidence(
            run=name,
            state=state,
            before=before,
            champion=champion,
            report=evidence.patiently(lambda: evidence.report(s3, name)),
            endpoint=evidence.patiently(lambda: evidence.endpoint(sagemaker, ENDPOINT)),
            jobs=jobs,
            packages=evidence.patiently(lambda: list(evidence.packages(sagemaker))),
            golden=evidence.patiently(
                lambda: list(evidence.golden(s3, runtime, ENDPOINT, champion)) if champion else []
            ),
            missing=evidence.patiently(lambda: list(evidence.missing(s3, champion))),
            processes=[row.title[:200] for row in self._rows() if row.mark.partition("/")[0] in JOB_MARKS],
            served=[one.config for one in client.served],
        )


AT_WORK = ("queued", "running", "deferred", "up_for_retry", "scheduled", "restarting", "up_for_reschedule")


def below(rows: list[Row], pid: int) -> list[Row]:
    """Every process that descends from that one."""
    found, parents = [], {pid}
    while more := [row for row in rows if row.parent in parents and row not in found]:
        found += more
        parents = {row.pid for row in more}
    return found


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get("LOCAL_SAGEMAKER_PROCESS", "")
    except psutil.Error:
        return ""
