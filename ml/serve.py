"""The model server: SageMaker's HTTP contract (GET /ping, POST /invocations) over any inference.py.

    SM_MODEL_DIR=out python serve.py --port 8080

The model is loaded, and warmed up where its code offers model_warmup_fn, before the port opens: whoever can connect can
be answered. A model that cannot be loaded ends the process with the reason on stderr. At SIGTERM the server takes no
new connections, answers what it accepted and exits 0.

Requests are answered by threads: one, unless SAGEMAKER_MODEL_SERVER_WORKERS says more. Where the code has
predict_batch_fn(requests, model) -> [a prediction or an exception for each], two threads for each core decode and
encode, and requests that find the model busy go through it together (see server/micro_batch.py).

SAGEMAKER_BASE_DIR, SM_MODEL_DIR, SAGEMAKER_SUBMIT_DIRECTORY, SAGEMAKER_PROGRAM, SAGEMAKER_BIND_TO_PORT and
SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT mean what they do in AWS's containers. What bounds the server has several names
there, TorchServe's and MMS's too: VARIABLES lists them, the one that counts first, as in those containers. A value that
is no whole number from 1 ends the process with the variable's name. SAGEMAKER_TS_MAX_BATCH_DELAY is read and changes
nothing: nobody waits for company. MODEL_CUSTOM_ATTRIBUTES goes with every answer as X-Amzn-SageMaker-Custom-Attributes,
which SageMaker hands to the caller: in the middle of a deployment it tells which of two models has answered. Of an
error SageMaker hands on the body alone, where it stands as `answered_by`.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from server.app import build_app
from server.connection import BACKLOG, KEEP_ALIVE_S, Connection
from server.handlers import DEFAULT_ACCEPT, Handlers
from server.micro_batch import MAX_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette

PAYLOAD_MB = 25  # what a real-time endpoint accepts
UNBOUNDED_MB = 1024  # what an asynchronous one accepts; a batch transform with MaxPayloadInMB 0 sets no bound
TIMEOUT_S = 60  # what a real-time endpoint waits
MAX_DIGITS, MAX_ATTRIBUTES = 12, 1024
DRAIN_S = 25  # SageMaker kills 30 s after SIGTERM
VARIABLES = {
    "workers": (
        "SAGEMAKER_TS_MAX_WORKERS",
        "SAGEMAKER_TS_MIN_WORKERS",
        "TS_DEFAULT_WORKERS_PER_MODEL",
        "SAGEMAKER_MODEL_SERVER_WORKERS",
        "MMS_DEFAULT_WORKERS_PER_MODEL",
    ),
    "timeout_s": (
        "SAGEMAKER_TS_RESPONSE_TIMEOUT",
        "TS_DEFAULT_RESPONSE_TIMEOUT",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT",
        "MMS_DEFAULT_RESPONSE_TIMEOUT",
    ),
    "max_payload_bytes": ("TS_MAX_REQUEST_SIZE", "MMS_MAX_REQUEST_SIZE"),  # then SAGEMAKER_MAX_PAYLOAD_IN_MB
    "max_answer_bytes": ("TS_MAX_RESPONSE_SIZE", "MMS_MAX_RESPONSE_SIZE"),
    "max_batch": ("SAGEMAKER_TS_BATCH_SIZE", "SAGEMAKER_TS_MAX_BATCH"),
}
IGNORED = ("SAGEMAKER_TS_MAX_BATCH_DELAY",)
THREADS_PER_CORE, MAX_THREADS = 2, 16  # while some wait for the model, others decode


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    # Of itself, the first process of a container ignores the signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.perf_counter()
    try:
        listener = bind(settings.host, settings.port)
    except OSError as error:
        return refuse(f"port {settings.port} of {settings.host} cannot be taken: {error.strerror}")
    make_way()
    gc.disable()  # looking for garbage in what is being imported would be a fifth of the start
    try:
        handlers = Handlers(
            settings.model_dir, settings.code_dir, settings.program, settings.default_accept, settings.max_batch
        )
        handlers.load()
    except Exception as error:
        traceback.print_exc()
        return refuse(f"the model could not be loaded: {type(error).__name__}: {error}")
    keep_loaded()
    settings.workers = settings.workers or num_threads(handlers)
    print(f"model loaded in {time.perf_counter() - started:.1f} s; port {listener.getsockname()[1]}", flush=True)
    return run(build_app(handlers, settings), listener)


def run(app: Starlette, listener: socket.socket) -> int:
    """Serve until SIGTERM and answer what is accepted by then. -> exit status"""
    # uvicorn drains at SIGTERM, then sends itself the signal once more: this handler makes that a normal end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_S,
    )
    uvicorn.Server(config).run(sockets=[listener])
    if app.state.server.workers.running:
        # Waiting for a thread that hangs in the model's code would keep the interpreter for ever.
        refuse(f"a request was still running {DRAIN_S} s after SIGTERM; it is given up")
        sys.stdout.flush()
        os._exit(1)
    return 0


def bind(host: str, port: int) -> socket.socket:
    """The port, taken but not open yet, so that a taken one is found out before the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is spelt out.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def make_way() -> None:
    """Imports are the model's from here on: what lies beside this file is not on its path, nor is `server` taken."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    for name in [name for name in sys.modules if name.partition(".")[0] == "server"]:
        del sys.modules[name]


def keep_loaded() -> None:
    """Code and model stay to the end: no collection goes through them again."""
    gc.collect()  # but not what loading left behind
    gc.freeze()
    gc.enable()


def num_threads(handlers: Handlers) -> int:
    if not handlers.batches:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(THREADS_PER_CORE * cores, MAX_THREADS)


def refuse(reason: str) -> int:
    """Say it in one line, the last one of the log: that one is quoted first where an endpoint fails."""
    print(f"serve.py: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    return 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    environment = os.environ.get
    base = Path(environment("SAGEMAKER_BASE_DIR", "/opt/ml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["serve"], help="the word SageMaker starts an image with")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all, as a container must)")
    parser.add_argument("--port", type=int, default=environment("SAGEMAKER_BIND_TO_PORT", "8080"))
    parser.add_argument("--model-dir", type=Path, default=environment("SM_MODEL_DIR", base / "model"))
    settings = parser.parse_args(arguments)
    # AWS gives an s3:// address or nothing where the model brings its code along.
    submitted = environment("SAGEMAKER_SUBMIT_DIRECTORY", "")
    settings.code_dir = Path(submitted) if submitted and "://" not in submitted else Path(settings.model_dir) / "code"
    settings.program = environment("SAGEMAKER_PROGRAM", "inference.py")
    try:
        for name in IGNORED:
            whole_number(name)
        settings.workers = first("workers")
        settings.timeout_s = first("timeout_s") or TIMEOUT_S
        unbounded = environment("SAGEMAKER_MAX_PAYLOAD_IN_MB") == "0"
        payload_mb = UNBOUNDED_MB if unbounded else whole_number("SAGEMAKER_MAX_PAYLOAD_IN_MB") or PAYLOAD_MB
        settings.max_payload_bytes = first("max_payload_bytes") or payload_mb * 2**20
        settings.max_answer_bytes = first("max_answer_bytes")
        settings.max_batch = first("max_batch") or MAX_REQUESTS
        settings.custom_attributes = custom_attributes(environment("MODEL_CUSTOM_ATTRIBUTES", ""))
    except ValueError as error:
        parser.error(str(error))
    settings.default_accept = environment("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or DEFAULT_ACCEPT
    return settings


def first(setting: str) -> int | None:
    """The value of the first of its variables that is set; all that are set must be sound."""
    found = [number for name in VARIABLES[setting] if (number := whole_number(name)) is not None]
    return found[0] if found else None


def custom_attributes(text: str) -> str:
    """`text`, if SageMaker takes it for CustomAttributes: visible US-ASCII, 1,024 characters at most."""
    if not (text.isascii() and text.isprintable() and len(text) <= MAX_ATTRIBUTES):
        raise ValueError(f"MODEL_CUSTOM_ATTRIBUTES={text[:20]!r} must be at most {MAX_ATTRIBUTES} visible ASCII signs")
    return text


def whole_number(name: str) -> int | None:
    """An environment variable as a number of at least 1; None where it is not set."""
    text = os.environ.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS) or int(text) < 1:
        raise ValueError(f"{name}={text[:20]!r} must be a whole number from 1, of at most {MAX_DIGITS} digits")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
