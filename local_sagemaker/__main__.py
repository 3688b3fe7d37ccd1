"""`python -m local_sagemaker`: the command line, and what it prints for people."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from local_sagemaker.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.operations:
        return print_operations()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = settings_from(options)
    except ValueError as error:
        print(f"local_sagemaker: {error}", file=sys.stderr)
        return 2
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=1024)
    except OSError as error:
        print(
            f"local_sagemaker: port {settings.port} on {settings.host} cannot be opened ({error.strerror}); "
            "stop what uses it or choose another --port",
            file=sys.stderr,
        )
        return 1
    from local_sagemaker import app  # not needed for --help, and the slowest import

    try:
        platform = app.build_platform(settings)
    except ValueError as error:
        print(f"local_sagemaker: {error}", file=sys.stderr)
        return 2
    print(banner(settings), flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app.create_app(platform), log_level="warning", access_log=False, timeout_graceful_shutdown=5, ws="none"
        )
    )
    server.run(sockets=[listener])
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m local_sagemaker",
        description="A SageMaker-compatible server that executes jobs as processes on this machine.",
        epilog="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the key pair that clients must sign with. "
        "AWS_ENDPOINT_URL_S3 is the object store. Jobs run with your rights: keep it on loopback.",
    )
    result.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    result.add_argument("--port", type=int, default=14330, help="port to listen on (default: %(default)s)")
    result.add_argument("--root", type=Path, default=Path(".local/sagemaker"), help="folder of the state")
    result.add_argument("--images", type=Path, help="images.toml: which program stands in for which image")
    result.add_argument("--region", default=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    result.add_argument("--account", default="000000000000", help="account id in ARNs (default: %(default)s)")
    result.add_argument("--allow-host", action="append", default=[], help="host name clients may use beyond loopback")
    result.add_argument(
        "--expose", action="store_true", help="allow --host beyond loopback: whoever holds the key can run code here"
    )
    result.add_argument(
        "--max-concurrent-jobs", type=int, default=4, help="training jobs that run at once (default: %(default)s)"
    )
    result.add_argument(
        "--stop-grace", type=float, default=120.0, help="seconds between SIGTERM and SIGKILL (default: %(default)s)"
    )
    result.add_argument("--operations", action="store_true", help="list the implemented API operations and exit")
    return result


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
        s3_endpoint=os.environ.get("AWS_ENDPOINT_URL_S3"),
        allowed_hosts=tuple(options.allow_host),
        stop_grace_s=options.stop_grace,
        max_concurrent_jobs=options.max_concurrent_jobs,
    )


def banner(settings: Settings) -> str:
    return (
        f"local_sagemaker serves SageMaker, its runtime, CloudWatch Logs, STS and IAM GetRole on {settings.url}\n"
        f"  state      {settings.root}\n"
        f"  buckets    {settings.s3_endpoint or 'as boto3 is configured'}\n"
        "To point a client here (and nothing at AWS by accident):\n"
        f"  export AWS_ENDPOINT_URL={settings.url}\n"
        f"  export AWS_ENDPOINT_URL_S3={settings.s3_endpoint or '<your object store>'}\n"
        f"  export AWS_DEFAULT_REGION={settings.region} AWS_ACCESS_KEY_ID={settings.access_key_id}\n"
        "  export AWS_SECRET_ACCESS_KEY=<the secret this server was started with>"
    )


def print_operations() -> int:
    from local_sagemaker import app

    for service, functions in app.operations().items():
        for name in sorted(functions):
            print(f"{service:10} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
