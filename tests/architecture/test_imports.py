"""Who may import whom: three programs that meet only on the wire; docs/architecture.md draws the arrows."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import sys
from pathlib import Path

import pytest

from tests import shipped

ROOT = Path(__file__).parents[2]
RETRAINING = ROOT / "plugins" / "retraining"
STANDARD_LIBRARY = frozenset(sys.stdlib_module_names)
#: The programs and wings of ml/, each with the wings it may import.
WINGS = {
    "pictures": set(),
    "recordings": set(),
    "network": {"pictures"},
    "dataset": {"pictures"},
    "debugger": {"network", "recordings"},
    "profiler": {"debugger", "recordings"},
    "training": {"dataset", "debugger", "network", "pictures", "profiler", "recordings"},
    "server": set(),
    "train.py": {"dataset", "network", "profiler", "recordings", "training"},
    "evaluate_rules.py": {"debugger", "profiler", "recordings"},
    "inference.py": {"network", "pictures"},
    "ray_app.py": {"inference"},
    "serve.py": {"server"},
}
#: The wings of plugins/retraining/dataset, each with the wings it may import.
DATASET_WINGS = {
    "pictures": set(),
    "layouts": set(),
    "near": {"pictures"},
    "sources": {"layouts", "pictures"},
    "public": {"layouts", "sources"},
    "labels": {"pictures", "sources"},
    "versions": {"labels", "layouts", "near", "pictures", "sources"},
    "processing": {"near", "pictures", "sources", "versions"},
}
#: Commands, which may ask everything, wherever they lie.
COMMANDS = {"dataset/__main__.py", "dataset/terminal.py", "dataset/garbage.py", "dataset/labels/terminal.py"}
#: What the wings of dataset/ share.
DATASET_SHARED = {"names", "progress", "source_error", "split", "stamp"}
ML_OWN = frozenset(name.removesuffix(".py") for name in WINGS)

#: What each program may import beside the standard library.
ALLOWED = {
    "dags": {"airflow", "retraining"},
    "plugins": {
        "retraining",
        "airflow",
        "boto3",
        "botocore",
        "sagemaker",
        "sklearn",
        "croniter",
        "numpy",
        "pyarrow",  # only while a hub's data set is imported
        "rich",
        "PIL",
        "yaml",
        "asgiref",
        "fastapi",  # these four come with Airflow
        "jinja2",
        "pydantic",
        "sqlalchemy",
        "pydantic_core",
    },
    "local_sagemaker": {
        "local_sagemaker",
        "boto3",
        "botocore",
        "cbor2",
        "httptools",  # the parser beneath uvicorn's connection
        "httpx",
        "numpy",  # only a Bayesian search
        "packaging",
        "psutil",
        "starlette",
        "uvicorn",
    },
    "stack": {"stack", "boto3", "botocore", "cryptography", "httpx", "psutil", "yaml"},
    # sagemaker_inference is AWS's serving toolkit: there in its containers, absent elsewhere.
    # boto3 and botocore: only to judge tensors that lie in S3, imported where that is asked for.
    "ml": {
        "boto3",
        "botocore",
        "psutil",  # only where a training measures its own machine
        "sagemaker_inference",
        "torch",
        "torchvision",
        "numpy",
        "PIL",
        "nncf",
        "openvino",
        "ray",  # there in AWS's Ray Serve containers
        "smdebug",
        "mlflow",
        "wandb",
        "starlette",
        "httptools",  # the parser beneath uvicorn's connection
        "uvicorn",
        *ML_OWN,
    },
}

#: Decisions of the core: functions from data to data, tested without anything running.
PURE_CORE = {
    "plugins/retraining": [
        "container_support", "cost/billing", "cost/ceiling", "debugger/mode",
        "debugger/rule_verdicts", "fingerprint", "identity", "imports", "page/chart",
        "page/figures", "page/headline", "page/matrix", "page/mount", "plan", "promotion/decision",
        "promotion/approval", "promotion/bounds", "promotion/check", "promotion/differences", "promotion/evidence",
        "promotion/parts", "promotion/scores", "recipe/budget", "recipe/debugger",
        "recipe/hyperparameters", "recipe/layout", "recipe/machines", "recipe/promotion", "recipe/reading",
        "recipe/recipe", "recipe/refusal", "recipe/rules", "recipe/schedule", "recipe/schema", "recipe/split",
        "recipe/tracking", "recipe/tuning", "report", "requests/debugger", "requests/sagemaker", "tuning/warm_start",
    ],
    "local_sagemaker": [
        "jobs/status", "jobs/metrics", "tuning/bayesian", "tuning/completion", "tuning/definition",
        "tuning/early_stopping", "tuning/gaussian_process", "tuning/hyperband", "tuning/plan", "tuning/ranges",
        "tuning/search", "tuning/standard_scores", "tuning/warm_start",
    ],
}  # fmt: skip
PURE_ALLOWED = {"retraining", "local_sagemaker", "numpy", "yaml", "croniter", "pydantic", "pydantic_core"}

#: What lies below others in local_sagemaker, each with what it never imports, not even for a type.
ABOVE_PLATFORM = {"app", "hosting", "jobs", "operations", "pages", "transform", "tuning"}
ABOVE = {
    "platform.py": ABOVE_PLATFORM,
    "s3.py": {"platform", *ABOVE_PLATFORM},
    "sandbox": {"platform", *ABOVE_PLATFORM},
    "state": {"platform", *ABOVE_PLATFORM},
}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Top-level package names a file imports (relative imports count as the package itself)."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - STANDARD_LIBRARY


def full_names(path: Path) -> set[str]:
    """What a file imports, wherever in it and for whatever: modules, and things with the modules that they are from."""
    names: set[str] = set()
    here = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), here)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def modules(path: Path, package: str) -> set[str]:
    """The modules and folders of a package (with its dot) that a file imports."""
    names = full_names(path)
    return {name.removeprefix(package).split(".")[0] for name in names if name.startswith(package)}


@pytest.mark.parametrize("program", sorted(ALLOWED))
def test_program_imports_only_what_it_may(program: str) -> None:
    files = [path for path in shipped.files(program) if path.suffix == ".py"]
    foreign = {str(path.relative_to(ROOT)): imports(path) - ALLOWED[program] for path in files}
    assert files
    assert {name: extra for name, extra in foreign.items() if extra} == {}


@pytest.mark.parametrize("folder", sorted(PURE_CORE))
def test_core_needs_nothing_but_the_standard_library(folder: str) -> None:
    foreign = {name: imports(ROOT / folder / f"{name}.py") - PURE_ALLOWED for name in PURE_CORE[folder]}
    assert {name: extra for name, extra in foreign.items() if extra} == {}


def test_machinery_never_imports_operations() -> None:
    root = ROOT / "local_sagemaker"
    above = {root / "app.py", root / "coverage.py", root / "__main__.py"}
    machinery = [path for path in root.rglob("*.py") if path.parent.name != "operations" and path not in above]
    guilty = [path.name for path in machinery if "local_sagemaker.operations" in path.read_text()]
    assert guilty == []


@pytest.mark.parametrize("part", sorted(ABOVE))
def test_what_lies_below_never_imports_what_lies_above(part: str) -> None:
    place = ROOT / "local_sagemaker" / part
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    assert files
    upward = {str(file.relative_to(ROOT)): modules(file, "local_sagemaker.") & ABOVE[part] for file in files}
    assert {name: found for name, found in upward.items() if found} == {}


def test_only_the_hook_knows_smdebug() -> None:
    """A training must run where smdebug is not installed: in every image since PyTorch 2.1."""
    users = {path.name for path in (ROOT / "ml").rglob("*.py") if "smdebug" in imports(path)}
    at_import = {path.name for path in (ROOT / "ml").rglob("*.py") if "smdebug" in imports(path, top_level_only=True)}
    assert users <= {"smdebug_hook.py"}
    assert at_import == set()


def test_ml_is_programs_and_wings() -> None:
    """setup.py would switch SageMaker's toolkit to package mode, where the code is not found by its path."""
    files = {path.relative_to(ROOT / "ml") for path in shipped.files("ml")}
    assert "setup.py" not in {path.name for path in files}
    assert {path.parts[0] for path in files} == set(WINGS)
    folders = {path.parent for path in files if len(path.parts) > 1}
    assert {folder for folder in folders if folder / "__init__.py" not in files} == set()


@pytest.mark.parametrize("wing", sorted(WINGS))
def test_arrows_between_wings_go_one_way(wing: str) -> None:
    place = ROOT / "ml" / wing
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    used = {file.name: imports(file) & ML_OWN - {wing} for file in files}
    assert {name: extra for name, found in used.items() if (extra := found - WINGS[wing])} == {}


def is_command(file: Path) -> bool:
    return file.relative_to(RETRAINING).as_posix() in COMMANDS


def test_no_circle_of_rooms_in_plugins() -> None:
    arrows: dict[str, set[str]] = {}
    for file in RETRAINING.rglob("*.py"):
        if not is_command(file):
            room = file.relative_to(RETRAINING).parts[0].removesuffix(".py")
            arrows.setdefault(room, set()).update(modules(file, "retraining.") - {room})
    assert len(arrows) > 20
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("root", "package"), [("ml", ""), ("plugins", "retraining"), ("", "local_sagemaker"), ("", "stack")]
)
def test_no_circle_of_modules(root: str, package: str) -> None:
    """Not for a type either: what two files need of each other is a third one's."""
    above = ROOT / root
    places = {file: ".".join(file.relative_to(above).with_suffix("").parts) for file in (above / package).rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for file, name in places.items()}
    arrows = {
        name: {found for found in full_names(file) & files.keys() if found != name} for name, file in files.items()
    }
    assert len(arrows) > 10
    graphlib.TopologicalSorter(arrows).prepare()


@pytest.mark.parametrize("wing", sorted(DATASET_WINGS))
def test_arrows_within_dataset_go_one_way(wing: str) -> None:
    place = RETRAINING / "dataset"
    files = [file for file in sorted((place / wing).rglob("*.py")) if not is_command(file)]
    assert files
    used = {file.name: modules(file, "retraining.dataset.") - {wing} - DATASET_SHARED for file in files}
    assert {name: extra for name, found in used.items() if (extra := found - DATASET_WINGS[wing])} == {}


def test_dataset_has_no_other_wings() -> None:
    place = RETRAINING / "dataset"
    assert {file.parent.name for file in place.rglob("*.py")} - {"dataset"} == set(DATASET_WINGS)
