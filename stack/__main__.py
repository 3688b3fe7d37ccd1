"""`python -m stack COMMAND`: what the Makefile's targets do."""

import argparse
import sys
from pathlib import Path

from stack import compose, compose_pins, lifecycle, release, retrain, schema, shell, suites
from stack.errors import StackError
from stack.plain import plain
from stack.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m stack", description="The whole product on this machine.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start the store, local_sagemaker and Airflow; what already runs is kept")
    run = commands.add_parser("retrain", help="start all that is missing, run one retraining and tell how it went")
    run.add_argument("--force", action="store_true", help="retrain even if neither data, code nor recipe changed")
    run.add_argument("--data", default="", help="folder of labelled images, or an archive or s3:// address")
    run.add_argument("--name", default="", help="name of the classifier, also of its recipe in dags/recipes")
    commands.add_parser("status", help="what runs; exit status 1 if something is missing")
    commands.add_parser("down", help="stop what `up` or `retrain` started, and nothing else; the data stays")
    commands.add_parser("env", help="export lines that point AWS clients of a shell at the local stack")
    commands.add_parser("compose-env", help="write .env with generated secrets for docker compose, once")
    commands.add_parser("compose-pin", help="name docker compose's base images by digest, in .env")
    commands.add_parser("release", help="build what people install: two wheels in dist/")
    commands.add_parser("schema", help="write dags/recipes/recipe.schema.json, which editors read")
    commands.add_parser("test", help="pytest in both interpreters; what follows goes to pytest")
    return top


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["test"]:  # everything behind it belongs to pytest
        return suites.run(ROOT, arguments[1:])
    options = parser().parse_args(arguments)
    if options.command == "compose-env":
        return compose.write_environment(ROOT / ".env", _say)
    if options.command == "compose-pin":
        return compose_pins.write_pins(ROOT / "docker-compose.yaml", ROOT / ".env", _say)
    if options.command == "schema":
        _say(f"{schema.write(ROOT)} is written")
        return 0
    if options.command == "release":
        release.build(ROOT, ROOT / release.DIST, _say)
        return 0
    settings = Settings.from_environment(ROOT)
    if options.command == "up":
        lifecycle.start(settings, _say)
        _say(shell.addresses(settings, lifecycle.credentials_of(settings), secret=sys.stdout.isatty()))
    elif options.command == "down":
        lifecycle.stop(settings, _say)
    elif options.command == "status":
        return 0 if lifecycle.status(settings, _say) else 1
    elif options.command == "env":
        print(shell.export_lines(settings, lifecycle.credentials_of(settings)), end="")
    else:
        return retrain.run(settings, data=options.data, name=options.name, force=options.force, say=_say)
    return 0


def _say(line: str) -> None:
    print(plain(line), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except StackError as error:
        print(f"\n{plain(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted. What was started keeps running; `make down` stops it.", file=sys.stderr)
        sys.exit(130)
