"""ml/serve.py beside TorchServe and LitServe, in one interleaved run: ResNet-18 at 224 px, a JPEG of about 160 KB.

    .venv/ml/bin/python -m bench.serving            (--quick for small n; --rows latency,rate,no-op,start)

Method. One network with random weights, its BatchNorm statistics settled and its last layer fitted to made-up classes,
is written by ml/'s own code (artifact.py, export.py) and, as a state dict, for the peers (bench/peer_model.py). All get
the same bytes over loopback in a closed loop; a round is n requests to one server after the other, and a ratio the
median of the rounds' ratios, above 1 where we win. Servers that are not asked stand still (SIGSTOP). "ours-best" is
what export.py chose here when eight bits were allowed (--serving int8), "ours-fp32" the same artifact with model.json's
`serving` set to float32. The peers compute in float32, as they come. About ten minutes on two cores.

- latency: one client; server on one core with one thread, client on another.
- rate: eight clients, everything on all cores; peers as they come (one worker) and with a worker for each core.
- no-op: one client, the same picture, a model that answers a constant.
- start: from the command to the first right answer.

Before all that the answers of every server to the same pictures are compared: float32 logits must agree within 1e-3 of
the largest, reduced precision must give at least 99 % of the pictures the same class; else it ends with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
ML, PEERS = REPOSITORY / ".venv/ml/bin", REPOSITORY / ".venv/peers/bin"
NUM_CLASSES, SIDE, SIZE, JPEG_BYTES = 133, 224, (604, 617), 160_000
TRAINING_PICTURES = 200  # for the last layer, and to calibrate eight bits
PICTURES = 100  # compared before the rounds; the first is the one that is timed
KINDS, COARSE = 20, 12  # of classes that are shown; cells of a picture's side in which a class is alike
RIDGE = 0.1
OURS = {"ours-fp32": "fp32", "ours-best": "best"}  # name of a server, its model
GOALS = {"ours-fp32": ">= 1.8", "ours-best": ">= 3"}
CORES = sorted(os.sched_getaffinity(0))
READY_S = 120
CLIENTS = 8


# -- what is served ---------------------------------------------------------------------------------------------------


def pictures(count: int, seed: int) -> list[bytes]:
    """JPEGs with structure at all scales, as photographs have it; number n shows class n % KINDS.

    Pictures of a class share most of their coarse structure, so that a network can tell them apart.
    """
    import numpy as np
    from PIL import Image

    random, made, quality = np.random.default_rng(seed), [], 98
    for number in range(count):
        kind = np.random.default_rng(number % KINDS)
        mixed = np.full((*SIZE[::-1], 3), 128, np.float32)
        for scale, cells in enumerate((2, 5, 12, 30, 75, 190)):
            small = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            if cells <= COARSE:
                small = small // 4 + kind.integers(0, 256, small.shape, dtype=np.uint8) // 4 * 3
            mixed += (np.asarray(Image.fromarray(small).resize(SIZE)) - 128.0) * 0.6 * 0.8**scale
        image = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
        while True:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            if made or buffer.tell() <= JPEG_BYTES:
                break
            quality -= 1  # the first picture has the size that was asked for, the others its quality
        made.append(buffer.getvalue())
    return made


def make_models(folder: Path, bodies: list[bytes]) -> dict[str, Any]:
    """folder/best and folder/fp32, our artifact twice; folder/weights.pth -> model.json's `serving` of the first.

    The network is random but for its last layer, fitted to pictures of the same kinds as `bodies`; those calibrate the
    eight bits too. `bodies` judge them, as a validation set does.
    """
    sys.path.insert(0, str(REPOSITORY / "ml"))
    import torch

    from network import artifact, model
    from pictures import picture
    from training import export

    torch.manual_seed(7)
    network = model.build("resnet18", NUM_CLASSES)
    train_set, validation_set = Pictures(pictures(TRAINING_PICTURES, 1)), Pictures(bodies)
    settle(network, train_set, model.head_name(network))
    description = {
        "network": {"arch": "resnet18", "num_outputs": NUM_CLASSES},
        "classes": [f"class-{number:03}" for number in range(NUM_CLASSES)],
        "image_size": SIDE,
        "mean": picture.MEAN,
        "std": picture.STD,
    }
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    torch.save(state, folder / "weights.pth")
    artifact.save(folder / "best", state, description)
    serving = export.export(folder / "best", validation_set, "int8", train_set)
    shutil.copytree(folder / "best", folder / "fp32")
    single = {"runtime": serving["runtime"], "precision": "fp32", "agreement": 1.0, "images": 0, "reason": "bench"}
    artifact.describe(folder / "fp32", artifact.read_description(folder / "fp32") | {"serving": single})
    (folder / "no-op/code").mkdir(parents=True)
    (folder / "no-op/code/inference.py").write_text(
        "def model_fn(model_dir):\n    return b'{\"logits\": [0.0]}'\n\n\n"
        "def transform_fn(model, body, content_type, accept):\n    return model, 'application/json'\n"
    )
    return dict(serving)


def settle(network: Any, train_set: Pictures, last: str) -> None:
    """BatchNorm's statistics from the pictures, then the last layer by least squares: logits of 10 and 0."""
    import torch

    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all passes
    head, seen = network.get_submodule(last), []
    with torch.no_grad():
        for images in train_set.normalised()[:4]:
            network(images)
        network.eval()
        hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        for images in train_set.normalised():
            network(images)
        hook.remove()
        features = torch.cat(seen).double()
        centre = features.mean(0)
        features -= centre
        wanted = 10.0 * torch.nn.functional.one_hot(train_set.labels, NUM_CLASSES).double()
        products = features.T @ features
        products += RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.double)
        weight = torch.linalg.solve(products, features.T @ wanted).T
        head.weight.copy_(weight)
        head.bias.copy_(wanted.mean(0) - weight @ centre)


class Pictures:
    """Pixels and labels as export.py asks a Channel for them."""

    def __init__(self, bodies: list[bytes]) -> None:
        import numpy as np
        import torch

        from pictures import picture

        squares = [picture.to_pixels(picture.decode(body, side=SIDE), SIDE) for body in bodies]
        self.pixels = torch.from_numpy(np.stack(squares))
        self.labels = torch.arange(len(bodies)) % KINDS

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: list[int]) -> Any:
        return self.pixels[indices]

    def batches(self, size: int, order: Any) -> Iterator[tuple[Any, Any]]:
        for chunk in order.split(size):
            yield self.pixels[chunk], self.labels[chunk]

    def normalised(self) -> list[Any]:
        from pictures import picture

        return [picture.normalise(pixels).contiguous() for pixels in self.pixels.split(20)]


# -- the servers ------------------------------------------------------------------------------------------------------


class Server:
    """A server process and all its children, stopped between its turns."""

    path, headers = "/invocations", {"content-type": "image/jpeg", "accept": "application/json; logits=1"}

    def __init__(self, name: str, folder: Path, threads: int, cores: list[int], **variables: str) -> None:
        self.name, self.folder, self.port = name, folder / f"run-{name}-{time.monotonic_ns()}", free_port()
        self.folder.mkdir()
        self.log = (self.folder / "log").open("w")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SM_", "SAGEMAKER_"))}
        environment |= {"OMP_WAIT_POLICY": "PASSIVE", "TMPDIR": str(self.folder), **variables}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        started = time.perf_counter()
        self.process = subprocess.Popen(
            self.command(),
            env=environment | self.environment(),
            cwd=self.folder,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.start_s = 0.0
        self.started = started

    def command(self) -> list[str]:
        return [str(ML / "python"), str(REPOSITORY / "ml/serve.py"), "serve", "--host", "127.0.0.1"]

    def environment(self) -> dict[str, str]:
        return {"SAGEMAKER_BIND_TO_PORT": str(self.port)}

    def await_answer(self, body: bytes) -> None:
        """Until it has answered once."""
        while time.perf_counter() - self.started < READY_S and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
                self.ask(body)
                self.start_s = time.perf_counter() - self.started
                return
            time.sleep(0.01)
        said = (self.folder / "log").read_text()[-2000:]
        self.stop()
        raise RuntimeError(f"{self.name} did not answer within {READY_S} s. It said: {said}")

    def ask(self, body: bytes) -> list[float]:
        """Logits."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", self.path, body, self.headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"{self.name} answered {response.status}: {content[:200]!r}")
            return list(json.loads(content)["logits"])
        finally:
            connection.close()

    def pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


class Ours(Server):
    pass


class TorchServe(Server):
    path = "/predictions/m"

    def command(self) -> list[str]:
        archiver = [str(PEERS / "torch-model-archiver"), "--model-name", "m", "--version", "1", "--handler"]
        subprocess.run(
            [*archiver, str(REPOSITORY / "bench/peer_model.py"), "--export-path", str(self.folder)], check=True
        )
        addresses = [f"{name}_address=http://127.0.0.1:{free_port()}" for name in ("management", "metrics")]
        ports = [f"grpc_{name}_port={free_port()}" for name in ("inference", "management")]
        lines = [f"inference_address=http://127.0.0.1:{self.port}", *addresses, *ports]
        lines += [f"default_workers_per_model={self.workers()}", "disable_system_metrics=true"]
        (self.folder / "config.properties").write_text("\n".join(lines))
        served = ["--model-store", str(self.folder), "--models", "m=m.mar", "--ts-config", "config.properties"]
        return [str(PEERS / "torchserve"), "--foreground", "--start", "--ncs", "--disable-token-auth", *served]

    def workers(self) -> int:
        return len(CORES) if self.name.endswith("tuned") else 1

    def environment(self) -> dict[str, str]:
        logs = str(self.folder / "logs")
        return {"PATH": f"{PEERS}:{os.environ['PATH']}", "LOG_LOCATION": logs, "METRICS_LOCATION": logs}


class LitServe(Server):
    path = "/predict"

    def command(self) -> list[str]:
        return [str(PEERS / "python"), str(REPOSITORY / "bench/peer_litserve.py"), str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"MODEL_WORKERS": str(len(CORES) if self.name.endswith("tuned") else 1)}


@contextlib.contextmanager
def running(makers: dict[str, Any], body: bytes) -> Iterator[dict[str, Server]]:
    """Those servers, each having answered once, all standing still."""
    servers: dict[str, Server] = {}
    try:
        for name, make in makers.items():
            servers[name] = make(name)
            servers[name].await_answer(body)
            servers[name].pause()
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# -- the client -------------------------------------------------------------------------------------------------------


def closed_loop(server: Server, body: bytes, count: int) -> list[float]:
    """Seconds for each of `count` requests, one after the other on one connection."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
    head = f"POST {server.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {len(body)}\r\n\r\n"
    request, took = head.encode() + body, []
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as answers:
            for _ in range(count):
                sent = time.perf_counter()
                connection.sendall(request)
                read_answer(answers)
                took.append(time.perf_counter() - sent)
    return took


def read_answer(answers: Any) -> None:
    status, length = answers.readline(), 0
    while (line := answers.readline().lower()) not in (b"\r\n", b""):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    answers.read(length)
    if b" 200 " not in status and not status.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answered {status!r}")


def rate(server: Server, body: bytes, count: int) -> float:
    """Requests a second over CLIENTS connections."""
    each, done = max(count // CLIENTS, 1), []
    threads = [
        threading.Thread(target=lambda: done.append(len(closed_loop(server, body, each)))) for _ in range(CLIENTS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if sum(done) != each * CLIENTS:
        raise RuntimeError(f"{server.name}: {sum(done)} of {each * CLIENTS} requests were answered")
    return each * CLIENTS / took


# -- the rounds -------------------------------------------------------------------------------------------------------


class Rows:
    """Prints a table row for each server as soon as its figures are there."""

    def __init__(self) -> None:
        print("| row | server | value | ours is better by | goal | n |\n|---|---|---|---|---|---|", flush=True)

    def add(self, row: str, server: str, value: str, ratios: list[float], goal: str, n: int) -> None:
        better = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        print(f"| {row} | {server} | {value} | {better} | {goal} | {n} |", flush=True)


def interleaved(servers: dict[str, Server], rounds: int, measure: Any) -> dict[str, list[Any]]:
    """measure(server) of each server in turn, `rounds` times over."""
    found: dict[str, list[Any]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            server.resume()
            found[name].append(measure(server))
            server.pause()
    return found


def latency(rows: Rows, folder: Path, body: bytes, rounds: int, count: int, row: str = "latency") -> None:
    cores = CORES[:1]
    weights = {} if row == "no-op" else {"MODEL_WEIGHTS": str(folder / "weights.pth")}
    models = {"ours": "no-op"} if row == "no-op" else OURS
    makers: dict[str, Any] = {
        name: lambda name, model=model: Ours(name, folder, 1, cores, SM_MODEL_DIR=str(folder / model))
        for name, model in models.items()
    }
    if PEERS.exists():
        makers["torchserve"] = lambda name: TorchServe(name, folder, 1, cores, **weights)
        makers["litserve"] = lambda name: LitServe(name, folder, 1, cores, **weights)
    os.sched_setaffinity(0, CORES[1:] or CORES)
    try:
        with running(makers, body) as servers:

            def measure(server: Server) -> list[float]:
                closed_loop(server, body, 3)
                return closed_loop(server, body, count)

            found = interleaved(servers, rounds, measure)
    finally:
        os.sched_setaffinity(0, CORES)
    p50 = {name: [statistics.median(took) for took in lists] for name, lists in found.items()}
    for name, lists in found.items():
        everything = sorted(took for took_all in lists for took in took_all)
        p99 = everything[int(0.99 * (len(everything) - 1))]
        value = f"p50 {1000 * statistics.median(everything):.2f} ms, p99 {1000 * p99:.2f} ms"
        rows.add(f"{row}, 1 client, 1 core", name, value, [], "", len(everything))
    for ours in models:
        for peer in (name for name in found if name not in models):
            ratios = [theirs / own for theirs, own in zip(p50[peer], p50[ours], strict=True)]
            goal = {"no-op": ">= 4", "latency": GOALS[ours] if row == "latency" else ""}[row]
            rows.add(f"{row}, p50", f"{ours} : {peer}", "", ratios, goal, rounds)


def rates(rows: Rows, folder: Path, body: bytes, rounds: int, count: int) -> None:
    weights = {"MODEL_WEIGHTS": str(folder / "weights.pth")}
    makers: dict[str, Any] = {
        name: lambda name, model=model: Ours(name, folder, len(CORES), CORES, SM_MODEL_DIR=str(folder / model))
        for name, model in OURS.items()
    }
    if PEERS.exists():
        for peer in (TorchServe, LitServe):
            plain = peer.__name__.lower()
            makers[plain] = lambda name, peer=peer: peer(name, folder, 0, CORES, **weights)
            makers[f"{plain}-tuned"] = lambda name, peer=peer: peer(name, folder, 1, CORES, **weights)
    with running(makers, body) as servers:

        def measure(server: Server) -> float:
            rate(server, body, 2 * CLIENTS)
            return rate(server, body, count)

        found = interleaved(servers, rounds, measure)
    for name, values in found.items():
        row = f"rate, {CLIENTS} clients, {len(CORES)} cores"
        rows.add(row, name, f"{statistics.median(values):.1f} a second", [], "", rounds * count)
    for ours in OURS:
        for peer in (name for name in found if not name.startswith("ours")):
            ratios = [own / theirs for own, theirs in zip(found[ours], found[peer], strict=True)]
            rows.add("rate", f"{ours} : {peer}", "", ratios, ">= 4" if ours == "ours-best" else "", rounds)


def starts(rows: Rows, folder: Path, body: bytes, rounds: int) -> None:
    weights, found = {"MODEL_WEIGHTS": str(folder / "weights.pth")}, {}
    makers: dict[str, Any] = {"ours": lambda name: Ours(name, folder, 0, CORES, SM_MODEL_DIR=str(folder / "fp32"))}
    if PEERS.exists():
        makers["torchserve"] = lambda name: TorchServe(name, folder, 0, CORES, **weights)
        makers["litserve"] = lambda name: LitServe(name, folder, 0, CORES, **weights)
    for _ in range(rounds):
        for name in makers:
            with running({name: makers[name]}, body) as servers:
                found.setdefault(name, []).append(servers[name].start_s)
    for name, seconds in found.items():
        ratios = [theirs / own for theirs, own in zip(seconds, found["ours"], strict=True)] if name != "ours" else []
        value = f"median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s"
        rows.add("start to first answer", name, value, ratios, "<= 3 s" if name == "ours" else "", rounds)


def disagreements(folder: Path, bodies: list[bytes], precision: str) -> list[str]:
    """Servers whose answers are not those of the others; what they compute is compared, not how fast."""
    weights = {"MODEL_WEIGHTS": str(folder / "weights.pth")}
    makers: dict[str, Any] = {
        name: lambda name, model=model: Ours(name, folder, 0, CORES, SM_MODEL_DIR=str(folder / model))
        for name, model in OURS.items()
    }
    if PEERS.exists():
        makers["torchserve"] = lambda name: TorchServe(name, folder, 0, CORES, **weights)
        makers["litserve"] = lambda name: LitServe(name, folder, 0, CORES, **weights)
    answers = {}
    for name in makers:
        with running({name: makers[name]}, bodies[0]) as servers:
            servers[name].resume()
            answers[name] = [servers[name].ask(body) for body in bodies]
    reference, complaints = answers.pop("ours-fp32"), []
    classes = [logits.index(max(logits)) for logits in reference]
    print(f"{len(bodies)} pictures, {len(set(classes))} classes among their answers")
    for name, lists in answers.items():
        largest = max(abs(value) for logits in reference for value in logits)
        off = max(
            abs(a - b) for own, other in zip(reference, lists, strict=True) for a, b in zip(own, other, strict=True)
        )
        same = statistics.mean(
            logits.index(max(logits)) == wanted for logits, wanted in zip(lists, classes, strict=True)
        )
        print(
            f"{name} against ours in fp32: logits off by at most {off / largest:.1e} of the largest, top-1 {same:.0%}"
        )
        reduced = name == "ours-best" and precision != "fp32"
        if same < 0.99 if reduced else off > 1e-3 * largest:
            complaints.append(f"{name}: top-1 {same:.1%}, logits off by {off / largest:.1e} of the largest")
    return complaints


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{name}, {len(CORES)} cores, Python {platform.python_version()}; load average at the start {load}"


def run(folder: Path, rows_wanted: list[str], quick: bool) -> int:
    print(f"machine: {machine()}")
    if not PEERS.exists():
        print(f"the peers are not measured: there is no {PEERS.parent} (requirements/peers.txt)")
    bodies = pictures(20 if quick else PICTURES, 0)
    serving = make_models(folder, bodies)
    print(f"picture: {len(bodies[0]):,} bytes")
    print(f"ours-best: {serving['runtime']} {serving['precision']} ({serving['reason']})")
    complaints = disagreements(folder, bodies, serving["precision"])
    rounds, count, rows = 2 if quick else 7, 5 if quick else 40, Rows()
    if "latency" in rows_wanted:
        latency(rows, folder, bodies[0], rounds, count)
    if "rate" in rows_wanted:
        rates(rows, folder, bodies[0], rounds, 2 * CLIENTS if quick else 160)
    if "no-op" in rows_wanted:
        latency(rows, folder, bodies[0], rounds, 50 if quick else 500, "no-op")
    if "start" in rows_wanted:
        starts(rows, folder, bodies[0], 1 if quick else 5)
    for complaint in complaints:
        print(f"NO AGREEMENT: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small n: whether it runs, not what it measures")
    parser.add_argument("--rows", default="latency,rate,no-op,start", help="which rows, with commas between")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as temporary:
        sys.exit(run(Path(temporary), chosen.rows.split(","), chosen.quick))
