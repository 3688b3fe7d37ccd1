"""What programs can reach of the files they are shipped with: by their imports, and by the names they say.

It errs on the safe side: a file counts when it may be reached. Imports within functions and `if TYPE_CHECKING` count,
so does a text that names a file or a module, in code and in configuration. Where code imports what it has computed, or
cannot be parsed here, every file counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

NOTES = (".md", ".rst")
"""Files that no program reads, unless it names them."""
COMPUTED = {
    "__import__", "import_module", "spec_from_file_location", "SourceFileLoader", "exec_module", "load_module",
    "run_module", "run_path", "walk_packages", "iter_modules", "entry_points",
}  # fmt: skip
"""Functions that import what an argument names; found by their last name, however they came there."""
RUN_TEXT = {"exec", "eval"}
TEXT_BYTES = 2**20
"""Larger files are data, in which no names are looked for."""
NAME = re.compile(r"[\w./-]+")


def reached(files: Mapping[str, bytes], programs: Iterable[str]) -> set[str]:
    """Which of `files` (path from the root of the archive → content) a model that `programs` make may depend on.

    What is not Python counts, except notes, and except what lies in a package of which nothing is reached and which no
    text names (a page's style sheet). `programs` that are not there count for nothing.
    """
    return _Search(files).run(programs)


class _Computed(Exception):
    """The code imports something that only running it would tell."""


class _Search:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.places = sorted({str(place) for path in files for place in PurePosixPath(path).parents} - {"."})
        self.data: dict[str, list[str]] = {}  # folder of a package → files in it that are not Python; "" for the rest
        for path in files:
            if not path.endswith(".py") and not path.lower().endswith(NOTES):
                self.data.setdefault(self._package(path), []).append(path)

    def run(self, programs: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = [*self.data.get("", ()), *(program for program in programs if program in self.files)]
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found.add(path)
            waiting += self.data.get(self._package(path), ())
            try:
                waiting += self._mentioned_in(path)
            except (_Computed, SyntaxError, ValueError):  # a newer Python's syntax, or an import that is computed
                return set(self.files)
        return found

    def _mentioned_in(self, path: str) -> Iterator[str]:
        body = self.files[path]
        if not path.endswith(".py"):
            if len(body) <= TEXT_BYTES:
                for text in set(NAME.findall(body.decode(errors="ignore"))):
                    yield from self._named(text)
            return
        package = list(PurePosixPath(path).parent.parts)
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._module(alias.name.split("."))
            elif isinstance(node, ast.ImportFrom):
                yield from self._imported_from(node, package)
            elif isinstance(node, ast.Call):
                yield from self._called(node, package)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from self._named(node.value)

    def _imported_from(self, node: ast.ImportFrom, package: list[str]) -> Iterator[str]:
        parts = _above(package, node.level) + (node.module.split(".") if node.module else [])
        for alias in node.names:
            if alias.name == "*":  # all that the package's __all__ may name
                yield from self._module(parts)
                inside = f"/{'/'.join(parts)}/"
                yield from (path for path in self.files if path.endswith(".py") and inside in f"/{path}")
            else:
                yield from self._module([*parts, alias.name])

    def _called(self, node: ast.Call, package: list[str]) -> Iterator[str]:
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        if isinstance(node.func, ast.Name) and name in RUN_TEXT:
            raise _Computed
        if name not in COMPUTED:
            return
        literal = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if name not in ("__import__", "import_module") or not isinstance(literal, str):
            raise _Computed
        module = literal.lstrip(".")
        yield from self._module(_above(package, len(literal) - len(module)) + module.split("."))

    def _package(self, path: str) -> str:
        """The innermost folder of a package that the file lies in, or below."""
        folders = (str(place) for place in PurePosixPath(path).parents)
        return next((folder for folder in folders if f"{folder}/__init__.py" in self.files), "")

    def _module(self, parts: list[str]) -> Iterator[str]:
        """The files that `import a.b.c` runs: its own, and those of the packages above it, as far as there are any.

        Found from the root, where the programs lie; else from any folder, since programs may extend sys.path.
        """
        found = self._module_in("", parts)
        if not found:
            found = [path for place in self.places for path in self._module_in(f"{place}/", parts)]
        yield from found

    def _module_in(self, place: str, parts: list[str]) -> list[str]:
        names = [place + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return [path for name in names for path in (f"{name}.py", f"{name}/__init__.py") if path in self.files]

    def _named(self, text: str) -> Iterator[str]:
        """Files whose path, or its end, is the text; and modules, where it is dotted: programs that are run, classes
        of a configuration. With the name of a package's folder, what is not Python in it."""
        if not NAME.fullmatch(text):
            return
        folder = f"/{text.strip('./')}"
        yield from (path for place, paths in self.data.items() if f"/{place}".endswith(folder) for path in paths)
        if "." not in text:
            return
        end = f"/{text.removeprefix('./')}"
        yield from (path for path in self.files if f"/{path}".endswith(end))
        parts = text.split(".")
        if all(part.isidentifier() for part in parts):
            yield from self._module_in("", parts)


def _above(package: list[str], level: int) -> list[str]:
    """The package that so many dots before a name stand for; no dot: the root."""
    return package[: len(package) - (level - 1)] if level else []
