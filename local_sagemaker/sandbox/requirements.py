"""requirements.txt: what it asks for, and whether an interpreter has that already, found out without a network.

What pip alone can answer (an address, a path, an option such as --index-url) counts as not satisfied.
"""

from __future__ import annotations

import codecs
import collections
import dataclasses
import hashlib
import os
import re
import shlex
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox.interpreter import asked

_MAX_BYTES = 2**20
_MAX_NESTING = 10
_MAX_INCLUDES = 200

# Run once in the interpreter: the values markers are evaluated with, where packages lie, and which there are.
_LIST = """
import importlib.metadata, json, os, platform, site, sys
version = "{0.major}.{0.minor}.{0.micro}".format(sys.implementation.version)
if sys.implementation.version.releaselevel != "final":
    version += sys.implementation.version.releaselevel[0] + str(sys.implementation.version.serial)
found = {}
for item in importlib.metadata.distributions():
    name = item.metadata["Name"]
    if name and name not in found:  # the first one on the path is the one that is imported
        found[name] = [item.version, item.requires or []]
print(json.dumps({
    "site": [folder for folder in site.getsitepackages() if os.path.isdir(folder)],
    "distributions": found,
    "markers": {
        "implementation_name": sys.implementation.name, "implementation_version": version, "os_name": os.name,
        "platform_machine": platform.machine(), "platform_release": platform.release(),
        "platform_system": platform.system(), "platform_version": platform.version(),
        "python_full_version": platform.python_version(), "platform_python_implementation":
        platform.python_implementation(), "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    },
}))
"""

_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")  # the blanks before it are not searched for: many would take hours
_ENCODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_REQUIREMENT, _CONSTRAINT = "--requirement", "--constraint"
# To pip these are other files than those of that name: an address, and what an environment variable holds.
_ELSEWHERE = re.compile(r"(?i:https?|file):|.*\$\{[A-Z0-9_]+\}")
_SHORT = {"-r": _REQUIREMENT, "-c": _CONSTRAINT}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requirements:
    """One requirements.txt with the files it includes."""

    path: Path
    lines: tuple[str, ...]
    """What it asks for, without comments and includes. An option of pip is a line too."""

    @classmethod
    def read(cls, path: Path) -> Requirements:
        """Raises JobFailedError for a file that cannot be read, or includes one that cannot or that lies elsewhere."""
        return cls(path=path, lines=tuple(_lines(path, path.parent.resolve(), Counter())))

    def missing(self, packages: Packages) -> list[str]:
        """The lines that an interpreter does not satisfy, or that only pip understands."""
        return [line for line in self.lines if not packages.satisfy(line)]

    def digest(self) -> str:
        """The same for the same demand. What lies beside the file belongs to it when a line may mean a path."""
        digest = hashlib.sha256("\n".join(self.lines).encode())
        if any(_may_be_a_path(self.path.parent, line) for line in self.lines):
            digest.update(str(self.path.parent).encode() if any(map(_is_editable, self.lines)) else b"")
            for file in sorted(item for item in self.path.parent.rglob("*") if item.is_file()):
                if file.parent.name == "__pycache__" or file.parent.suffix == ".egg-info":  # left by an earlier build
                    continue
                digest.update(str(file.relative_to(self.path.parent)).encode())
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packages:
    """What one interpreter has."""

    site: tuple[str, ...]
    """Its folders of packages."""
    distributions: dict[str, tuple[str, list[str]]]
    """Normalised name → version and the requirements in its metadata."""
    markers: dict[str, str]

    @classmethod
    def of(cls, interpreter: str) -> Packages:
        """Ask the interpreter; the answer is kept until its folders of packages change. Any thread may call it."""
        with _lock:
            known = _known.get(interpreter)
            if known is None or known[0] != _stamp(known[1].site):
                packages = cls._list(interpreter)
                _known[interpreter] = known = (_stamp(packages.site), packages)
            return known[1]

    @classmethod
    def _list(cls, interpreter: str) -> Packages:
        from packaging.utils import canonicalize_name

        found = asked(interpreter, _LIST, f"the packages of {interpreter} cannot be listed")
        return cls(
            site=tuple(found["site"]),
            distributions={
                canonicalize_name(name): (version, requires)
                for name, (version, requires) in found["distributions"].items()
            },
            markers=found["markers"],
        )

    def satisfy(self, line: str) -> bool:
        from packaging.requirements import Requirement

        try:
            return self._has(Requirement(line), extra="", within=frozenset())
        except (ValueError, RecursionError):  # no requirement, a marker without a value, thousands of brackets
            return False

    def _has(self, requirement: Any, *, extra: str, within: frozenset[tuple[str, str]]) -> bool:
        """Whether a packaging Requirement is met, with what its extras ask for; `extra` is the one that asks."""
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        if requirement.marker and not requirement.marker.evaluate(self.markers | {"extra": extra}):
            return True
        name = canonicalize_name(requirement.name)
        if requirement.url or name not in self.distributions:
            return False
        version, requires = self.distributions[name]
        if not requirement.specifier.contains(version, prereleases=True):
            return False
        wanted = {(name, item) for item in requirement.extras} - within
        return all(
            self._has(Requirement(line), extra=item, within=within | wanted)
            for _, item in wanted
            for line in requires
            if "extra" in line
        )


_lock = threading.Lock()
_known: dict[str, tuple[tuple[int, ...], Packages]] = {}


def _stamp(folders: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0 for folder in folders)


def _lines(path: Path, root: Path, reads: Counter[str], nesting: int = 0) -> Iterator[str]:
    """All lines but those that include files, whose lines stand in their place; constraints are read, and not given."""
    if nesting > _MAX_NESTING:
        raise _failure(f"{path.name} includes files more than {_MAX_NESTING} deep")
    reads["files"] += 1
    if reads["files"] > _MAX_INCLUDES:
        raise _failure(f"{path.name} is one more than {_MAX_INCLUDES} included files; name each once")
    for line in _joined(_text(path, root)):
        line = _COMMENT.sub("", line).strip()
        included = list(_included(line)) if line.startswith("-") else []
        for option, name in included:
            if _ELSEWHERE.match(name):
                raise _failure(f"{path.name} includes {name:.200}, which is not read; name a file beside it")
            nested = _lines(path.parent / name, root, reads, nesting + 1)
            if option == _REQUIREMENT:
                yield from nested
            else:
                collections.deque(nested, maxlen=0)
        if line and not (included and all(option == _REQUIREMENT for option, _ in included)):
            yield line


def _text(path: Path, root: Path) -> str:
    """Of a file in the folder of the job's source: pip would print a line of any other that it does not understand."""
    try:
        if not path.resolve().is_relative_to(root):
            raise _failure(f"{path} lies outside the source of the job and is not read; put it beside requirements.txt")
        if not path.is_file():
            raise _failure(f"{path.name} is no file that is there")  # reading a pipe would never end
        if path.stat().st_size > _MAX_BYTES:
            raise _failure(f"{path.name} is larger than {_MAX_BYTES} bytes")
        content = path.read_bytes()
        for line in content.splitlines()[:2]:
            declared = _ENCODING.search(line) if line.startswith(b"#") else None
            if declared and codecs.lookup(declared[1].decode()).name != "utf-8":
                raise _failure(f"{path.name} says that it is written in {declared[1].decode()}; save it in UTF-8")
        return content.decode("utf-8-sig")
    except (OSError, ValueError, LookupError) as error:  # no such file, or no name of one; no such encoding
        raise _failure(f"{ascii(path.name)[1:-1]} cannot be read: {error}") from error


def _joined(text: str) -> Iterator[str]:
    """Lines with their continuations, as pip joins them: it must not find an include that is not found here."""
    parts: list[str] = []
    for line in text.splitlines():
        is_comment = _COMMENT.match(line)
        if line.endswith("\\") and not is_comment:
            parts.append(line.strip("\\"))
            continue
        yield "".join([*parts, f" {line}" if is_comment else line])
        parts = []
    if parts:
        yield "".join(parts)


def _included(line: str) -> Iterator[tuple[str, str]]:
    """(option, file) of each -r and -c of a line of options, in all the ways that pip's parser takes them."""
    try:
        words = iter(shlex.split(line))
    except ValueError as error:
        raise _failure(f"{line!r:.80} is not understood: {error}") from error
    for word in words:
        name, _, value = word.partition("=")
        option = next((long for long in (_REQUIREMENT, _CONSTRAINT) if len(name) > 2 and long.startswith(name)), None)
        if word[:2] in _SHORT:
            option, value = _SHORT[word[:2]], word[2:]
        if option:
            yield option, value or next(words, "")


def _failure(text: str) -> JobFailedError:
    return JobFailedError(f"AlgorithmError: InstallRequirementsError: {text}")


def _may_be_a_path(folder: Path, line: str) -> bool:
    words = re.split(r"[\s=@]+", line)
    return any("/" in word or word == "." or (folder / word.split("[")[0]).exists() for word in words if word)


def _is_editable(line: str) -> bool:
    return line.startswith(("-e", "--editable"))
