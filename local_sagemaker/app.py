"""The server put together: state, machinery and the HTTP surface."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import inspect
import os
import sqlite3
import stat
import sys
import types
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import botocore
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from local_sagemaker import pages
from local_sagemaker.background import Background, log
from local_sagemaker.hosting.async_inference import AsyncInference
from local_sagemaker.hosting.autoscaling import Autoscaling
from local_sagemaker.hosting.data_capture import DataCapture
from local_sagemaker.hosting.data_plane import DataPlane
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.hosting.invocation import OPERATIONS
from local_sagemaker.jobs import processing_job, training_job
from local_sagemaker.operations import (
    admin,
    alarms,
    autoscaling,
    cloudwatch,
    cloudwatch_logs,
    endpoint_configs,
    endpoints,
    identity,
    models,
    package_groups,
    processing,
    registry,
    tags,
    training,
    transform,
)
from local_sagemaker.operations import tuning as tuning_operations
from local_sagemaker.platform import Platform
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.s3_gateway import S3Gateway
from local_sagemaker.sandbox import packages
from local_sagemaker.sandbox.cores import Cores
from local_sagemaker.sandbox.images import ImageMap
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.sandbox.patterns import PatternProcesses
from local_sagemaker.settings import Settings
from local_sagemaker.state.alarms import Alarms
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.metrics import MetricStore
from local_sagemaker.state.store import GoneError, Store
from local_sagemaker.transform import transform_job
from local_sagemaker.tuning import tuning_job
from local_sagemaker.wire import service_model
from local_sagemaker.wire.authentication import Admission
from local_sagemaker.wire.errors import ApiError, unknown_operation
from local_sagemaker.wire.protocol import Call

Operation = Callable[..., dict[str, Any]]
"""From a request to its answer. What else it uses it takes by name: one of `parts`. What creates a job, which uses
nearly all of them, takes `platform`."""

_MODULES: dict[str, tuple[types.ModuleType, ...]] = {
    "sagemaker": (
        training,
        tuning_operations,
        transform,
        processing,
        models,
        endpoint_configs,
        endpoints,
        package_groups,
        registry,
        tags,
    ),
    "logs": (cloudwatch_logs,),
    "cloudwatch": (cloudwatch, alarms),
    "application-autoscaling": (autoscaling,),
    "sts": (identity,),
    "iam": (identity,),
}

# What others on the network may see of an exposed server: that it is there.
_KEY_NEEDED = (
    "The user name is the AWS_ACCESS_KEY_ID this server was started with, the password its secret access key.\n"
)
_ASK_FOR_KEY = 'Basic realm="local_sagemaker", charset="UTF-8"'

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
    _keep_private(settings.root)
    _hold(settings)
    store, metrics = Store(settings.root / "state.db"), MetricStore(settings.root / "metrics.db")
    return Platform(
        settings=settings,
        store=store,
        logs=Logs(settings.root / "logs.db"),
        metrics=metrics,
        alarms=Alarms(store, metrics),
        objects=ObjectStore(settings),
        images=ImageMap.load(settings.images),
        cores=Cores(settings.cores),
        isolation=Isolation.probe(settings.isolation, needed=[settings.root, Path(sys.prefix)]),
        patterns=PatternProcesses(),
        background=Background(settings.max_concurrent_jobs),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosting:
    """What serves endpoints and their invocations, upon the platform."""

    endpoints: Endpoints
    async_inference: AsyncInference
    data_capture: DataCapture
    autoscaling: Autoscaling

    @classmethod
    def of(cls, platform: Platform) -> Self:
        """Raises ValueError for a queue of asynchronous invocations that is broken."""
        endpoints = Endpoints(platform)
        data_capture = DataCapture(platform.settings.root / "data-capture", platform.objects)
        async_inference = AsyncInference(platform, endpoints, data_capture)
        return cls(
            endpoints=endpoints,
            async_inference=async_inference,
            data_capture=data_capture,
            autoscaling=Autoscaling(platform, endpoints),
        )


def _keep_private(root: Path) -> None:
    """Environments, data and logs of jobs are nobody else's business, also where an earlier version left them open.

    A folder that held other things before it held this server's state keeps its rights: they may have been meant.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not stat.S_IMODE(root.stat().st_mode) & 0o077:
        return
    if (root / "state.db").exists() or not any(root.iterdir()):
        try:
            root.chmod(0o700)
        except OSError as error:
            log.warning("other users can read %s, and that cannot be changed: %s", root, error.strerror)
    else:
        log.warning(
            "other users can read %s, which holds other files too; give --root an empty folder, or chmod it", root
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


def create_app(platform: Platform, hosting: Hosting) -> Starlette:
    known = parts(platform, hosting)
    implemented = {
        service: {name: bound(function, known) for name, function in found.items()}
        for service, found in (operations() | {admin.SERVICE: admin.OPERATIONS}).items()
    }
    data_plane = DataPlane(platform, hosting.endpoints, hosting.async_inference, hosting.data_capture)
    admission = Admission(platform.settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(resume, platform, hosting)
        yield
        await run_in_threadpool(shut_down, platform, hosting)

    async def control_plane(request: Request) -> Response:
        # What the headers say is enough to write an error in the format that the client reads.
        call = Call(service="unknown", operation="", request={}, style="json")
        try:
            call = Call.parse(request.url.path, request.headers, b"")
            call = Call.parse(request.url.path, request.headers, await admission.body(request))
            function = implemented.get(call.service, {}).get(call.operation)
            if function is None or request.method != "POST":
                raise unknown_operation(call.service, call.operation)
            checked = call.request
            if call.service != admin.SERVICE:
                checked = service_model.check_request(call.service, call.operation, call.request)
            if call.service == "sagemaker":
                service_model.check_text(checked)
                tags.check(checked.get("Tags", []))
            return call.response(await run_in_threadpool(_carry_out, function, checked))
        except ApiError as error:
            return call.error(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except sqlite3.OperationalError as error:
            log.error("%s %s: %s", call.service, call.operation, error)
            return call.error(_not_kept(platform.settings, error))
        except Exception:
            log.exception("%s %s", call.service, call.operation)
            return call.error(ApiError("InternalFailure", "local_sagemaker failed; its log has the traceback", 500))

    async def invocation(request: Request) -> Response:
        def authenticate(body_sha256: str | None) -> None:
            admission.check_origin(request)
            admission.check_signature(request, body_sha256)

        return await data_plane.answer(request, authenticate)

    async def page(request: Request) -> Response:
        scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
        if scheme not in ("", "basic"):  # a client's: of S3, most likely, by mistake
            return await control_plane(request)
        try:
            admission.check_host(request)
            if platform.settings.exposed and not admission.has_key(request):
                return PlainTextResponse(_KEY_NEEDED, 401, {"www-authenticate": _ASK_FOR_KEY})
            # "empty" is the page's own look at what has changed.
            fetched = request.headers.get("sec-fetch-dest", "document")
            foreign = request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
            if fetched not in {"document", "empty"} or (fetched == "empty" and foreign):
                raise ApiError("AccessDeniedException", "this page is not served into another one", 403)
            where = request.path_params
            if "name" in where:
                return await run_in_threadpool(pages.job, platform.store, platform.logs, **where)
            if "word" in where:
                number = request.query_params.get("page", "1")
                return await run_in_threadpool(pages.listing, platform.store, platform.logs, number=number, **where)
            return await run_in_threadpool(pages.index, platform.store, platform.settings, platform.logs)
        except ApiError as error:
            return PlainTextResponse(error.message, error.status)

    return Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/jobs/{word}", page, methods=["GET"]),
            Route("/jobs/{word}/{name:path}", page, methods=["GET"]),
            *(Route(f"/endpoints/{{name}}/{word}", invocation, methods=["POST"]) for word in OPERATIONS),
            Route("/{path:path}", control_plane, methods=["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        ],
        middleware=[Middleware(S3Gateway, settings=platform.settings)],
        lifespan=lifespan,
    )


def parts(platform: Platform, hosting: Hosting) -> dict[str, Any]:
    """What operations may ask for, by its name."""
    return {"platform": platform, **vars(platform), **vars(hosting)}


def bound(function: Operation, known: Mapping[str, Any]) -> Operation:
    """A function of the request alone. Raises KeyError for a part that there is none of."""
    _, *names = inspect.signature(function).parameters
    return functools.partial(function, **{name: known[name] for name in names})


def _carry_out(function: Operation, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return function(request)
    except GoneError:
        # Deleted by another call after this one had found it. Asked again, the operation says so in its own words.
        return function(request)


def _not_kept(settings: Settings, error: sqlite3.OperationalError) -> ApiError:
    return ApiError(
        "ServiceUnavailable",
        f"the state in {settings.root} could not be written ({error}), so nothing of this call was done. Make room on "
        "that disk and call again; no restart is needed.",
        503,
    )


def resume(platform: Platform, hosting: Hosting) -> None:
    """Take up what an earlier server left: endpoints to serve, jobs to follow or to fail truthfully."""
    packages.end_orphans(platform.settings.root)
    hosting.endpoints.restore()
    hosting.data_capture.start()
    hosting.async_inference.start()
    hosting.autoscaling.start()
    training_job.resume(platform)
    transform_job.resume(platform)
    processing_job.resume(platform)
    tuning_job.resume(platform)


def shut_down(platform: Platform, hosting: Hosting) -> None:
    hosting.autoscaling.close()
    hosting.async_inference.close()
    platform.background.close(_SHUTDOWN_S)
    hosting.endpoints.close()
    hosting.async_inference.join()
    hosting.data_capture.close()
    platform.close()
