"""The estimated error of each removal, the ladder that mends it, and the minima that both stand on."""

from dataclasses import replace

import networkx as nx
import pytest
import torch
from cases import data, mlp

import versatile_influence as vif
from versatile_influence.core import sizes
from versatile_influence.losses import CoxLoss, Linear, Logistic, TermLoss, WalkEmbeddingLoss
from versatile_influence.verbs.trust import Scale


def regression(outlier: bool = True):
    """Return logistic regression on 60 rows, one of which may be far out with the wrong answer; loss, θ, target."""
    x = data(0, 60, 3)
    y = (x @ torch.tensor([1.0, -1.0, 0.5]).double() + data(1, 60) > 0).double()
    if outlier:
        x[7], y[7] = 20 * torch.tensor([1.0, -1.0, 0.5]), 0.0
    loss = TermLoss(Logistic(y), range(60), outputs=Linear(x), penalty=0.5)
    test = data(2, 5, 3)
    return loss, vif.minimize(loss, loss.zeros()), lambda theta: test @ theta


def true_errors(scores, truth):
    return Scale.of(truth.scores).errors(scores.scores, truth.scores)


def florentine():
    which = nx.florentine_families_graph()
    loss = WalkEmbeddingLoss(which, length=6, window=3, dim=2, penalty=0.1)
    return loss, vif.minimize(loss, loss.start()), loss.pair_losses([("Medici", "Strozzi"), ("Albizzi", "Pazzi")])


def test_the_estimated_error_is_the_true_one_where_the_loss_is_convex():
    loss, theta, target = regression()
    scores, truth = vif.attribute(loss, theta, target), vif.refit(loss, theta, target)
    true = true_errors(scores, truth)
    assert scores.error[7] > sizes.WRONG
    assert true[7] > sizes.WRONG
    assert vif.spearman(scores.error[:, None], true[:, None]).item() > 0.99
    assert true[scores.trusted].max() < 0.25
    assert scores.trusted.tolist() == (~(scores.error > sizes.TRUSTED)).tolist()


def test_what_is_wrong_is_told_in_one_line_that_names_it():
    loss, theta, target = regression()
    scores = vif.attribute(loss, theta, target)
    assert "The worst is the one of 7" in scores.trust()
    assert "tolerance" in scores.trust()
    assert repr(scores) == f"Attribution(60 removals × 5 targets; {scores.trust()})"
    with pytest.warns(UserWarning, match=r"The worst is the one of 7, with an estimated error of .*tolerance=0.1"):
        vif.attribute(loss, theta, target)
    assert "Not checked: " in vif.attribute(loss, theta, target, check=False).trust()


def test_a_tolerance_takes_what_exceeds_it_up_the_ladder_and_nothing_else():
    loss, theta, target = regression()
    mended, truth = vif.attribute(loss, theta, target, tolerance=0.02), vif.refit(loss, theta, target)
    plain = vif.attribute(loss, theta, target, check=False)
    assert set(mended.rung) >= {"attribute", "chord"}
    assert (mended.error <= 0.02).all()
    assert true_errors(mended, truth).max() < 0.03
    kept = [row for row, rung in enumerate(mended.rung) if rung == "attribute"]
    assert torch.equal(mended.scores[kept], plain.scores[kept])


def test_on_a_graph_of_hubs_the_ladder_reaches_the_refits():
    loss, theta, target = florentine()
    with pytest.warns(UserWarning, match="are trusted to"):
        plain = vif.attribute(loss, theta, target)
    mended, truth = vif.attribute(loss, theta, target, tolerance=0.1), vif.refit(loss, theta, target)
    assert true_errors(plain, truth).median() > 0.3
    assert true_errors(mended, truth).max() < 0.3
    assert vif.agreement(mended, truth).pooled_pearson > 0.99 > vif.agreement(plain, truth).pooled_pearson
    assert "descend" in mended.rung


@pytest.mark.parametrize("objects", [[3, 7], [[3, 7], [1, 2]]])
def test_groups_and_targets_of_presence_are_judged_too(objects):
    loss, theta, _ = regression()
    target = vif.PresenceTarget(lambda params, presence: params * presence[:30].sum())
    found = vif.attribute(loss, theta, target, objects=objects, tolerance=0.02)
    truth = vif.refit(loss, theta, target, objects=objects)
    assert true_errors(found, truth).max() < 0.03
    torch.testing.assert_close(found.direct + found.parameter, found.scores)


def test_without_a_check_nothing_is_known_and_of_many_removals_a_sample_is_checked(monkeypatch):
    loss, theta, target = regression(outlier=False)
    assert vif.attribute(loss, theta, target, check=False).error.isnan().all()
    from versatile_influence.verbs import ladder

    monkeypatch.setattr(ladder, "CHECKED_NUMBERS", 100)
    monkeypatch.setattr(ladder, "SAMPLED_NUMBERS", 12 * 60)
    found = vif.attribute(loss, theta, target)
    checked = ~found.error.isnan()
    assert checked.sum() == 12
    assert checked[(found.scores / Scale.of(found.scores).unit).abs().amax(1).argmax()]
    assert "of 12 removals checked are trusted" in found.trust()
    assert "The other 48 were not checked." in found.trust()
    assert found.verdicts().count("not checked") == found.to_frame(error=True)["verdict"].eq("not checked").sum() == 48
    again = vif.attribute(loss, theta, target)
    assert torch.equal(~again.error.isnan(), checked)
    assert not vif.attribute(loss, theta, target, check="all").error.isnan().any()
    monkeypatch.setattr(ladder, "SAMPLED_NUMBERS", 0)
    assert (~vif.attribute(loss, theta, target).error.isnan()).sum() == sizes.LEAST_CHECKED


def test_a_removal_that_does_nothing_is_not_wrong():
    with pytest.warns(UserWarning, match="in no term"):
        loss = vif.losses.PairwiseLoss([0, 1], [1, 2], n_objects=3, incidence=[[0], [1]], penalty=1.0)
    theta = vif.minimize(loss, loss.zeros())
    assert vif.attribute(loss, theta, lambda theta: theta).error[2] == 0


def test_what_is_retrained_has_no_error_and_what_failed_has_none_that_is_known():
    loss, theta, target = regression()
    assert vif.refit(loss, theta, target, objects=[1, 7]).error.tolist() == [0.0, 0.0]
    fit = lambda presence: vif.minimize(loss, theta, presence)  # noqa: E731
    assert vif.leave_one_out(fit, target, n_objects=60, objects=[1], progress=False).error.tolist() == [0.0]


@pytest.mark.filterwarnings("ignore:Without the object, the Hessian is not positive definite")
def test_a_newton_step_is_shortened_until_the_loss_falls_and_knows_its_error():
    x = torch.tensor([0.0, 30.0]).double()
    loss = lambda theta, presence: (presence * torch.log1p((x - theta).square())).sum() + 1e-3 * theta.square()  # noqa: E731
    theta = vif.minimize(loss, torch.tensor(0.1), n_objects=2)
    step = vif.newton_step(loss, theta, lambda theta: theta, n_objects=2, objects=[0])
    without = torch.tensor([0.0, 1.0]).double()
    assert loss(theta + step.scores[0, 0], without) < loss(theta, without)


def test_newton_and_descent_estimate_their_own_errors():
    loss, theta, target = regression(outlier=False)
    truth = vif.refit(loss, theta, target)
    for verb in (vif.newton_step, vif.descend):
        found = verb(loss, theta, target)
        assert true_errors(found, truth).max() < 0.1
        assert (found.error - true_errors(found, truth)).abs().max() < 0.05


def test_errors_and_rungs_are_saved(tmp_path):
    loss, theta, target = regression()
    mended = vif.attribute(loss, theta, target, tolerance=0.02)
    mended.save(tmp_path / "scores.npz")
    again = vif.Attribution.load(tmp_path / "scores.npz")
    assert torch.equal(again.error, mended.error)
    assert list(again.rung) == list(mended.rung)


def test_a_spot_check_refits_a_few_of_every_size_and_says_how_well_they_agree():
    loss, theta, target = regression(outlier=False)
    scores = vif.attribute(loss, theta, target)
    found = vif.spot_check(scores, loss, theta, target, k=12)
    truth = vif.refit(loss, theta, target, objects=found.estimate.objects)
    torch.testing.assert_close(found.truth.scores, truth.scores)
    assert len(found.error) == 12
    assert found.correlation.low <= found.correlation.value <= found.correlation.high
    assert found.correlation.value > 0.98
    assert 0.9 < found.slope.value < 1.3
    assert "12 removals refitted: correlation 0.9" in str(found)
    assert found.jumps == ()


def test_a_spot_check_names_trusted_removals_that_led_to_another_minimum():
    loss, theta, target = regression(outlier=False)
    scores = vif.attribute(loss, theta, target)
    wrong = scores.scores.clone()
    wrong[4] *= -1
    lied = vif.Attribution(wrong, scores.objects, n_objects=60, error=torch.zeros(60))
    assert vif.spot_check(lied, loss, theta, target, k=60).jumps == ("4",)


FALLING = {
    "a quadratic turned over": lambda theta, presence: -(presence.sum() * theta @ theta),
    "a saddle": lambda theta, presence: presence.sum() * (theta[0] ** 2 - theta[1] ** 2),
    "a linear loss": lambda theta, presence: presence.sum() * theta.sum(),
    "minus an exponential": lambda theta, presence: -presence.sum() * theta.exp().sum(),
}


@pytest.mark.parametrize("start", [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
@pytest.mark.parametrize("loss", FALLING.values(), ids=FALLING)
def test_a_loss_that_falls_forever_has_no_minimum(loss, start):
    with pytest.raises(vif.NoMinimumError):
        vif.minimize(loss, torch.tensor(start), n_objects=3)


@pytest.mark.parametrize("size", [2, 500, 3000])
def test_a_saddle_and_a_maximum_are_left(size):
    wells = lambda theta, presence: presence.sum() * (theta.square() - 1).square().sum()  # noqa: E731
    found = vif.minimize(wells, torch.zeros(size), n_objects=3)
    torch.testing.assert_close(found.abs(), torch.ones(size).double(), rtol=0, atol=1e-6)


# In one number u of all parameters: a saddle at 0 where gradient and curvature vanish, and the minimum beyond.
LEVEL = {
    "a cubic": (lambda u: u**3 + u**4, -0.75),
    "a fifth power": (lambda u: u**5 + u**6, -5 / 6),
    "a fourth power turned over": (lambda u: u**6 - u**4, (2 / 3) ** 0.5),
}


@pytest.mark.parametrize("start", [0.5, 0.0])
@pytest.mark.parametrize("size", [1, 2, 500])
@pytest.mark.parametrize(("curve", "end"), LEVEL.values(), ids=LEVEL)
def test_a_saddle_without_any_curvature_is_left_for_the_minimum_beyond(curve, end, size, start):
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))[0]

    def loss(theta, presence):
        turned = turn @ theta
        return presence.sum() * (curve(turned[0]) + turned[1:].square().sum())

    found = turn @ vif.minimize(loss, turn.T @ torch.full((size,), start).double(), n_objects=3)
    assert curve(found[0]).item() == pytest.approx(curve(torch.tensor(end).double()).item(), abs=1e-8)
    assert found[1:].norm() < 1e-4


@pytest.mark.parametrize("size", [1, 500])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_cubic_has_no_minimum_and_a_fourth_power_has_one(size, start):
    with pytest.raises(vif.NoMinimumError):
        vif.minimize(
            lambda theta, presence: presence.sum() * theta.pow(3).sum(), torch.full((size,), start), n_objects=3
        )
    found = vif.minimize(
        lambda theta, presence: presence.sum() * theta.pow(4).sum(), torch.full((size,), start), n_objects=3
    )
    assert found.abs().max() < 1e-3


SLOW = {
    "an exponential": lambda theta: torch.exp(-theta).sum(),
    "one over a line": lambda theta: (1 / (1 + torch.nn.functional.softplus(theta))).sum(),
    "a logarithm": lambda theta: -torch.log1p(theta.square()).sum(),
}


@pytest.mark.parametrize("curve", SLOW.values(), ids=SLOW)
def test_a_slow_fall_of_many_parameters_is_no_minimum(curve):
    with pytest.raises(vif.NoMinimumError, match="still falls|keeps falling"):
        vif.minimize(lambda theta, presence: presence.sum() * curve(theta), torch.full((500,), 0.5), n_objects=3)


def test_separated_classes_have_no_minimum_in_many_parameters_either():
    x = data(0, 100, 500)
    y = (x[:, 0] > 0).double()
    loss = TermLoss(Logistic(y), range(100), outputs=Linear(x))
    with pytest.raises(vif.NoMinimumError, match="separation"):
        vif.minimize(lambda theta, presence: loss(theta, presence), loss.zeros(), n_objects=100)


def test_a_network_that_starts_at_a_saddle_is_trained():
    x, y = data(0, 30, 2), data(1, 30)
    model = mlp(2, 1)
    loss = vif.losses.OutputLoss(
        model, x, lambda out, presence: (presence * (out[:, 0] - y).square()).sum(), n_objects=30, penalty=0.01
    )
    zeros = {name: torch.zeros_like(value) for name, value in loss.zeros().items()}
    everyone = torch.ones(30).double()
    assert loss(vif.minimize(loss, zeros), everyone) < loss(zeros, everyone) - 1


def test_the_default_check_of_the_papers_cox_model_sees_every_patient():
    x = data(3, 80, 2)
    loss = CoxLoss(x, torch.arange(80) % 23 + 1, torch.arange(80) % 3 > 0, penalty=0.1)
    found = vif.attribute(loss, vif.minimize(loss, loss.zeros()), loss.relative_risk(x[:5]))
    assert not found.error.isnan().any()


def test_a_removal_without_a_minimum_is_failed_by_the_ladder_and_condemns_no_other():
    x = torch.tensor([-2, -1.5, -1, -0.5, 0.4, 1, 1.5, 2, 0.6, 2.2]).double()
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 1]).double()
    loss = TermLoss(Logistic(y), range(10), outputs=Linear(torch.stack([x, torch.ones(10).double()], 1)))
    theta = vif.minimize(loss, loss.zeros())
    mended = vif.attribute(loss, theta, lambda theta: theta, tolerance=0.1)
    separated = sorted(mended.failed)
    assert separated == sorted(vif.refit(loss, theta, lambda theta: theta).failed)
    assert mended.scores[separated].isnan().all()
    assert [mended.rung[row] for row in separated] == ["refit"] * len(separated)
    found = vif.spot_check(mended, loss, theta, lambda theta: theta)
    assert found.jumps == ()
    assert found.error.nan_to_num(0.0).max() < 0.2


def test_a_refit_ends_where_the_loss_is_not_finite_without_an_object():
    centre = torch.arange(4).double()
    loss = lambda theta, presence: (presence * (theta - centre) ** 2).sum() / (presence[1] + presence[2] - 1)  # noqa: E731
    found = vif.refit(loss, torch.tensor([1.5]).double(), lambda theta: theta, n_objects=4, objects=[1, 3])
    assert list(found.failed) == [0]
    assert found.scores[0].isnan().all()
    assert found.scores[1].isfinite().all()


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_errors_do_not_depend_on_the_size_of_the_target(size):
    loss, theta, target = regression()
    plain = vif.attribute(loss, theta, target)
    scaled = vif.attribute(loss, theta, lambda theta: size * target(theta))
    torch.testing.assert_close(scaled.error, plain.error, rtol=1e-6, atol=1e-9)


def test_some_of_a_result_is_taken_by_rows_or_by_what_is_wanted():
    loss, theta, target = regression(outlier=False)
    groups = vif.attribute(loss, theta, target, objects=[[0, 1], [2, 3, 4], [5]])
    assert groups.part(torch.tensor([True, False, True])).objects == ((0, 1), (5,))
    assert groups.part([2, 0]).objects == ((5,), (0, 1))
    assert groups.part(groups.trusted).objects == groups.objects


def test_the_column_of_errors_takes_no_name_of_a_target():
    loss, theta, target = regression(outlier=False)
    named = vif.LabelledTarget(target, ["error", "estimated error", "c", "d", "e"])
    frame = vif.attribute(loss, theta, named).to_frame(error=True)
    assert list(frame) == ["error", "estimated error", "c", "d", "e", "estimated error_", "verdict"]


@pytest.mark.parametrize("k", [1, 2, 9, 10])
def test_few_refits_have_no_correlation_or_no_interval_and_say_no_nan(k):
    x = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2  # noqa: E731
    scores = vif.attribute(loss, x.mean(), lambda theta: theta, n_objects=30)
    check = vif.spot_check(scores, loss, x.mean(), lambda theta: theta, k=k)
    said = str(check)
    assert said.startswith(f"{k} removal{'s' * (k > 1)} refitted: ")
    assert "nan" not in said
    assert ("correlation" in said, " to " in said) == (k > 2, k > 9)
    assert torch.isnan(torch.tensor(check.correlation.low)) == (k < 10)


def test_a_way_past_a_saddle_is_gone_to_its_end():
    # On the way without Marius a step is half of the last, and changes the target by a hundredth: the answer is far.
    characters = nx.les_miserables_graph()
    names = {"model": vif.losses.NegativeSampling()}
    loss = vif.losses.WalkEmbeddingLoss(characters, length=6, window=3, dim=4, penalty=1.0, **names)
    params, target = vif.minimize(loss, loss.start()), loss.link_scores([("Valjean", "Javert")])
    order = [*characters]
    chosen = [order.index(name) for name in ("Marius", "Fauchelevent", "MmeThenardier", "MmeBurgon")]
    found = vif.attribute(loss, params, target, objects=chosen, tolerance=0.1)
    exact = vif.refit(loss, params, target, objects=chosen).scores
    assert exact[0, 0] > 0.2
    assert ((found.scores - exact).abs() < 0.05 * exact.abs().max()).all()


def test_what_was_not_checked_is_not_called_trusted_and_wrong():
    characters = nx.les_miserables_graph()
    loss = vif.losses.WalkEmbeddingLoss(characters, length=6, window=3, dim=4, penalty=1.0)
    params, target = vif.minimize(loss, loss.start()), loss.link_scores([("Valjean", "Javert")])
    scores = vif.attribute(loss, params, target, objects=range(6), check=False)
    moved = replace(scores, scores=scores.scores + 1)
    checked = vif.spot_check(moved, loss, params, target, k=6)
    assert checked.error.max() > 0.5
    assert checked.jumps == ()
    assert "(too few for intervals), relative error" in str(checked)
