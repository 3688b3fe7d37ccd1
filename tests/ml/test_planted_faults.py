"""Every rule finds the trainings that have its fault, and no rule finds fault with a healthy one.

One seed here; `pytest -m matrix` runs ten (they are left out otherwise: tests/ml/conftest.py), and
`python -m bench.planted_faults` prints precision and recall of each rule over them.
"""

import pytest
import torch

from tests.ml.planted import FAULTS, HEALTHY, fault_verdict, healthy_statuses

PLANTED = [(rule, fault) for rule, faults in FAULTS.items() for fault in faults]
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.matrix) for seed in range(1, 10))]


@pytest.fixture(autouse=True)
def one_thread():
    """Runs that should be equal are, and small ones do not wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rule", "fault"), PLANTED, ids=[f"{rule}-{fault}" for rule, fault in PLANTED])
def test_a_fault_is_found_by_its_rule(rule, fault, seed, tmp_path):
    verdict = fault_verdict(tmp_path, rule, FAULTS[rule][fault], seed)
    assert verdict["RuleEvaluationStatus"] == "IssuesFound", verdict["StatusDetails"]
    assert {"step", "tensor", "value", "threshold"} <= verdict["Evidence"].keys()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", HEALTHY)
def test_no_rule_finds_fault_with_a_healthy_training(name, seed, tmp_path):
    verdicts = healthy_statuses(tmp_path, HEALTHY[name], seed)
    found = {rule: verdict for rule, verdict in verdicts.items() if verdict["RuleEvaluationStatus"] != "NoIssuesFound"}
    assert not found


def test_there_are_three_faults_for_every_rule():
    assert {rule for rule, faults in FAULTS.items() if len(faults) >= 3} == FAULTS.keys()
    assert len(HEALTHY) >= 5
