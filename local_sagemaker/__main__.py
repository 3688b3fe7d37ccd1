"""`python -m local_sagemaker`: the command line, and what it prints for people."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import os
import resource
import socket
import sys
from pathlib import Path

from local_sagemaker import sdk_defaults
from local_sagemaker.settings import Settings

_NUM_FILES = 16_384
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h
_LARGE_BYTES = 256 * 1024


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["interrupt"]:
        from local_sagemaker import interrupt

        return interrupt.main(words[1:])
    options = parser().parse_args(words)
    if options.operations:
        from local_sagemaker import coverage

        print(coverage.as_markdown() if options.operations == "markdown" else coverage.as_text())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = settings_from(options)
    except ValueError as error:
        print(f"local_sagemaker: {error}", file=sys.stderr)
        return 2
    os.umask(0o077)  # logs, hyperparameters and models are nobody else's business on a shared machine
    _allow_many_files()
    _keep_one_heap()
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        print(
            f"local_sagemaker: port {settings.port} on {settings.host} cannot be opened ({error.strerror}); "
            "stop what uses it or choose another --port",
            file=sys.stderr,
        )
        return 1
    gc.disable()  # nothing of what is imported is garbage, and looking for it would be a fifth of the start
    import uvicorn  # neither is needed for --help, and they are the slowest imports

    from local_sagemaker import app
    from local_sagemaker.wire.connection import BACKLOG, KEEP_ALIVE_S, Connection

    try:
        platform = app.build_platform(settings)
        hosting = app.Hosting.of(platform)
    except ValueError as error:
        print(f"local_sagemaker: {error}", file=sys.stderr)
        return 2
    gc.freeze()  # it stays to the end; no collection goes through it again
    gc.enable()
    sdk_defaults.write(settings)
    print(banner(settings, str(platform.isolation)), flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app.create_app(platform, hosting),
            http=Connection,
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            backlog=BACKLOG,
        )
    )
    server.run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Its connections inherit TCP_NODELAY. An answer is written in two pieces, head and body: without it the body waits
    for the client's acknowledgement of the head, 40 ms on a connection that is kept."""
    listener = socket.create_server((host, port), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _keep_one_heap() -> None:
    """One of glibc's arenas instead of eight for each core: in them, what many threads free by turns is not used again.

    Between 6,000 and 54,000 fuzzed requests the server grew by 2.2 MB with many, by less than 0.1 MB with one. What is
    large goes back to the system when it is freed: by itself glibc raises that bound to what was last freed, and then
    one body of some MB leaves a hole that small things settle in.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _allow_many_files() -> None:
    """An invocation takes two to four file descriptors: the usual soft limit of 1024 would end at a few hundred."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _NUM_FILES if hard == resource.RLIM_INFINITY else min(hard, _NUM_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m local_sagemaker",
        description="A SageMaker-compatible server that executes jobs as processes on this machine.",
        epilog="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the key pair that clients must sign with. "
        "AWS_ENDPOINT_URL_S3 is the object store. LOCAL_SAGEMAKER_DEBUGGER=closed plays an account that SageMaker "
        "Debugger is not available to. Jobs run with your rights: keep it on loopback. "
        "`python -m local_sagemaker interrupt NAME` interrupts a managed spot training job as AWS would.",
    )
    result.add_argument(
        "--operations", nargs="?", const="text", choices=("text", "markdown"),
        help="list the implemented API operations (as text, or as the README's table) and exit",
    )  # fmt: skip
    _add_place(result.add_argument_group("where it is"))
    _add_jobs(result.add_argument_group("how it runs jobs and endpoints"))
    return result


def _add_place(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument("--port", type=int, default=14330, help="port to listen on (default: %(default)s)")
    group.add_argument("--allow-host", action="append", default=[], help="host name clients may use beyond loopback")
    group.add_argument(
        "--expose",
        action="store_true",
        help="allow --host beyond loopback: whoever holds the key can run code here; the pages ask for it too",
    )
    group.add_argument(
        "--root", type=Path, default=Path(".local/sagemaker"), help="folder of the state (default: %(default)s)"
    )
    group.add_argument("--account", default="000000000000", help="account id in ARNs (default: %(default)s)")
    group.add_argument(
        "--region", default=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"), help="in ARNs (default: %(default)s)"
    )


def _add_jobs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--images", type=Path, help="images.toml: which program stands in for which image")
    group.add_argument(
        "--max-concurrent-jobs", type=int, default=4, help="jobs that run at once (default: %(default)s)"
    )
    group.add_argument(
        "--cores", type=int,
        help="cores that jobs are told they may use, where others need the rest (default: those of the machine)",
    )  # fmt: skip
    group.add_argument(
        "--max-instances", type=int,
        help="workers of a variant or transform job at most, whatever its instance count (default: the cores)",
    )  # fmt: skip
    group.add_argument(
        "--stop-grace", type=float, default=120.0, help="seconds between SIGTERM and SIGKILL (default: %(default)s)"
    )
    group.add_argument(
        "--time-scale", type=float, default=1.0,
        help="factor for the baking and termination waits of endpoint deployments (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--isolation", choices=("auto", "off"), default="auto",
        help="auto: jobs see their folder at /opt/ml, and no network if they ask so, where the kernel allows it",
    )  # fmt: skip
    group.add_argument(
        "--relax-network-isolation", action="store_true",
        help="run what asks for EnableNetworkIsolation with the network where it cannot be cut off, not refuse it",
    )  # fmt: skip


def settings_from(options: argparse.Namespace) -> Settings:
    """Raises ValueError when the command line or the environment cannot be served."""
    if options.host not in {"127.0.0.1", "localhost", "::1"} and not options.expose:
        raise ValueError(
            f"--host {options.host} would let other machines run code here; add --expose if that is what you want"
        )
    try:
        key_id, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    except KeyError as error:
        raise ValueError(
            f"{error.args[0]} is not set; export the key pair that clients will sign with (any two non-empty strings)"
        ) from None
    return Settings(
        root=options.root.absolute(),
        images=options.images and options.images.absolute(),
        host=options.host,
        port=options.port,
        region=options.region,
        account=options.account,
        access_key_id=key_id,
        secret_access_key=secret,
        s3_endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or None,
        allowed_hosts=tuple(options.allow_host),
        exposed=options.expose,
        stop_grace_s=options.stop_grace,
        max_concurrent_jobs=options.max_concurrent_jobs,
        time_scale=options.time_scale,
        cores=options.cores,
        max_instances=options.max_instances,
        isolation=options.isolation,
        relax_network_isolation=options.relax_network_isolation,
        debugger=os.environ.get("LOCAL_SAGEMAKER_DEBUGGER") or "open",
    )


def banner(settings: Settings, isolation: str) -> str:
    return (
        f"local_sagemaker serves SageMaker, its runtime, CloudWatch, CloudWatch Logs, STS and IAM GetRole\n"
        f"  address    {settings.url}  (open it in a browser to see the jobs)\n"
        f"  state      {settings.root}\n"
        f"  buckets    {settings.s3_endpoint or 'as boto3 is configured'}\n"
        f"  isolation  {isolation}\n"
        "To point a client here (and nothing at AWS by accident):\n"
        f"  export AWS_ENDPOINT_URL={settings.url}\n"
        f"  export AWS_ENDPOINT_URL_S3={settings.url if settings.s3_endpoint else '<your object store>'}\n"
        f"  export AWS_DEFAULT_REGION={settings.region} AWS_ACCESS_KEY_ID={settings.access_key_id}\n"
        "  export AWS_SECRET_ACCESS_KEY=<the secret this server was started with>\n"
        f"  export {sdk_defaults.VARIABLE}={sdk_defaults.path(settings.root)}"
    )


if __name__ == "__main__":
    sys.exit(main())
