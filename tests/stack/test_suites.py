from pathlib import Path

import pytest

from stack.suites import IN_ORDER, PACE, Suite, chosen, environment, run, verdict


def test_without_arguments_each_interpreter_runs_its_tests_at_its_pace() -> None:
    assert chosen([]) == [
        Suite("airflow", ("tests", "--ignore=tests/ml", "--ignore=tests/containers", *PACE["airflow"], *IN_ORDER)),
        Suite("ml", ("-o", "pythonpath=ml", "tests/ml", *PACE["ml"])),
    ]


PYTEST = """#!/bin/sh
# A suite that ends when the other one has begun, and how it was told to.
touch {mine}
tries=0
until [ -e {other} ] || [ $tries = {patience} ]; do sleep 0.05; tries=$((tries + 1)); done
echo "said by {name}"
[ -e {other} ] && exit {status}
exit 9
"""


@pytest.mark.parametrize(("arguments", "status", "patience"), [([], 1, 600), (["-x"], 9, 0)])
def test_all_tests_run_side_by_side_chosen_ones_in_turn(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], status: int, patience: int
) -> None:
    for name, other, ends in (("airflow", "ml", 0), ("ml", "airflow", 1)):
        program = tmp_path / f".venv/{name}/bin/python"
        program.parent.mkdir(parents=True)
        program.write_text(PYTEST.format(mine=name, other=other, name=name, status=ends, patience=patience))
        program.chmod(0o755)
    assert run(tmp_path, arguments) == status
    told = [line.split(":")[0] for line in capfd.readouterr().out.splitlines()]
    assert told == ["== pytest in .venv/airflow", "said by airflow", "== pytest in .venv/ml", "said by ml"]


def test_options_go_to_both() -> None:
    assert [suite.arguments[-3:] for suite in chosen(["-x", "-k", "stop"])] == [("-x", "-k", "stop")] * 2


def test_a_path_chooses_its_interpreter() -> None:
    assert chosen(["tests/ml/test_x.py::test_y", "-q"]) == [
        Suite("ml", ("-o", "pythonpath=ml", "tests/ml/test_x.py::test_y", "-q"))
    ]
    assert [suite.interpreter for suite in chosen(["tests/stack"])] == ["airflow"]
    assert [suite.interpreter for suite in chosen(["tests/stack", "tests/ml"])] == ["airflow", "ml"]


@pytest.mark.parametrize(
    ("statuses", "narrowed", "status"),
    [
        ([0, 0], False, 0),
        ([0, 1], False, 1),
        ([5, 0], False, 5),
        ([5, 0], True, 0),
        ([5, 5], True, 5),
        ([5, 1], True, 1),
        ([2, 0], True, 2),
    ],
)
def test_one_status_speaks_for_all(statuses: list[int], narrowed: bool, status: int) -> None:
    assert verdict(statuses, narrowed=narrowed) == status


def test_tests_do_not_see_the_stack_of_a_shell() -> None:
    """After `eval "$(make -s local-env)"`, or with an account of one's own."""
    shell = {"HOME": "/home/ada", "PATH": "/bin", "OMP_NUM_THREADS": "1"}
    theirs = (
        "AWS_ENDPOINT_URL",
        "AIRFLOW_HOME",
        "RETRAINING_RECIPES",
        "SAGEMAKER_USER_CONFIG_OVERRIDE",
        "SM_HPS",
        "PYTHONDONTWRITEBYTECODE",
    )
    assert environment(shell | dict.fromkeys(theirs, "x")) == shell | {"GOMP_SPINCOUNT": "1000"}
    assert environment({"GOMP_SPINCOUNT": "1"}) == {"GOMP_SPINCOUNT": "1"}


def test_the_quick_circle_is_one_suite() -> None:
    elsewhere = ("--ignore=tests/ml", "--ignore=tests/containers")
    assert chosen(["--quick"]) == [Suite("airflow", ("tests", *elsewhere, *PACE["quick"], *IN_ORDER, "--quick"))]
