import numpy as np
import pytest
import torch

from debugger import reductions

EVERY = ("min", "max", "mean", "std", "variance", "sum", "l1_norm", "l2_norm")
ALL = EVERY + tuple(f"abs_{name}" for name in EVERY)


def expected(tensor, name):
    """smdebug's definition, in double precision."""
    values = tensor.double()
    if name.startswith("abs_"):
        values, name = values.abs(), name[4:]
    if name.endswith("_norm"):
        return float(torch.linalg.vector_norm(values, ord=int(name[1])))
    return float({"variance": values.var}.get(name, getattr(values, name, None))())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(7),
        torch.full((300,), 1.0) + 1e-4 * torch.randn(300),
        torch.randn(64, 64, 3, 3).to(memory_format=torch.channels_last),
        5 + 0.01 * torch.randn(400_000),
        torch.randn(200, 900).t(),
        torch.randn(50).bfloat16(),
    ],
    ids=["few", "scales", "channels last", "far from zero", "transposed", "bfloat16"],
)
def test_statistics_are_exact_to_single_precision(tensor):
    names, values = reductions.reduce({"t": tensor}, ALL)
    assert names[-1] == "smdebug/reductions/abs_l2/t"
    assert values.tolist() == pytest.approx([expected(tensor, name) for name in ALL], rel=3e-5, abs=1e-6)


def test_a_nan_is_not_hidden():
    tensor = torch.ones(300_000)
    tensor[200_000] = float("nan")
    _, values = reductions.reduce({"t": tensor}, ALL)
    assert np.isnan(values).all()


def test_an_infinity_is_not_hidden():
    _, values = reductions.reduce({"t": torch.tensor([1.0, float("inf")])}, ("min", "max", "mean"))
    assert values.tolist() == [1.0, float("inf"), float("inf")]
