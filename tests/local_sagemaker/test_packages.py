"""requirements.txt of a job: what is there is not installed, the rest is installed once, and failures say why."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import app
from local_sagemaker.failures import JobFailedError
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import packages
from local_sagemaker.sandbox.environment import process_environment
from local_sagemaker.sandbox.requirements import Packages, Requirements
from local_sagemaker.settings import Settings
from tests.local_sagemaker.harness import REPOSITORY, has_ended
from tests.waiting import wait_until

PACKAGES = Packages(
    site=(),
    distributions={
        "torch": ("2.14.0", ["numpy>=1", 'triton>=3; extra == "fast"', 'numpy>=2; extra == "all"']),
        "numpy": ("2.2.6", []),
        "my-tool": ("1.0rc1", ['my-tool[all]; extra == "all"']),
    },
    markers={"python_version": "3.11", "sys_platform": "linux"},
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    root = tmp_path_factory.mktemp("packages")
    platform = app.build_platform(Settings(root=root, access_key_id="id", secret_access_key="secret"))
    yield platform
    platform.close()


@pytest.fixture
def demand(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a requirements.txt."""

    def write(text: str) -> Path:
        path = tmp_path / "requirements.txt"
        path.write_text(text)
        return path

    return write


def wheel(folder: Path, name: str, version: str = "1.0", requires: str = "") -> Path:
    """A package of one module with VERSION and a console script, as a wheel: pip needs no network and no builder."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"VERSION = '{version}'\ndef main(): print('{name}', VERSION)\n")
        file.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else ""))
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name}-tool = {name}:main\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def interpreter_for(
    platform: Platform, interpreter: str, requirements: Path, say: Callable[[str], None], **options: Any
) -> str:
    root, isolation = platform.settings.root, platform.isolation
    return packages.interpreter_for(root, isolation, interpreter, requirements, say, **options)


def run(interpreter: str, code: str) -> str:
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def environments(platform: Platform) -> list[Path]:
    return [path.parent for path in (platform.settings.root / "environments").glob("*/complete")]


@pytest.mark.parametrize(
    ("line", "satisfied"),
    [
        ("torch", True),
        ("Torch >=2,<3", True),
        ("torch==2.13", False),
        ("torch[all]", True),
        ("torch[fast]", False),
        ("torch[unknown]", True),
        ("My_Tool", True),
        ("my.tool[all]", True),
        ("absent", False),
        ("absent; python_version < '3.8'", True),
        ("absent; sys_platform == 'linux'", False),
        ("torch @ https://example.org/torch.whl", False),
        ("git+https://example.org/repository", False),
        ("./local", False),
        ("-e .", False),
        ("--index-url https://example.org/simple", False),
        ("torch --hash=sha256:00", False),
    ],
)
def test_what_an_interpreter_has_is_found_without_pip(line: str, satisfied: bool) -> None:
    assert PACKAGES.satisfy(line) is satisfied


def test_comments_continuations_and_includes_are_read(demand: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/base.txt").write_text("numpy\n-r deeper.txt")
    (tmp_path / "more/deeper.txt").write_text("absent==1 # really\n")
    path = demand("# a comment\ntorch \\\n  >=2  # why\n\n--requirement=more/base.txt\npackage#egg\n")
    assert Requirements.read(path).lines == ("torch   >=2", "numpy", "absent==1", "package#egg")


@pytest.mark.parametrize(
    "text", ["-r missing.txt", "-r requirements.txt", "\udcff"], ids=["missing", "itself", "bytes"]
)
def test_unreadable_requirements_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(JobFailedError, match=r"AlgorithmError: InstallRequirementsError: \w+\.txt"):
        Requirements.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "-r /etc/hostname", "-r/etc/hostname", "-c ../secret.txt", "--requirement=../secret.txt",
        "--const ../secret.txt", "--pre -r ../secret.txt", "-r '../secret.txt'", "-r \\\n../secret.txt",
        "-r \\\x0b../secret.txt", "-r link.txt", "-r inner.txt",
    ],
)  # fmt: skip
def test_files_outside_the_source_are_not_read(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("not for the log\n")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inner.txt").write_text("--constraint ../secret.txt\n")
    (folder / "requirements.txt").write_text(text)
    with pytest.raises(JobFailedError, match="lies outside the source of the job"):
        Requirements.read(folder / "requirements.txt")


@pytest.mark.parametrize(
    "name", ["file:/{}/secret.txt", "FILE:{}/secret.txt", "${{HOME}}/secret.txt", "https:/x/secret.txt"]
)
def test_a_name_that_pip_reads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """Though a file of that name lies in the source."""
    name = name.format(tmp_path)
    decoy = tmp_path / "source" / name
    decoy.parent.mkdir(parents=True)
    decoy.write_text("numpy\n")
    (tmp_path / "source/requirements.txt").write_text(f"--pre -r {name}")
    with pytest.raises(JobFailedError, match=r"requirements\.txt includes .*, which is not read"):
        Requirements.read(tmp_path / "source/requirements.txt")


@pytest.mark.parametrize("text", ["# coding: utf-7\n+AC0-r /etc/passwd", "-r a\0b", "-r 'open", "# coding: none\n"])
def test_what_pip_would_read_otherwise_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    with pytest.raises(JobFailedError, match="InstallRequirementsError"):
        Requirements.read(path)


def test_constraints_are_left_to_pip(demand: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "limits.txt").write_text("numpy<3\n")
    assert Requirements.read(demand("-c limits.txt\nnumpy\n")).lines == ("-c limits.txt", "numpy")


@pytest.mark.parametrize(
    "text",
    [" " * 900_000 + "x", f"a; {'(' * 60_000}", "a; python_version > 'x.y' and extra == 'b'", "\n" * 900_000],
    ids=["blanks", "deep", "marker", "empty"],
)
def test_odd_lines_take_no_time(demand: Callable[[str], Path], text: str) -> None:
    started = time.process_time()
    Requirements.read(demand(text)).missing(PACKAGES)
    assert time.process_time() - started < 2


def test_includes_do_not_multiply(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n" * 1000)
    (tmp_path / "9.txt").write_text("numpy")
    with pytest.raises(JobFailedError, match="one more than 200 included files"):
        Requirements.read(tmp_path / "0.txt")


def test_pipe_is_no_requirements_file(demand: Callable[[str], Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(JobFailedError, match="pipe is no file"):
        Requirements.read(demand("-r pipe"))


def test_satisfied_requirements_make_no_environment(platform: Platform, demand: Callable[[str], Path]) -> None:
    said: list[str] = []
    path = demand("boto3>=1\nuvicorn[standard]; python_version < '3'\n")
    assert interpreter_for(platform, sys.executable, path, said.append) == sys.executable
    assert said == [] and environments(platform) == []


@pytest.fixture(scope="module")
def installed(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path, list[str]]:
    """One demand of two jobs at once: the interpreters they got, the demand, and what was said."""
    folder = tmp_path_factory.mktemp("source")
    wheel(folder, "tinyone", requires="boto3")
    (folder / "requirements.txt").write_text("./tinyone-1.0-py3-none-any.whl\nboto3\n")
    said: list[str] = []

    def install(_: int) -> str:
        return interpreter_for(platform, sys.executable, folder / "requirements.txt", said.append)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = list(pool.map(install, range(2)))
    return made, folder / "requirements.txt", said


def test_what_is_missing_is_installed_beside_what_is_there(installed: tuple[list[str], Path, list[str]]) -> None:
    (made, _), _, said = installed
    assert made != sys.executable
    same = run(sys.executable, "import boto3; print(boto3.__file__)")
    assert run(made, "import tinyone, boto3; print(tinyone.VERSION, boto3.__file__)") == f"1.0 {same}"
    assert "not there yet: ./tinyone-1.0-py3-none-any.whl" in said[0] and "is installed" in said[-1]
    assert any("Successfully installed tinyone-1.0" in line for line in said)


def test_programs_of_both_are_on_the_path(installed: tuple[list[str], Path, list[str]], tmp_path: Path) -> None:
    environment = process_environment(installed[0][0], tmp_path / "job", tmp_path / "job/tmp", 1)
    path = environment["PATH"].split(":")
    assert path[:2] == [str(Path(installed[0][0]).parent), str(Path(sys.executable).parent)]
    tool = subprocess.run(["tinyone-tool"], env=environment, capture_output=True, text=True, check=True)
    assert tool.stdout == "tinyone 1.0\n"


def test_two_jobs_at_once_install_it_once(installed: tuple[list[str], Path, list[str]]) -> None:
    made, _, said = installed
    assert made[0] == made[1]
    assert sum("is installed" in line for line in said) == 1


def test_same_demand_is_installed_once(platform: Platform, installed: tuple[list[str], Path, list[str]]) -> None:
    made, path, _ = installed
    said: list[str] = []
    assert interpreter_for(platform, sys.executable, path, said.append) == made[0]
    assert said == []


def test_demand_for_a_path_is_one_for_its_content(demand: Callable[[str], Path]) -> None:
    def digest(text: str) -> str:
        return Requirements.read(demand(text)).digest()

    before = [digest("./package\ntorch"), digest("torch")]
    (demand("").parent / "package").mkdir()
    (demand("").parent / "package/module.py").touch()
    after = [digest("./package\ntorch"), digest("torch")]
    assert before[0] != after[0] and before[1] == after[1]


def test_package_that_is_nowhere_fails_with_pips_words(
    platform: Platform, demand: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    before = environments(platform)
    with pytest.raises(JobFailedError) as caught:
        interpreter_for(
            platform, sys.executable, demand("no-such-package-anywhere==1"), lambda line: None, network_isolation=True
        )
    assert str(caught.value).startswith("AlgorithmError: InstallRequirementsError:\nExitCode 1\nErrorMessage ")
    assert "No matching distribution found for no-such-package-anywhere==1" in str(caught.value)
    assert environments(platform) == before
    assert not list((platform.settings.root / "environments").glob("*.pip"))


def test_installation_ends_at_its_time_limit(platform: Platform, tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match="did not come to an end within the time limit"):
        interpreter_for(platform, sys.executable, sleeping(tmp_path), lambda line: None, timeout_s=0.3)


def test_installation_ends_with_its_job(platform: Platform, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(packages.StoppedError, match="was stopped"):
        interpreter_for(platform, sys.executable, sleeping(tmp_path), lambda line: None, stop=stop)


def sleeping(folder: Path) -> Path:
    """A demand for a package whose installation takes a minute. It brings its own builder: no network is needed."""
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    begun = folder.parent / "begun"
    (folder / "backend.py").write_text(
        "import os, time\ndef build_wheel(*_, **__):\n"
        f"    with open({str(begun)!r}, 'w') as file: file.write(f'{{os.getpid()}}\\n')\n"
        "    time.sleep(60)\n"
    )
    (folder / "requirements.txt").write_text(".")
    return folder / "requirements.txt"


BACKEND = """
import pathlib, shutil
def build_wheel(folder, *_, **__):
    return shutil.copy(next(pathlib.Path.cwd().glob("*.whl")), folder).rpartition("/")[2]
"""


@pytest.mark.slow
def test_killed_installation_is_made_anew(tmp_path: Path) -> None:
    """The server dies while pip works: what is half there is never used, and what still runs is ended."""
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir()
    wheel(source, "tinykilled")
    path = sleeping(source)
    script = (
        "import sys; from pathlib import Path\nfrom local_sagemaker import app\n"
        "from local_sagemaker.settings import Settings\nfrom local_sagemaker.sandbox.packages import interpreter_for\n"
        "platform = app.build_platform(Settings(root=Path(sys.argv[1]), access_key_id='i', secret_access_key='s'))\n"
        "interpreter_for(platform.settings.root, platform.isolation, sys.executable, Path(sys.argv[2]), print)"
    )
    server = subprocess.Popen([sys.executable, "-c", script, str(root), str(path)], cwd=REPOSITORY)
    begun = tmp_path / "begun"

    def installing() -> bool:
        assert server.poll() is None
        return begun.exists() and begun.read_text().endswith("\n")

    wait_until(installing)
    server.kill()
    server.wait()
    (half,) = (root / "environments").glob("*/bin")
    assert not (half.parent / "complete").exists()
    platform = app.build_platform(Settings(root=root, access_key_id="i", secret_access_key="s"))
    hosting = app.Hosting.of(platform)
    try:
        app.resume(platform, hosting)
        assert has_ended(int(begun.read_text()))
        with pytest.raises(JobFailedError, match="time limit"):
            interpreter_for(platform, sys.executable, path, lambda line: None, timeout_s=0.2)
        assert not half.exists()
        (source / "backend.py").write_text(BACKEND)
        made = interpreter_for(platform, sys.executable, path, lambda line: None)
    finally:
        app.shut_down(platform, hosting)
    assert run(made, "import tinykilled; print(tinykilled.VERSION)") == "1.0"


def test_pip_gets_the_indexes_and_nothing_else_of_the_server(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_TARGET", "/somewhere")
    monkeypatch.setenv("MY_TOKEN", "secret")
    folder = tmp_path / "environment"
    environment = packages.Environment(platform.isolation, folder, sys.executable, PACKAGES)._variables()
    assert environment["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert not {"PIP_TARGET", "MY_TOKEN", "AWS_ACCESS_KEY_ID"} & set(environment)
    assert environment["HOME"] != os.environ.get("HOME")


def test_environment_unused_for_a_month_is_removed(
    platform: Platform, installed: tuple[list[str], Path, list[str]]
) -> None:
    old = platform.settings.root / "environments/old"
    old.mkdir()
    (old / "complete").touch()
    os.utime(old / "complete", (0, 0))
    made, path, _ = installed
    interpreter_for(platform, sys.executable, path, lambda line: None)
    assert not old.exists() and Path(made[0]).exists()
