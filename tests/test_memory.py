"""What does not fit in memory is refused at once, and what ran out names the budget or another solver."""

import time

import pytest
import torch
from cases import data

import versatile_influence as vif
from versatile_influence.core.memory import available, check_room
from versatile_influence.core.words import errors_named


def wide():
    """Return a quadratic loss of many parameters, of which three are outputs."""
    terms = lambda outputs: (outputs - 1) ** 2 / 2  # noqa: E731
    return vif.losses.TermLoss(terms, range(3), outputs=lambda params: params[:3], penalty=1.0)


@pytest.mark.parametrize("curvature", [vif.Hessian, vif.GaussNewton])
def test_a_dense_hessian_of_half_a_million_parameters_is_refused_in_an_instant(curvature):
    theta = torch.zeros(500_000, dtype=torch.float64)
    theta[:3] = 0.5
    scores = vif.attribute(wide(), theta, lambda theta: theta[:2], solver=vif.CG(), curvature=curvature).scores
    assert scores[0].tolist() == pytest.approx([-0.25, 0.0])
    began = time.perf_counter()
    with pytest.raises(MemoryError, match=r"500,000 × 500,000.*6e\+03 GB.*No memory budget helps.*vif.CG"):
        vif.attribute(wide(), theta, lambda theta: theta[:2], solver=vif.Explicit(), curvature=curvature)
    assert time.perf_counter() - began < 2


def test_targets_whose_gradients_do_not_fit_are_refused():
    theta = torch.zeros(2_000_000, dtype=torch.float64)
    with pytest.raises(MemoryError, match=r"gradients of 1,000,000 targets.*fewer targets.*memory_budget"):
        vif.attribute(wide(), theta, lambda theta: theta[:1_000_000], solver=vif.CG())


@pytest.mark.parametrize("verb", ["attribute", "newton_step", "parameter_changes"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
    ids=["processor", "GPU"],
)
def test_memory_that_runs_out_names_the_budget(verb, error):
    x = data(1, 5)

    def loss(theta, presence):
        return (presence * (x - theta) ** 2).sum() / 2

    class Starved(vif.solvers.Solver):
        def solved(self, hessian, rhs):
            raise error

    def target(theta):
        if verb == "newton_step":
            raise error
        return theta

    call = getattr(vif, verb)
    arguments = [] if verb == "parameter_changes" else [target]
    given = {} if verb == "newton_step" else {"solver": Starved()}
    with pytest.raises(MemoryError, match=r"vif.memory_budget.*vif.CG.*PyTorch said: .*llocate"):
        call(loss, x.mean(), *arguments, n_objects=5, **given)


def test_memory_that_really_runs_out_is_named():
    with pytest.raises(MemoryError, match="memory_budget"), errors_named():
        torch.empty(2**50, dtype=torch.float64)


def test_other_errors_pass_and_room_is_measured_in_bytes():
    with pytest.raises(RuntimeError, match="something else"), errors_named():
        raise RuntimeError("something else")
    free = available(torch.device("cpu"))
    assert free is not None
    check_room(free // 10, torch.zeros(1, dtype=torch.float32), what="This", instead="")
    with pytest.raises(MemoryError, match=r"This would need about .* GB.*Do that"):
        check_room(free, torch.zeros(1, dtype=torch.float32), what="This", instead="Do that.")
    assert available(torch.device("meta")) is None
