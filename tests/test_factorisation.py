"""Matrix factorisation: its parts, its objects, its questions, and exact refits."""

import math

import pytest
import torch
from cases import data

import versatile_influence as vif
from versatile_influence.datasets import interactions
from versatile_influence.losses import MatrixFactorisationLoss

KINDS = ["bpr", "squared", "logistic", "softmax"]
# Of 32 interactions.
SESSIONS = [f"s{row * 5 % 11}" for row in range(32)]


def simulated(n_users=8, n_items=12, n=32, seed=0):
    """Return users and items that like each other, and ratings."""
    liking = data(seed, n_users, 3) @ data(seed + 1, n_items, 3).T
    noise = -torch.log(-torch.log(torch.rand(n_users, n_items, generator=torch.Generator().manual_seed(seed)).double()))
    pairs = (liking + noise).flatten().topk(n).indices
    return pairs // n_items, pairs % n_items, liking.flatten()[pairs]


def made(kind, objects, **given):
    users, items, ratings = simulated()
    rated = {"ratings": ratings} if kind == "squared" else {"negatives": 3}
    sizes = {"dim": 2, "penalty": 1.0, "n_users": 8, "n_items": 12}
    return MatrixFactorisationLoss(users, items, kind=kind, objects=objects, **(rated | sizes | given))


def written_out(loss, params, there, *, kind, objects, ratings=None):
    """Return the loss by loops over interactions, with only the objects there."""
    p, q, bias = params["user"], params["item"], params["item_bias"]
    factors, total = loss.factors, 0.0

    def score(user, item):
        own = params["user_bias"][user] if "user_bias" in params else 0.0
        return float(p[user] @ q[item] + bias[item] + own)

    for row, (user, (item, *beside)) in enumerate(zip(factors.users.tolist(), factors.items.tolist(), strict=True)):
        alive = (SESSIONS[row] if objects is SESSIONS else {"users": user, "items": item}.get(objects, row)) in there
        others = [j for j in beside if objects != "items" or j in there]
        if not alive:
            continue
        if kind == "squared":
            total += (score(user, item) - float(ratings[row])) ** 2 / 2
        elif kind == "softmax":
            total += math.log(sum(math.exp(score(user, j)) for j in [item, *others])) - score(user, item)
        elif kind == "bpr":
            total += sum(math.log1p(math.exp(score(user, j) - score(user, item))) for j in others)
        else:
            total += math.log1p(math.exp(-score(user, item)))
            total += sum(math.log1p(math.exp(score(user, j))) for j in others)
    return total + loss.penalty / 2 * sum(float(value.square().sum()) for value in params.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objects", ["interactions", "users", "items", SESSIONS])
def test_the_loss_is_what_loops_over_who_is_there_add_up_to(kind, objects):
    loss = made(kind, objects)
    params = {name: value + 0.5 * data(3, *value.shape) for name, value in loss.zeros().items()}
    for gone in [(), (2,), (0, 5, 7)]:
        presence = torch.ones(loss.n_objects, dtype=torch.float64)
        presence[list(gone)] = 0.0
        there = set(range(loss.n_objects)) - set(gone)
        if objects is SESSIONS:
            there = {loss.object_labels[place] for place in there}
        ratings = simulated()[2]
        right = written_out(loss, params, there, kind=kind, objects=objects, ratings=ratings)
        assert loss(params, presence).item() == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_of_items_as_objects_is_the_automatic_one(kind):
    users, items, ratings = simulated(4, 6, 9)
    rated = {"ratings": ratings} if kind == "squared" else {"negatives": 2}
    loss = MatrixFactorisationLoss(
        users, items, kind=kind, objects="items", dim=2, n_users=4, n_items=6, penalty=0.5, **rated
    )
    params = {name: value + 0.5 * data(3, *value.shape) for name, value in loss.zeros().items()}
    vif.check_loss(loss, params)


@pytest.mark.parametrize("kind", KINDS)
def test_products_with_the_hessian_of_many_parameters_are_those_of_differentiating_twice(kind):
    users, items, ratings = simulated(40, 50, 300)
    rated = {"ratings": ratings} if kind == "squared" else {"negatives": 2}
    loss = MatrixFactorisationLoss(users, items, kind=kind, dim=5, n_users=40, n_items=50, penalty=0.5, **rated)
    params = {name: value + 0.5 * data(3, *value.shape) for name, value in loss.zeros().items()}
    presence, some = data(4, 300).gt(-1).double(), data(5, sum(value.numel() for value in params.values()), 3)
    right = vif.Loss.hessian_products(loss, params, presence, some)
    assert len(some) > 400
    torch.testing.assert_close(loss.hessian_products(params, presence, some), right)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objects", ["interactions", "users", "items"])
def test_scores_taken_further_are_those_of_refits(kind, objects):
    loss = made(kind, objects, penalty=2.0)
    best = vif.minimize(loss, loss.zeros())
    users, items, _ = simulated()
    seen = set(items[users == 1].tolist())
    unseen = [item for item in range(12) if item not in seen]
    target = loss.preference([(1, unseen[0], unseen[1]), (1, unseen[2], unseen[3])])
    own = (users == 1).nonzero()[:, 0].tolist() if objects == "interactions" else [0, 2, 3]
    removed = [*own[:3], 7 if objects != "items" else int(items[users == 1][0])]
    truth = vif.refit(loss, best, target, objects=removed)
    taken = vif.attribute(loss, best, target, objects=removed, tolerance=0.02)
    kept = (truth.scores.isfinite() & taken.scores.isfinite()).all(1)
    assert kept.sum() >= 3
    pairs = torch.stack([taken.scores[kept].flatten(), truth.scores[kept].flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.99


def test_a_user_who_is_gone_leaves_factors_of_zero_and_is_no_question_about_the_user():
    loss = made("bpr", "users")
    best = vif.minimize(loss, loss.zeros())
    target = loss.preference([(4, 0, 1)])
    estimate = vif.attribute(loss, best, target, objects=[4, 5])
    changes = vif.parameter_changes(loss, best, objects=[4])[0]
    torch.testing.assert_close(changes[loss.owned(4)], -best["user"][4])
    assert target.about.tolist() == [[4]]
    # Two scores of which one is about itself leave one, of which there is no correlation.
    assert estimate.about is not None


def test_items_beside_are_drawn_without_those_had_to_do_with_each_once():
    users, items, _ = simulated()
    table = made("bpr", "interactions").factors.items
    had = {(int(user), int(item)) for user, item in zip(users, items, strict=True)}
    for user, row in zip(users.tolist(), table.tolist(), strict=True):
        assert len(set(row)) == 4
        assert not any((user, item) in had for item in row[1:])
    again, other = made("bpr", "users").factors.items, made("bpr", "users", seed=1).factors.items
    assert torch.equal(table, again)
    assert not torch.equal(table, other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "squared"}, "`ratings` go with"),
        ({"ratings": [1.0, 2.0, 3.0]}, "with them"),
        ({"kind": "squared", "ratings": [1.0, 2.0, 3.0], "negatives": 1}, "`negatives` do not go with"),
        ({"objects": ["a", "b"]}, "`objects` must hold one label an interaction: 3, got 2"),
        ({"negatives": 3}, "User 0 has had to do with all but 1 of 3 items"),
        ({"negatives": [[0], [1], [1]]}, "interaction 0 name an item twice, or one that user 0"),
        ({"n_users": 1}, "`n_users` is 1, but `users` name number 1"),
        ({"users": [], "items": []}, "There is no interaction"),
    ],
)
def test_what_does_not_go_together_is_named(given, message):
    arguments = {"users": [0, 0, 1], "items": [0, 1, 2]} | given
    with pytest.raises((ValueError, TypeError), match=message):
        MatrixFactorisationLoss(arguments.pop("users"), arguments.pop("items"), **arguments)


def test_a_question_names_users_and_items_that_there_are():
    loss = MatrixFactorisationLoss([0, 0, 1], [0, 1, 2], dim=1)
    params = {name: torch.ones_like(value) for name, value in loss.zeros().items()}
    assert loss.preference([(0, 1)])(params).tolist() == [2.0]
    assert loss.preference([(0, 1, 2)])(params).tolist() == [0.0]
    for pairs in ([(2, 0)], [(0, 3)], [], [0, 1], [(0, 1, 7)]):
        with pytest.raises((ValueError, TypeError), match="pairs"):
            loss.preference(pairs)
    with pytest.raises(TypeError, match="must be the dict"):
        loss(torch.zeros(3), torch.ones(3).double())


def test_frames_of_interactions_are_read_in_order_of_time():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"who": ["b", "a", "b"], "what": [5, 5, 6], "stars": [1, 2, 3], "at": [3.0, 1.0, 2.0]})
    found = interactions.from_frame(frame, user="who", item="what", rating="stars", time="at")
    assert (found.user_names, found.item_names) == (["a", "b"], [5, 6])
    assert (found.users.tolist(), found.items.tolist()) == ([0, 1, 1], [0, 1, 0])
    assert (found.ratings.tolist(), found.times.tolist()) == ([2.0, 3.0, 1.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="no column `user`"):
        interactions.from_frame(frame)
    with pytest.raises(ValueError, match="`who` is None in row 1: 1 of 3 rows hold no name"):
        interactions.from_frame(frame.assign(who=["a", None, "b"]), user="who", item="what")
    with pytest.raises(ValueError, match="`stars` is nan"):
        interactions.from_frame(frame.assign(stars=[1, float("nan"), 2]), user="who", item="what", rating="stars")
    # Rows are named as the frame names them, whatever the order of time.
    named = frame.assign(stars=["1", "two", "3"]).set_axis([7, 8, 9])
    with pytest.raises(ValueError, match="`stars` is 'two' in row 8: 1 of 3 rows hold no number"):
        interactions.from_frame(named, user="who", item="what", rating="stars", time="at")
    with pytest.raises(ValueError, match="no rows"):
        interactions.from_frame(frame[:0], user="who", item="what")
    with pytest.raises(TypeError, match="`frame` must be"):
        interactions.from_frame({"user": [1]})


def test_factors_in_another_order_are_refused():
    loss = vif.losses.MatrixFactorisationLoss([0, 0, 1], [0, 1, 2], dim=2, penalty=0.7)
    params = loss.zeros()
    turned = {name: params[name] for name in reversed(params)}
    with pytest.raises(ValueError, match="in that order"):
        loss.gradient(turned, torch.ones(3, dtype=torch.float64))
