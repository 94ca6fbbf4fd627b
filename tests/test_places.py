"""What follows parameters to their device: whatever holds the tensors of a loss, and nothing that need not."""

from collections import Counter, OrderedDict, defaultdict, namedtuple
from functools import partial

import pytest
import torch
from cases import mlp

import versatile_influence as vif
from versatile_influence.core.places import moved, outside, verb

META = torch.device("meta")
Two = namedtuple("Two", ["first", "second"])


class Own(vif.Loss):
    """A loss of the user's, made in its own way."""

    n_objects = 3

    def __new__(cls, given):
        made = super().__new__(cls)
        made.made = given
        return made

    def __init__(self, given):
        self.given = given

    @property
    def made(self):
        return vars(self)["made"]

    @made.setter
    def made(self, given):
        vars(self)["made"] = given

    def __call__(self, params, presence):
        return (presence * (params - self.given)).sum()


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: {"a": 1, "x": x},
        lambda x: OrderedDict(x=x),
        lambda x: defaultdict(list, x=x),
        lambda x: [0.5, x],
        lambda x: ("x", x),
        lambda x: Two(0, x),
        lambda x: partial(torch.add, x, alpha=2),
        lambda x: Own(x),
        lambda x: Own(x).__call__,
    ],
)
def test_what_holds_a_tensor_holds_it_there(hold):
    found = moved(hold(torch.ones(2)), META)
    assert type(found) is type(hold(torch.ones(2)))
    inside = found.__self__ if hasattr(found, "__self__") else found
    parts = [*vars(inside).values()] if isinstance(inside, Own) else getattr(inside, "args", None) or inside
    leaves = [one for one in (parts.values() if isinstance(parts, dict) else parts) if isinstance(one, torch.Tensor)]
    assert leaves
    assert all(one.device == META for one in leaves)


def test_names_and_counts_are_themselves_and_what_holds_itself_does_so_there():
    names, counts = ["a", "b"], Counter("aab")
    assert moved(names, META) is names
    assert moved(counts, META) is counts
    circle = [torch.ones(1)]
    circle.append(circle)
    found = moved(circle, META)
    assert found[1] is found
    assert found[0].device == META


def test_functions_of_the_users_are_left_and_one_tensor_stays_one():
    held = torch.ones(2)
    own = lambda: held  # noqa: E731
    assert moved(own, META) is own
    twice = moved([held, {"again": held}], META)
    assert twice[0] is twice[1]["again"]
    network, there = mlp(2, 1), torch.device("cpu")
    assert moved(network, there) is network
    assert all(one.device == META for one in moved(network, META).parameters())


def test_a_verb_on_the_processor_changes_nothing_of_where_tensors_are_made():
    @verb
    def asked(loss, params):
        """Say where tensors are made."""
        return torch.zeros(1).device, outside()

    where, context = asked(None, torch.ones(1))
    assert where == torch.device("cpu")
    with context:
        assert torch.zeros(1).device == torch.device("cpu")
    # Only what holds parameters is looked at.
    assert asked(torch.ones(1, device="meta"), params=torch.ones(1))[0] == torch.device("cpu")
    assert asked.__doc__ == "Say where tensors are made."
