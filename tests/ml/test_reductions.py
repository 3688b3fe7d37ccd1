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


TENSORS = {
    "few": lambda: torch.randn(7),
    "scales": lambda: torch.full((300,), 1.0) + 1e-4 * torch.randn(300),
    "channels last": lambda: torch.randn(64, 64, 3, 3).to(memory_format=torch.channels_last),
    "far from zero": lambda: 5 + 0.01 * torch.randn(400_000),
    "transposed": lambda: torch.randn(200, 900).t(),
    "bfloat16": lambda: torch.randn(50).bfloat16(),
}


@pytest.mark.parametrize("draw", TENSORS.values(), ids=list(TENSORS))
def test_statistics_are_exact_to_single_precision(draw):
    tensor = draw()
    names, values = reductions.reduce({"t": tensor}, ALL)
    assert names[-1] == "smdebug/reductions/abs_l2/t"
    for name, value in zip(ALL, values.tolist(), strict=True):
        assert value == pytest.approx(expected(tensor, name), rel=3e-5, abs=1e-6 + lost(tensor, name)), name


def lost(tensor, name):
    """What single precision cannot tell of a sum whose terms cancel out: it is as exact as its terms are large."""
    cancels = name in ("sum", "mean")
    return torch.finfo(torch.float32).eps * expected(tensor, f"abs_{name}") if cancels else 0


def test_a_nan_is_not_hidden():
    tensor = torch.ones(300_000)
    tensor[200_000] = float("nan")
    _, values = reductions.reduce({"t": tensor}, ALL)
    assert np.isnan(values).all()


def test_an_infinity_is_not_hidden():
    _, values = reductions.reduce({"t": torch.tensor([1.0, float("inf")])}, ("min", "max", "mean"))
    assert values.tolist() == [1.0, float("inf"), float("inf")]
