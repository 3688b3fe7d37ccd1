"""What a step of a training frees is there for the next one."""

import subprocess
import sys
from pathlib import Path

import pytest

ML = Path(__file__).parents[2] / "ml"
STEPS = """
import resource, sys, torch
from training.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    gradients = [torch.ones(size) for size in (2**20, 2**24, 3 * 2**20)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def page_faults(how):
    """Of each step, which takes 80 MB: 20,000 pages."""
    done = subprocess.run([sys.executable, "-c", STEPS, how], cwd=ML, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_step_takes_the_pages_of_the_one_before():
    assert 5 * page_faults("kept") < page_faults("given back")
