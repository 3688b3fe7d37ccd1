"""What programs can reach of the files beside them."""

from __future__ import annotations

import pytest

from retraining.imports import reached

PROGRAMS = ("train.py", "inference.py")
TREE = {
    "train.py": "",
    "report.py": "import style\n",
    "style.py": "",
    "helpers/__init__.py": "",
    "helpers/layers.py": "",
    "helpers/deep/__init__.py": "",
    "helpers/deep/blocks.py": "",
    "helpers/unused.py": "",
    "plain/tools.py": "",
    "lib/vendored/__init__.py": "",
}


def counted(train: str, **more: str) -> set[str]:
    """Of TREE, with this code in train.py and in others."""
    code = TREE | {"train.py": train} | {f"{name}.py": text for name, text in more.items()}
    return reached({path: text.encode() for path, text in code.items()}, PROGRAMS) - {"train.py"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import json, torch.nn", set()),
        ("import helpers.layers", {"helpers/__init__.py", "helpers/layers.py"}),
        ("from helpers import layers", {"helpers/__init__.py", "helpers/layers.py"}),
        ("from helpers.layers import Block", {"helpers/__init__.py", "helpers/layers.py"}),
        ("def f():\n  from helpers import unused", {"helpers/__init__.py", "helpers/unused.py"}),
        ("from plain import tools", {"plain/tools.py"}),
        ("import sys; sys.path.insert(0, 'lib'); import vendored", {"lib/vendored/__init__.py"}),
        ("import importlib; importlib.import_module('plain.tools')", {"plain/tools.py"}),
        ("__import__('report')", {"report.py", "style.py"}),
        ("subprocess.run(['python', 'report.py'])", {"report.py", "style.py"}),
        ("subprocess.run(['python', '-m', 'plain.tools'])", {"plain/tools.py"}),
        ("Path(__file__).with_name('style.py')", {"style.py"}),
        ("network.eval(); 'see report.py for more'", set()),
    ],
)  # fmt: skip
def test_what_an_import_can_reach_counts(line: str, found: set[str]) -> None:
    assert counted(line) == found


def test_imports_are_followed_through_packages() -> None:
    found = counted(
        "import helpers",
        **{"helpers/__init__": "from . import layers", "helpers/layers": "from .deep.blocks import Block"},
    )
    assert found == {f"helpers/{name}.py" for name in ("__init__", "layers", "deep/__init__", "deep/blocks")}
    up = counted(
        "import helpers.deep.blocks", **{"helpers/deep/blocks": "from ..layers import Block\nfrom .. import unused"}
    )
    assert {"helpers/layers.py", "helpers/unused.py"} <= up


def test_a_star_may_be_all_of_a_package() -> None:
    assert counted("from helpers import *") == {path for path in TREE if path.startswith("helpers/")}


def test_both_programs_begin_the_search() -> None:
    assert counted("", inference="import style") == {"inference.py", "style.py"}


@pytest.mark.parametrize(
    "line",
    [
        "import importlib\nimportlib.import_module(name)",
        "__import__(f'plug_{name}')",
        "from importlib import import_module\nimport_module('a' + b)",
        "exec(open('x').read())",
        "eval(text)",
        "runpy.run_path(program)",
        "importlib.util.spec_from_file_location('m', path)",
        "for found in pkgutil.iter_modules(path): pass",
        "type Alias = list[int]\ndef broken(:\n",
    ],
)
def test_where_only_running_would_tell_everything_counts(line: str) -> None:
    assert counted(line) == set(TREE) - {"train.py"}


def test_data_counts_and_notes_do_not_unless_named() -> None:
    files = dict.fromkeys(("train.py", "labels.txt", "config/net.yaml", "README.md", "docs/card.md"), b"")
    assert reached(files, PROGRAMS) == {"train.py", "labels.txt", "config/net.yaml"}
    assert reached(files | {"train.py": b"open('docs/card.md')"}, PROGRAMS) == set(files) - {"README.md"}


def test_what_a_configuration_names_counts() -> None:
    files = {path: text.encode() for path, text in TREE.items()}
    found = reached(files | {"net.yaml": b"_target_: plain.tools.Net\n", "run.sh": b"python report.py\n"}, PROGRAMS)
    assert found == {"train.py", "net.yaml", "run.sh", "plain/tools.py", "report.py", "style.py"}


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("", False),
        ("import helpers", True),
        ("import helpers.deep.blocks", True),
        ("open(os.path.join('helpers', 'labels' + end))", True),
        ("open('helpers/more/labels.txt')", True),
        ("importlib.resources.files('helpers')", True),
        ("import report", False),
    ],
)
def test_data_of_an_unused_package_does_not_count(code: str, counts: bool) -> None:
    files = TREE | {"train.py": code, "helpers/more/labels.txt": "a", "pins.txt": "b"}
    found = reached({path: text.encode() for path, text in files.items()}, PROGRAMS)
    assert ("helpers/more/labels.txt" in found, "pins.txt" in found) == (counts, True)
