"""What to explain about a graph network: probabilities of classes and links, and losses of test nodes.

A target sees one of two graphs: the one of everybody ("fixed"), so that an object acts through training alone, or the
one that is left ("without"), as the model without it would see, and the score has a direct part too.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from versatile_influence.core.checks import one_of, told, whole
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.tables import flags, whole_numbers
from versatile_influence.core.target import LabelledTarget, PresenceTarget
from versatile_influence.losses.graphs.network_terms import Passing, Reading

Which = Literal["fixed", "without"]


class NetworkTargets:
    """Targets of a loss of a graph network."""

    passing: Passing
    node_labels: Sequence[Hashable]
    classes: Int[Tensor, " n"] | None
    n_objects: int
    reading: Reading

    def class_probabilities(
        self, nodes: object, *, of: int | None = None, graph: Which = "fixed"
    ) -> LabelledTarget | PresenceTarget:
        """Return the probability of each node's own class, or of class `of`: the softmax of its outputs.

        Args:
            nodes: Numbers of the nodes, or a mask of them.
            of: A class; None for the one that the data say.
            graph: What it is evaluated on: "fixed", the graph of everybody, or "without", that without the object.

        Raises:
            ValueError: If there is no such node, or no class is known.
        """
        asked, count = node_numbers(nodes, len(self.node_labels), "nodes"), self.passing.width
        if of is not None:
            known = torch.full_like(asked, whole(of, "of", most=count - 1))
        elif self.classes is None:
            raise ValueError("The data know no classes `y`. Name the class: of=….")
        else:
            known = class_numbers(self.classes, asked, count)
        labels = [f"{self.node_labels[v]}: class {c}" for v, c in zip(asked.tolist(), known.tolist(), strict=True)]
        return self._target(Reading(asked[:, None], known, _probability), labels, graph)

    def link_probabilities(self, pairs: object, *, graph: Which = "fixed") -> LabelledTarget | PresenceTarget:
        """Return the probability of a link between two nodes: the logistic function of ⟨z_u, z_v⟩.

        Args:
            pairs: (t, 2) numbers of the nodes.
            graph: As in `class_probabilities`.
        """
        asked = whole_numbers(pairs, "pairs", shape=[None, 2], most=len(self.node_labels) - 1)
        labels = [f"{self.node_labels[u]},{self.node_labels[v]}" for u, v in asked.tolist()]
        return self._target(Reading(asked, torch.ones(len(asked)), _linked), labels, graph)

    def node_losses(self, nodes: object, *, graph: Which = "fixed") -> LabelledTarget | PresenceTarget:
        """Return the loss at each of these nodes, by the loss's own criterion and the classes that the data say.

        Args:
            nodes: Numbers of the nodes, or a mask of them.
            graph: As in `class_probabilities`.
        """
        reading = self._of_nodes(nodes)
        return self._target(reading, [self.node_labels[v] for v in reading.nodes[:, 0].tolist()], graph)

    def test_loss(self, nodes: object, *, graph: Which = "fixed") -> LabelledTarget | PresenceTarget:
        """Return the mean of `node_losses`, one number."""
        return self._target(self._of_nodes(nodes), ["test loss"], graph, mean=True)

    def _of_nodes(self, nodes: object) -> Reading:
        asked = node_numbers(nodes, len(self.node_labels), "nodes")
        if self.classes is None or self.reading.nodes.shape[1] != 1:
            raise ValueError("This loss is one of links. Ask for link_probabilities, or write the target by hand.")
        whole_classes = self.reading.criterion is class_losses
        known = class_numbers(self.classes, asked, self.passing.width) if whole_classes else self.classes[asked]
        return Reading(asked[:, None], known, self.reading.criterion)

    def _target(
        self, reading: Reading, labels: Sequence[object], graph: Which, *, mean: bool = False
    ) -> LabelledTarget | PresenceTarget:
        one_of(graph, "graph", ["fixed", "without"])
        about = None if mean or self.passing.objects in ("edges", "labels") else reading.nodes
        numbers = Numbers(self.passing, reading, self.n_objects, mean=mean)
        if graph == "fixed":
            return LabelledTarget(numbers.fixed, labels, about=about)
        return PresenceTarget(numbers, labels, about=about)


@dataclass(frozen=True, eq=False)
class Numbers:
    """What is read off the outputs, each by itself or their mean.

    Attributes:
        passing: The network on its graph.
        reading: What is read.
        n_objects: How many objects there are.
        mean: Whether their mean is asked for.
    """

    passing: Passing
    reading: Reading
    n_objects: int
    mean: bool

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " t"]:
        values = self.reading(self.passing(params, presence), self.reading.every)
        return values.mean()[None] if self.mean else values

    def fixed(self, params: Params) -> Float[Tensor, " t"]:
        """Return the numbers on the graph of everybody."""
        return self(params, flat(params).new_ones(self.n_objects))


def node_numbers(nodes: object, n: int, name: str) -> Int[Tensor, " t"]:
    """Return numbers of nodes, given as such or as a mask of all.

    Raises:
        TypeError: If they are neither.
        ValueError: If there is none, one is no node, or one is named twice.
    """
    try:
        given = torch.as_tensor(nodes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be numbers of nodes, or a mask of all {n}, got {told(nodes)}.") from error
    found = flags(given, name, n).nonzero()[:, 0] if given.dtype == torch.bool else given
    if not found.numel():
        raise ValueError(f"`{name}` names no node. Give their numbers, or a mask with some true.")
    found = whole_numbers(found, name, shape=[None], most=n - 1)
    each, counts = found.unique(return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"`{name}` names node {int(each[counts > 1][0])} twice. Name each once.")
    return found


def class_numbers(y: Tensor, nodes: Int[Tensor, " t"], count: int) -> Int[Tensor, " t"]:
    """Return the classes of these nodes, of so many outputs; what the data say of other nodes, such as −1, may be any.

    Raises:
        TypeError: If they are no whole numbers.
        ValueError: If one is no class.
    """
    if y.is_floating_point():
        raise TypeError(f"`y` holds classes as whole numbers, got {y.dtype}: y.long(), or a criterion for others.")
    found = whole_numbers(y[nodes].long() if y.dtype == torch.bool else y[nodes], "y", shape=[None], least=-(2**62))
    if len(bad := ((found < 0) | (found >= count)).nonzero()):
        place = int(bad[0, 0])
        raise ValueError(
            f"`y` of node {int(nodes[place])} is {int(found[place])}, and the network has {count} outputs: classes are "
            f"0 to {count - 1}. Leave nodes without a label out of `train`, or pass a criterion for other labels."
        )
    return found


def class_losses(outputs: Float[Tensor, "t c"], classes: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Return the cross-entropy of each row."""
    return cross_entropy(outputs, classes, reduction="none")


def link_losses(outputs: Float[Tensor, "t 2 c"], linked: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Return the binary cross-entropy of each pair, whose score is ⟨z_u, z_v⟩."""
    score = (outputs[:, 0] * outputs[:, 1]).sum(-1)
    return softplus(score) - linked * score


def _probability(outputs: Float[Tensor, "t c"], classes: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    return torch.softmax(outputs, dim=1).gather(1, classes[:, None])[:, 0]


def _linked(outputs: Float[Tensor, "t 2 c"], linked: Tensor) -> Float[Tensor, " t"]:  # noqa: ARG001
    return torch.sigmoid((outputs[:, 0] * outputs[:, 1]).sum(-1))
