"""The model server: SageMaker's HTTP contract (GET /ping, POST /invocations) over any inference.py.

    SM_MODEL_DIR=out python serve.py --port 8080

The model is loaded, and warmed up where its code offers model_warmup_fn, before the port opens: whoever can connect can
be answered. A model that cannot be loaded ends the process with the reason on stderr. At SIGTERM the server takes no
new connections, answers what it accepted and exits 0.

SAGEMAKER_BASE_DIR, SM_MODEL_DIR, SAGEMAKER_SUBMIT_DIRECTORY, SAGEMAKER_PROGRAM, SAGEMAKER_BIND_TO_PORT,
SAGEMAKER_MODEL_SERVER_WORKERS, SAGEMAKER_MAX_PAYLOAD_IN_MB and SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT mean what they do
in AWS's containers.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from handlers import DEFAULT_ACCEPT, Handlers

PAYLOAD_MB = 25  # what a real-time endpoint accepts
BODY_TIMEOUT_S = 10  # the longest pause between two parts of a body
WAITING_PER_WORKER = 64  # requests beyond that are told to come back
DRAIN_S = 25  # SageMaker kills 30 s after SIGTERM


def main(arguments=None):
    settings = parse(arguments)
    # The user's code must not pick up the modules that happen to lie beside this file (model, data, …).
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    started = time.perf_counter()
    try:
        handlers = Handlers(settings.model_dir, settings.code_dir, settings.program, settings.default_accept)
        handlers.load()
    except Exception as error:
        traceback.print_exc()
        print(f"serve.py: the model could not be loaded: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"model loaded in {time.perf_counter() - started:.1f} s; port {settings.port}", flush=True)
    # uvicorn drains at SIGTERM, then sends itself the signal once more: this handler makes that a normal end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        build_app(handlers, settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
    )
    return 0


def build_app(handlers, settings):
    server = Server(handlers, settings)
    return Starlette(
        routes=[Route("/ping", server.ping), Route("/invocations", server.invoke, methods=["POST"])],
    )


class Server:
    """The HTTP side of one loaded model. Predictions run on `workers` threads, the rest on the event loop."""

    def __init__(self, handlers, settings):
        self.handlers = handlers
        self.max_bytes = settings.max_payload_mb * 2**20
        self.threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="predict")
        self.waiting, self.max_waiting = 0, settings.workers * WAITING_PER_WORKER

    async def ping(self, request):
        return Response()

    async def invoke(self, request):
        if self.waiting >= self.max_waiting:
            return refusal(429, "BUSY", f"{self.waiting} requests are waiting; try again")
        self.waiting += 1
        try:
            return await self.answer(request)
        finally:
            self.waiting -= 1

    async def answer(self, request):
        try:
            body = await self.read(request)
        except Refused as refused:
            # The rest of the body is not read, so the connection cannot be used again.
            return refusal(*refused.args, headers={"connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)
        content_type, accept = request.headers.get("content-type"), request.headers.get("accept")
        loop = asyncio.get_running_loop()
        try:
            answer, kind = await loop.run_in_executor(self.threads, self.handlers.respond, body, content_type, accept)
        except Exception as error:
            return failure(error)
        return Response(answer, headers={"content-type": kind})

    async def read(self, request):
        """The body, never more of it in memory than is allowed."""
        body, parts = bytearray(), request.stream().__aiter__()
        while True:
            try:
                part = await asyncio.wait_for(parts.__anext__(), BODY_TIMEOUT_S)
            except StopAsyncIteration:
                return bytes(body)
            except asyncio.TimeoutError:
                raise Refused(408, "SLOW_BODY", f"no data for {BODY_TIMEOUT_S} s") from None
            body += part
            if len(body) > self.max_bytes:
                raise Refused(413, "TOO_LARGE", f"the body is larger than {self.max_bytes // 2**20} MB")


class Refused(Exception):
    """Arguments: status, code, detail."""


def failure(error):
    """An exception of the user's code as a response: its own status, else 500 and a trace in the log."""
    status = getattr(error, "status_code", None)
    if isinstance(error, UnicodeDecodeError):
        status = 400
    if not (isinstance(status, int) and 400 <= status <= 599):
        traceback.print_exception(type(error), error, error.__traceback__)
        return refusal(500, "INFERENCE_FAILED", f"{type(error).__name__}: {error}")
    return refusal(status, getattr(error, "code", type(error).__name__), getattr(error, "detail", str(error)))


def refusal(status, code, detail, headers=None):
    text = json.dumps({"error": str(code)[:80], "detail": str(detail)[:800]})
    return Response(text, status, headers=headers, media_type="application/json")


def parse(arguments):
    environment = os.environ.get
    base = Path(environment("SAGEMAKER_BASE_DIR", "/opt/ml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all, as a container must)")
    parser.add_argument("--port", type=int, default=int(environment("SAGEMAKER_BIND_TO_PORT", "8080")))
    parser.add_argument("--model-dir", type=Path, default=environment("SM_MODEL_DIR", base / "model"))
    settings = parser.parse_args(arguments)
    # AWS gives an s3:// address or nothing where the model brings its code along.
    submitted = environment("SAGEMAKER_SUBMIT_DIRECTORY", "")
    settings.code_dir = Path(submitted) if submitted and "://" not in submitted else Path(settings.model_dir) / "code"
    settings.program = environment("SAGEMAKER_PROGRAM", "inference.py")
    settings.workers = int(environment("SAGEMAKER_MODEL_SERVER_WORKERS") or 1)
    settings.max_payload_mb = int(environment("SAGEMAKER_MAX_PAYLOAD_IN_MB") or PAYLOAD_MB)
    settings.default_accept = environment("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or DEFAULT_ACCEPT
    return settings


if __name__ == "__main__":
    sys.exit(main())
