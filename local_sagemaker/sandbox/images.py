"""Which program stands in for which container image: the image map (images.toml).

An entry matches image URIs by glob and names the interpreter that replaces the container, and what it runs when the
image is asked to serve a model or to evaluate Debugger rules. Training runs the user's own script with it; `train`
stands in for an image that brings its training program itself, as `<image> train` would run it.

    [[image]]
    match = ["*/pytorch-inference:*"]          # fnmatch globs; the first entry that matches wins
    interpreter = "../.venv/ml/bin/python"     # paths are relative to the file
    serve = ["../ml/serve.py", "--host", "127.0.0.1"]
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import sys
import tomllib
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    match: tuple[str, ...]
    interpreter: str
    serve: tuple[str, ...] | None = None
    """Arguments for the interpreter that start a model server (/ping and /invocations)."""
    train: tuple[str, ...] | None = None
    """Arguments for the interpreter that train, for requests that name no script of their own."""
    rules: tuple[str, ...] | None = None
    """Arguments for the interpreter that start the Debugger rule evaluator; also what a processing job of the image
    runs that gives no entry point."""
    follow: bool = False
    """Whether that evaluator can judge beside the training: with `--follow --job-ended FILE --timeout S` it writes each
    verdict as soon as it is known. One that cannot is run when the training has ended."""


class ImageMap:
    def __init__(self, images: list[Image]) -> None:
        self._images = images

    @classmethod
    def load(cls, path: Path | None) -> ImageMap:
        """Raises ValueError for an unreadable map, an unknown key or an interpreter that is not there."""
        if path is None:
            return cls([Image(match=("*",), interpreter=sys.executable)])
        try:
            content = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"image map {path}: {error}") from error
        entries = content.get("image", [])
        if not entries:
            raise ValueError(f"image map {path} has no [[image]] entry; it needs at least one")
        return cls([_image(path, entry) for entry in entries])

    def find(self, uri: str) -> Image | None:
        for image in self._images:
            if any(fnmatch.fnmatchcase(uri, glob) for glob in image.match):
                return image
        return None

    def explain(self, uri: str) -> str:
        """Why an image cannot run here and how to change that."""
        globs = ", ".join(glob for image in self._images for glob in image.match)
        return f"no entry of the image map stands in for image '{uri}' (it knows: {globs}); add one to images.toml"


def _image(path: Path, entry: dict[str, Any]) -> Image:
    unknown = set(entry) - {"match", "interpreter", "serve", "train", "rules", "follow"}
    if unknown or "match" not in entry or "interpreter" not in entry:
        raise ValueError(
            f"image map {path}: entry {entry} needs 'match' and 'interpreter' and may have 'serve', 'train', 'rules' "
            "and 'follow'"
        )
    follow = entry.get("follow", False)
    if not isinstance(follow, bool) or (follow and "rules" not in entry):
        raise ValueError(f"image map {path}: follow = {follow!r} must be true or false, and true needs 'rules'")
    # The interpreter's own path is kept (not resolved): a virtual environment is recognised by it.
    interpreter = Path(os.path.normpath(path.parent / entry["interpreter"])).absolute()
    if not interpreter.exists():
        raise ValueError(f"image map {path}: interpreter {interpreter} does not exist; `make setup` makes it")
    return Image(
        match=tuple(entry["match"]),
        interpreter=str(interpreter),
        serve=_command(path, entry.get("serve")),
        train=_command(path, entry.get("train")),
        rules=_command(path, entry.get("rules")),
        follow=follow,
    )


def _command(path: Path, arguments: list[str] | None) -> tuple[str, ...] | None:
    if arguments is None:
        return None
    script = (path.parent / arguments[0]).resolve()
    if not script.is_file():
        raise ValueError(f"image map {path}: program {script} does not exist")
    return (str(script), *arguments[1:])
