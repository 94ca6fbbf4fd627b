"""The smallest set that overturns a conclusion: against all sets of up to three, and Rossi's known count; by group."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from test_cox_frames import OF_R, cases

import versatile_influence as vif
from versatile_influence.losses import CoxLoss
from versatile_influence.verbs.conclusions import above, below, insignificant, sign, significant

OVARIAN = "Surv(futime, fustat) ~ age + resid + rx + ecog"


def fitted(formula: str, rows: pd.DataFrame) -> tuple[CoxLoss, torch.Tensor]:
    loss = CoxLoss.from_formula(formula, rows)
    return loss, vif.minimize(loss, loss.zeros())


def simulated(seed: int, n: int = 22) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"drug": generator.integers(0, 2, n), "age": generator.normal(size=n)})
    frame["t"] = generator.exponential(np.exp(0.5 * frame["drug"] - 0.4 * frame["age"]))
    return frame.assign(e=generator.random(n) < 0.8, site=np.arange(n) % 5)


def smallest(formula: str, rows: pd.DataFrame, conclusion, upto: int = 3) -> int | None:
    """Return the size of the smallest set without which a model fitted to the other rows alone says otherwise."""
    loss, theta = fitted(formula, rows)
    now = above_zero(conclusion, loss, theta)
    for size in range(1, upto + 1):
        sets = [list(one) for one in itertools.combinations(range(len(rows)), size)]
        if (vif.refit(loss, theta, conclusion, objects=sets).scores[:, 0] + now <= 0).any():
            return size
    return None


def above_zero(conclusion, loss, theta) -> float:
    if isinstance(conclusion, vif.PresenceTarget):
        return conclusion(theta, torch.ones(loss.n_objects).double()).item()
    return conclusion(theta).item()


def asked(loss: CoxLoss, theta: torch.Tensor, name: str, kind: str):
    now = loss.coefficients([name])(theta).item()
    z = loss.z_values([name])
    if kind == "sign":
        return sign(loss.coefficients([name]), theta)
    if kind == "significance":
        holds = abs(z(theta, torch.ones(loss.n_objects).double()).item()) > 1.959964
        return (significant if holds else insignificant)(z)
    return (above if now > 0 else below)(loss.coefficients([name]), now * (1 - float(kind)))


def held_to_all_sets(formula: str, rows: pd.DataFrame, name: str, kind: str) -> int | None:
    loss, theta = fitted(formula, rows)
    conclusion = asked(loss, theta, name, kind)
    found = vif.sensitivity(loss, theta, conclusion)
    exact = smallest(formula, rows, conclusion)
    assert (len(found) if len(found) <= 3 and found.overturned else None) == exact
    if exact:
        _, point = fitted(formula, rows.drop(index=found.names))
        # The refitted value is that of a model that never saw them.
        twin = asked(loss, theta, name, kind)
        if not isinstance(twin, vif.PresenceTarget):
            assert twin(point).item() == pytest.approx(found.without, abs=1e-8)
            assert found.without <= 0 < found.holds
    return exact


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "kind"),
    [("age", "significance"), ("age", "0.5"), ("resid", "1.25"), ("resid", "1.5"), ("rx", "sign"), ("ecog", "sign")],
)
def test_of_26_patients_the_smallest_set_of_up_to_three_is_found(name, kind):
    held_to_all_sets(OVARIAN, cases("ovarian.csv"), name, kind)


@pytest.mark.parametrize("seed", [0, 1])
def test_of_16_simulated_patients_the_smallest_set_of_up_to_three_is_found(seed):
    sizes = [
        held_to_all_sets("Surv(t, e) ~ drug + age", simulated(seed, 16).astype({"e": int}), name, kind)
        for name in ("drug", "age")
        for kind in ("sign", "significance", "0.5")
    ]
    assert {1, 2, 3} & set(sizes)


@pytest.mark.data
def test_rossi_s_sign_needs_19_where_first_order_says_24():
    case = next(case for case in OF_R if case[0] == "rossi")
    rows = cases("rossi.csv")
    loss, theta = fitted(case[2], rows)
    found = vif.sensitivity(loss, theta, sign(loss.coefficients(["fin"]), theta))
    assert (len(found), found.first_order, found.overturned) == (19, 24, True)
    _, point = fitted(case[2], rows.drop(index=found.names))
    assert point[0].item() == pytest.approx(-found.without, abs=1e-8)
    assert found.to_frame()["refitted"].iloc[-1] <= 0
    assert "overturned without 19 of 432" in repr(found)


def test_hospitals_are_removed_as_one_and_targets_of_any_kind_are_served():
    rows = simulated(3, 60).astype({"e": int})
    loss, theta = fitted("Surv(t, e) ~ drug + age", rows)
    groups = [list(members) for members in rows.groupby("site").indices.values()]
    risk = loss.survival(pd.DataFrame({"drug": [1], "age": [0.0]}), [0.5])
    now = risk(theta, torch.ones(60).double()).item()
    found = vif.sensitivity(loss, theta, above(risk, now - 0.03), objects=groups)
    each = [now - 0.03 - now - r for r in vif.refit(loss, theta, risk, objects=groups).scores[:, 0].tolist()]
    assert (len(found) == 1) == (max(each) >= 0)
    assert found.n == 5
    assert set(found.removed) <= set(range(60))
    assert len(found.removed) == 12 * len(found)


def test_subjects_go_with_all_their_rows():
    rows = simulated(4, 40).astype({"e": int}).assign(who=np.arange(40) // 2)
    loss, theta = fitted("Surv(t, e) ~ drug + age + cluster(who)", rows)
    found = vif.sensitivity(loss, theta, sign(loss.coefficients(["drug"]), theta))
    assert found.overturned
    _, point = fitted("Surv(t, e) ~ drug + age", rows[~rows["who"].isin(found.names)])
    assert abs(point[0].item()) == pytest.approx(-found.without, abs=1e-8)


def test_what_cannot_be_overturned_is_said():
    loss, theta = fitted("Surv(t, e) ~ drug + age", simulated(0).astype({"e": int}))
    found = vif.sensitivity(loss, theta, below(loss.coefficients(["age"]), 50.0), most=3)
    assert not found.overturned
    assert found.first_order is None
    assert "not overturned by removing up to" in repr(found)


@pytest.mark.parametrize(
    ("conclusion", "message"),
    [
        (lambda loss, theta: above(loss.coefficients(["age"]), 50.0), "does not hold to begin with"),
        (lambda loss, theta: loss.coefficients(), "must be one number, got 2"),
        (lambda loss, theta: sign(lambda params: params, theta), "one number with a sign"),
        (lambda loss, theta: significant(loss.z_values(["age"]), level=math.inf), "`level`"),
    ],
)
def test_what_is_no_conclusion_is_refused(conclusion, message):
    loss, theta = fitted("Surv(t, e) ~ drug + age", simulated(0).astype({"e": int}))
    with pytest.raises(ValueError, match=message):
        vif.sensitivity(loss, theta, conclusion(loss, theta))


def test_the_loss_of_those_who_are_left_is_that_of_their_rows_alone():
    from versatile_influence.core.remaining import Remaining

    rows = simulated(5, 30).astype({"e": int})
    loss, theta = fitted("Surv(t, e) ~ drug + age", rows)
    kept = torch.tensor([place for place in range(30) if place % 4])
    left, alone = Remaining(loss, kept), CoxLoss.from_formula("Surv(t, e) ~ drug + age", rows.iloc[kept.tolist()])
    vif.check_loss(left, theta)
    both = [vif.parameter_changes(one, vif.minimize(one, theta)) for one in (left, alone)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


def test_a_coefficient_that_hangs_on_one_patient_is_told_of_and_others_are_tested_on():
    from test_influence_frame import rare

    loss, theta = fitted("Surv(t, e) ~ x + rare", rare([7]))
    for name, conclusion in (
        ("rare", sign(loss.coefficients(["rare"]), theta)),
        ("rare", insignificant(loss.z_values(["rare"]))),
    ):
        found = vif.sensitivity(loss, theta, conclusion)
        assert (found.removed, found.overturned, found.first_order) == ((7,), True, 1), name
        assert math.isnan(found.without)
        assert "nothing determines it without them: 7" in str(found)
    assert 7 not in vif.sensitivity(loss, theta, significant(loss.z_values(["x"]))).removed
