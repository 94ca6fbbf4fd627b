"""The generalised Gauss–Newton matrix against matrices made by hand, and losses of outputs."""

import warnings

import pytest
import torch
from cases import LOSSES, data, mlp
from torch.func import hessian, jacrev

import versatile_influence as vif
from versatile_influence.core.composed import Composed
from versatile_influence.core.ravel import ravel

composed = [case for case in LOSSES if isinstance(case.loss(), Composed) and not case.loss().outputs.identity]
every_composed = pytest.mark.parametrize("case", composed, ids=lambda case: case.name)


def ones(n):
    return torch.ones(n, dtype=torch.float64)


def by_hand(loss, params, presence):
    """JᵀBJ + λI from reverse-mode derivatives alone."""
    flat, unravel = ravel(params)
    jacobian = jacrev(lambda theta: loss.outputs(unravel(theta)).reshape(-1))(flat)
    shaped = loss.outputs(params)
    outer = jacrev(jacrev(lambda o: loss.outer(o.reshape(shaped.shape), presence)))(shaped.reshape(-1))
    return jacobian.T @ outer @ jacobian + loss.penalty * torch.eye(len(flat), dtype=flat.dtype)


def test_which_ready_losses_have_outputs():
    named = {case.name.split(",")[0] for case in composed}
    assert {"cox", "ListMLE", "softmax ranking", "RankNet", "triplets", "SimCLR", "CLIP", "SupCon"} <= named


@every_composed
def test_a_loss_is_its_outer_loss_of_its_outputs_and_a_penalty(case):
    loss, params = case.loss(), case.params()
    for absent in (None, 0, case.n_objects - 1):
        presence = ones(case.n_objects)
        if absent is not None:
            presence[absent] = 0.0
        outer = loss.outer(loss.outputs(params), presence)
        ridge = loss.penalty / 2 * ravel(params)[0].square().sum()
        torch.testing.assert_close(outer + ridge, loss(params, presence), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss.outer.removal_differences(loss.outputs(params)), loss.removal_differences(params))


@every_composed
def test_the_matrix_is_the_one_made_by_hand_and_has_no_negative_eigenvalue(case):
    loss, params = case.loss(), case.params()
    presence = ones(case.n_objects)
    presence[0] = 0.0
    expected = by_hand(loss, params, presence) + 0.1 * torch.eye(len(ravel(params)[0])).double()
    operator = vif.GaussNewton(loss, params, presence, 0.1)
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-10, atol=1e-10)
    vectors = data(9, len(expected), 3)
    torch.testing.assert_close(operator @ vectors, expected @ vectors, rtol=1e-10, atol=1e-10)
    # ApproxNDCG bends down in the scores themselves, so that J'BJ may.
    if not case.name.startswith("ApproxNDCG"):
        assert torch.linalg.eigvalsh(operator.dense()).min() >= loss.penalty + 0.1 - 1e-9


@every_composed
def test_with_linear_outputs_it_is_the_hessian(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    if not torch.allclose(loss.outputs(unravel(3 * flat)) + 0.0, 3 * loss.outputs(params)):
        pytest.skip("the outputs are not linear")
    curvature = vif.Hessian(loss, params, ones(case.n_objects)).dense()
    torch.testing.assert_close(
        vif.GaussNewton(loss, params, ones(case.n_objects)).dense(), curvature, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("case", [case for case in LOSSES if case.loss().n_terms is not None], ids=lambda c: c.name)
def test_terms_add_up_and_a_sample_of_each_once_is_the_whole(case):
    loss, params, presence = case.loss(), case.params(), ones(case.n_objects)
    presence[1] = 0.0
    parts = [loss.part(part)(params, presence) for part in torch.arange(loss.n_terms).split(2)]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(params, presence))
    kinds = [vif.Hessian]
    if isinstance(loss, Composed) and not (loss.outputs.identity and isinstance(params, dict)):
        kinds = [vif.Hessian, vif.GaussNewton]
    for kind in kinds:
        whole = kind(loss, params, presence, 0.2)
        single = [whole.sample(torch.tensor([term])).dense() for term in range(loss.n_terms)]
        torch.testing.assert_close(torch.stack(single).mean(0), whole.dense(), rtol=1e-8, atol=1e-8)


def test_a_sample_is_the_chosen_terms_scaled_up():
    x = data(1, 6, 2)
    loss = vif.losses.TermLoss(lambda theta: (x @ theta) ** 2, torch.arange(6), start=torch.zeros(2).double())
    terms = torch.tensor([1, 4])
    expected = 6 / 2 * (x[1] @ ones(2) ** 1) ** 2 + 6 / 2 * (x[4] @ ones(2)) ** 2
    sample = vif.Hessian(loss, ones(2), ones(6)).sample(terms)
    torch.testing.assert_close(sample.scale * loss.part(terms)(ones(2), ones(6)), expected)


def squares(outputs, presence):
    return (presence * (outputs[:, 0] - 1) ** 2).sum()


def test_a_network_under_a_function_is_the_loss_written_out():
    model, x = mlp(2, 1), data(3, 8, 2)
    loss = vif.losses.OutputLoss(model, x, squares, n_objects=8, penalty=0.5)
    params = loss.zeros()

    def plain(theta, presence):
        outputs = torch.func.functional_call(model, theta, (x,))
        return squares(outputs, presence) + 0.25 * sum(value.square().sum() for value in theta.values())

    presence = ones(8)
    torch.testing.assert_close(loss(params, presence), plain(params, presence))
    trained = vif.minimize(loss, params)

    def target(theta):
        return torch.func.functional_call(model, theta, (x[:2],)).reshape(-1)

    for objects in (None, [2, 5], [[0, 1], [3]]):
        ours = vif.attribute(loss, trained, target, objects=objects)
        generic = vif.attribute(plain, trained, target, objects=objects, n_objects=8)
        torch.testing.assert_close(ours.scores, generic.scores, rtol=1e-8, atol=1e-10)


def test_a_ready_loss_under_another_network_is_the_ready_loss_with_it():
    model, x = mlp(2, 1), data(1, 12, 2)
    durations, events = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]), torch.arange(12) % 3 > 0
    given = {"durations": durations, "events": events}
    plain = vif.losses.CoxLoss(x, **given, model=model, penalty=0.3)
    under = vif.losses.OutputLoss(model, x, vif.losses.CoxLoss(x, **given), penalty=0.3)
    params = plain.zeros()
    torch.testing.assert_close(under(params, ones(12)), plain(params, ones(12)))
    torch.testing.assert_close(under.removal_differences(params), plain.removal_differences(params))
    assert under.n_terms == plain.n_terms
    torch.testing.assert_close(
        under.part(torch.tensor([2]))(params, ones(12)), plain.part(torch.tensor([2]))(params, ones(12))
    )


def test_scores_with_gauss_newton_are_the_dense_formula():
    case = next(case for case in LOSSES if case.name == "cox, efron, network")
    loss = case.loss()
    params = vif.minimize(loss, case.params())
    flat, unravel = ravel(params)

    def target(theta):
        return loss.outputs(theta)[:3]

    matrix = by_hand(loss, params, ones(12))
    differences = jacrev(lambda theta: loss.removal_differences(unravel(theta)))(flat)
    gradients = jacrev(lambda theta: target(unravel(theta)))(flat)
    expected = differences @ torch.linalg.solve(matrix, gradients.T)
    for solver in (vif.Explicit(), vif.CG(rtol=1e-12)):
        ours = vif.attribute(loss, params, target, solver=solver, curvature=vif.GaussNewton)
        torch.testing.assert_close(ours.scores, expected, rtol=1e-7, atol=1e-9)
    changes = vif.parameter_changes(loss, params, curvature=vif.GaussNewton)
    torch.testing.assert_close(changes, torch.linalg.solve(matrix, differences.T).T, rtol=1e-7, atol=1e-9)
    other = vif.attribute(loss, params, target)
    assert not torch.allclose(other.scores, expected, rtol=1e-3)
    assert hessian(lambda theta: loss(unravel(theta), ones(12)))(flat).shape == matrix.shape


def test_what_cannot_be_decomposed_is_refused():
    with pytest.raises(TypeError, match=r"outer\(outputs\(params\), presence\).*OutputLoss"):
        vif.attribute(
            lambda theta, b: (b * theta**2).sum(),
            torch.zeros(1).double(),
            lambda theta: theta,
            n_objects=2,
            curvature=vif.GaussNewton,
        )


def test_networks_that_couple_rows_are_refused_in_train_mode_and_taken_in_eval_mode():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    loss = vif.losses.OutputLoss(model, data(3, 8, 2).float(), squares, n_objects=8, penalty=0.5)
    with pytest.raises(TypeError, match=r"batch normalisation `1` couples the rows.*eval\(\)"):
        vif.minimize(loss, loss.zeros(), max_steps=1)
    model.eval()
    assert torch.isfinite(loss(loss.zeros(), ones(8)))


def test_dropout_in_train_mode_is_a_random_loss():
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    loss = vif.losses.OutputLoss(model, data(3, 8, 2), squares, n_objects=8, penalty=0.5)
    with pytest.raises(ValueError, match=r"The loss is random.*\.eval\(\)"):
        vif.attribute(loss, loss.zeros(), lambda theta: theta["0.bias"][:1])


def test_an_outer_loss_must_say_its_objects_and_leave_the_penalty_to_the_network():
    model, x = mlp(2, 1), data(3, 8, 2)
    with pytest.raises(ValueError, match="pass n_objects"):
        vif.losses.OutputLoss(model, x, squares)
    with pytest.raises(ValueError, match="Give it here"):
        vif.losses.OutputLoss(model, x, vif.losses.PairwiseLoss([0], [1], penalty=1.0))
    loss = vif.losses.OutputLoss(model, x, squares, n_objects=8)
    with pytest.raises(TypeError, match="Sampling terms"):
        vif.Hessian(loss, loss.zeros(), ones(8)).sample(torch.tensor([0])) @ ones(12)[:, None]


@every_composed
def test_the_jacobian_is_the_automatic_one_and_woodbury_is_the_dense_answer(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    operator = vif.GaussNewton(loss, params, ones(case.n_objects), 0.1)
    expected = jacrev(lambda theta: loss.outputs(unravel(theta)).reshape(-1))(flat)
    torch.testing.assert_close(operator.jacobian.dense(), expected)
    rhs = data(10, len(flat), len(flat) + 2)
    rhs[:, 0] = 0.0
    solution = vif.Woodbury().solve(operator, rhs)
    torch.testing.assert_close(solution.value, torch.linalg.solve(operator.dense(), rhs), rtol=1e-7, atol=1e-9)
    assert solution.residual.max() < 1e-9
    single = vif.Woodbury(single=0).solve(operator, rhs)
    torch.testing.assert_close(single.value, solution.value, rtol=1e-3, atol=1e-3)


def test_woodbury_says_what_it_needs():
    case = next(case for case in LOSSES if case.name == "RankNet")
    loss, params = case.loss(), case.params()
    with pytest.raises(TypeError, match="GaussNewton, got Hessian"):
        vif.attribute(loss, params, lambda theta: theta, solver=vif.Woodbury())
    loss.ridge = 0.0
    with pytest.raises(ValueError, match="Add damping"):
        vif.Woodbury().solve(vif.GaussNewton(loss, params, ones(case.n_objects)), ones(2)[:, None])


def test_scores_along_many_directions_of_a_network_are_the_automatic_ones():
    case = next(case for case in LOSSES if case.name == "cox, efron, network")
    loss, params = case.loss(), case.params()
    directions = data(4, len(ravel(params)[0]), 20)
    products = loss.removal_products(params, directions)
    torch.testing.assert_close(products[:, :3], loss.removal_products(params, directions[:, :3]))


def test_gradients_of_targets_by_rows_are_the_automatic_ones():
    case = next(case for case in LOSSES if case.name == "cox, efron, network")
    loss = case.loss()
    params = vif.minimize(loss, case.params())
    x = data(5, 4, 2)
    for target in (loss.relative_risk(x), loss.log_risk(x)):
        assert target.by_row is not None
        ours = vif.attribute(loss, params, target, damping=1.0, curvature=vif.GaussNewton)
        plain = vif.attribute(loss, params, target.fn, damping=1.0, curvature=vif.GaussNewton)
        torch.testing.assert_close(ours.scores, plain.scores)


def test_a_gauss_newton_matrix_far_from_the_hessian_is_warned_of_by_how_far():
    pairs = (data(0, 12, 2) @ data(1, 16, 2).T + data(3, 12, 16)).flatten().topk(60).indices
    sizes = {"n_users": 12, "n_items": 16, "dim": 3, "negatives": 2, "penalty": 0.5}
    loss = vif.losses.MatrixFactorisationLoss(pairs // 16, pairs % 16, **sizes)
    best = vif.minimize(loss, loss.zeros())
    theta, everyone = torch.cat([part.flatten() for part in best.values()]), ones(60)

    def value(theta):
        parts = theta.split([part.numel() for part in best.values()])
        shaped = [part.reshape(best[name].shape) for name, part in zip(best, parts, strict=True)]
        return loss(dict(zip(best, shaped, strict=True)), everyone)

    matrix = vif.GaussNewton(loss, best, everyone)
    along = torch.randn(len(theta), generator=torch.Generator().manual_seed(1)).double()
    left_out = torch.func.hessian(value)(theta) @ along - matrix.dense() @ along
    null = matrix.null_space()
    left_out -= null @ (null.T @ left_out)
    expected = (left_out.norm() / (matrix.dense() @ along).norm()).item()
    assert matrix.bend(along) == pytest.approx(expected, rel=1e-8)
    target = loss.preference([(0, 8, 7), (3, 1, 2)])
    with pytest.warns(vif.UntrustedWarning, match="leaves out how the outputs bend.* differs from it by [3-9][0-9]%"):
        vif.attribute(loss, best, target, curvature=vif.GaussNewton)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vif.attribute(loss, best, target, curvature=vif.GaussNewton, check=False)
        line = vif.losses.PairwiseLoss([0, 1, 2], [1, 2, 0], penalty=1.0)
        vif.attribute(line, vif.minimize(line, line.zeros()), lambda skill: skill, curvature=vif.GaussNewton)
