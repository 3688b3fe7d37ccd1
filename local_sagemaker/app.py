"""The server put together: state, machinery and the HTTP surface."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import inspect
import os
import types
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import botocore
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from local_sagemaker import pages
from local_sagemaker.hosting import invoke
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.jobs import training_job, transform_job
from local_sagemaker.operations import cloudwatch_logs, endpoints, identity, models, registry, tags, training, transform
from local_sagemaker.operations import tuning as tuning_operations
from local_sagemaker.platform import Background, Platform, log
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.sandbox.cores import Cores
from local_sagemaker.sandbox.images import ImageMap
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Store
from local_sagemaker.tuning import tuning_job
from local_sagemaker.wire import service_model, signature
from local_sagemaker.wire.errors import ApiError, unknown_operation
from local_sagemaker.wire.protocol import Call

Operation = Callable[[Platform, dict[str, Any]], dict[str, Any]]

_MODULES: dict[str, tuple[types.ModuleType, ...]] = {
    "sagemaker": (training, tuning_operations, transform, models, endpoints, registry, tags),
    "logs": (cloudwatch_logs,),
    "sts": (identity,),
    "iam": (identity,),
}

#: A control plane request is small; InvokeEndpoint has its own limit.
_MAX_BODY_BYTES = 30 * 2**20

# Time for jobs and workers to be ended at shutdown.
_SHUTDOWN_S = 8.0


def operations() -> dict[str, dict[str, Operation]]:
    """What is implemented: service → API operation → function."""
    return {
        service: {
            name: function
            for name in service_model.service(service).operation_names
            if (function := _find(modules, botocore.xform_name(name))) is not None
        }
        for service, modules in _MODULES.items()
    }


def _find(modules: tuple[types.ModuleType, ...], name: str) -> Operation | None:
    for module in modules:
        function = vars(module).get(name)
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            return function
    return None


def build_platform(settings: Settings) -> Platform:
    """Open the state below `settings.root`. Raises ValueError for a bad image map or a root another server holds."""
    settings.root.mkdir(parents=True, exist_ok=True)
    _hold(settings)
    return Platform(
        settings=settings,
        store=Store(settings.root / "state.db"),
        logs=Logs(settings.root / "logs.db"),
        objects=ObjectStore(settings),
        images=ImageMap.load(settings.images),
        cores=Cores(),
        background=Background(settings.max_concurrent_jobs),
        endpoints=Endpoints(),
    )


def _hold(settings: Settings) -> None:
    """Lock the state folder for the life of this process; two servers on one folder would start jobs twice."""
    path = settings.root / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValueError(
            f"{settings.root} is held by another local_sagemaker ({holder}); stop that one or choose another --root"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} at {settings.url}".encode(), 0)


def create_app(platform: Platform) -> Starlette:
    implemented = operations()
    allowed_hosts = {"localhost", "127.0.0.1", "::1", platform.settings.host, *platform.settings.allowed_hosts}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(resume, platform)
        yield
        await run_in_threadpool(shut_down, platform)

    async def control_plane(request: Request) -> Response:
        call = Call(service="unknown", operation="", request={}, style="json")
        try:
            _check_origin(request, allowed_hosts)
            body = await _body(request)
            call = Call.parse(request.url.path, request.headers, body)
            _check_signature(platform.settings, request, body)
            function = implemented.get(call.service, {}).get(call.operation)
            if function is None or request.method != "POST":
                raise unknown_operation(call.service, call.operation)
            if call.style == "json":
                service_model.check_request(call.service, call.operation, call.request)
            return call.response(await run_in_threadpool(function, platform, call.request))
        except ApiError as error:
            return call.error(error)
        except Exception:
            log.exception("%s %s", call.service, call.operation)
            return call.error(ApiError("InternalFailure", "local_sagemaker failed; its log has the traceback", 500))

    async def invocation(request: Request) -> Response:
        call = Call(service="sagemaker-runtime", operation="InvokeEndpoint", request={}, style="rest")
        try:
            _check_origin(request, allowed_hosts)
            _check_signature(platform.settings, request, await _body(request))
        except ApiError as error:
            return call.error(error)
        return await invoke.invoke_endpoint(platform, request, request.path_params["name"])

    async def page(request: Request) -> Response:
        try:
            _check_host(request, allowed_hosts)
            if request.headers.get("sec-fetch-dest", "document") != "document":
                raise ApiError("AccessDeniedException", "this page is not served into another one", 403)
            if "name" in request.path_params:
                return await run_in_threadpool(pages.job, platform, **request.path_params)
            return await run_in_threadpool(pages.index, platform)
        except ApiError as error:
            return PlainTextResponse(error.message, error.status)

    return Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/jobs/{word}/{name}", page, methods=["GET"]),
            Route("/endpoints/{name}/invocations", invocation, methods=["POST"]),
            Route("/{path:path}", control_plane, methods=["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        ],
        lifespan=lifespan,
    )


def resume(platform: Platform) -> None:
    """Take up what an earlier server left: endpoints to serve, jobs to follow or to fail truthfully."""
    platform.endpoints.restore(platform)
    training_job.resume(platform)
    transform_job.resume(platform)
    tuning_job.resume(platform)


def shut_down(platform: Platform) -> None:
    platform.background.close(_SHUTDOWN_S)
    platform.endpoints.close()
    platform.store.close()
    platform.logs.close()


def _check_host(request: Request, allowed_hosts: set[str]) -> None:
    """Refuse a foreign Host: a web page whose name was made to point here (DNS rebinding)."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if host not in allowed_hosts:
        raise ApiError("AccessDeniedException", f"Host '{host}' is not served; --allow-host adds one", 403)


def _check_origin(request: Request, allowed_hosts: set[str]) -> None:
    """Refuse what a browser could be tricked into sending."""
    _check_host(request, allowed_hosts)
    origin = request.headers.get("origin")
    if origin or request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise ApiError("AccessDeniedException", f"requests from the web page '{origin}' are refused", 403)


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
        raise ApiError("RequestEntityTooLargeException", f"the request body is over {_MAX_BODY_BYTES} bytes", 413)
    received = 0
    chunks = []
    async for chunk in request.stream():
        received += len(chunk)
        if received > _MAX_BODY_BYTES:
            raise ApiError("RequestEntityTooLargeException", f"the request body is over {_MAX_BODY_BYTES} bytes", 413)
        chunks.append(chunk)
    body = b"".join(chunks)
    request._body = body  # what request.body() returns from now on
    return body


def _check_signature(settings: Settings, request: Request, body: bytes) -> None:
    if not settings.verify_signatures:
        return
    signature.verify(
        request.method,
        request.scope.get("raw_path", request.url.path.encode()).decode(),
        request.url.query,
        request.headers,
        body,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
        now=datetime.datetime.now(datetime.UTC),
    )
