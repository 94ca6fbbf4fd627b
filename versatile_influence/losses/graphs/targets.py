"""What to explain about an embedding: losses, links, similarities and classes of nodes."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import listed, number, told
from versatile_influence.core.labels import position
from versatile_influence.core.sizes import LOGISTIC_STEPS
from versatile_influence.core.target import LabelledTarget, PresenceTarget
from versatile_influence.losses.graphs.context_models import Embeddings, log_normalisers

Pairs = Iterable[Sequence[Hashable]]


class EmbeddingTargets:
    """Targets of a loss whose parameters are an embedding and an output row for each node."""

    node_labels: Sequence[Hashable]

    def pair_losses(self, pairs: Pairs | None = None) -> LabelledTarget:
        """Return the contrastive loss of pairs (u, v): −log softmax of v as context of u, over all nodes.

        Args:
            pairs: Names of the nodes; None for all n² pairs, row by row.

        The paper's target for node embedding (Section 5). The removed node stays among the negatives, with the
        parameters it had: so no score comes from its leaving the sum. `present_pair_losses` takes it out.
        """
        chosen, labels = self._pairs(pairs)
        return LabelledTarget(partial(_pair_losses, presence=None, pairs=chosen), labels, about=chosen.T)

    def present_pair_losses(self, pairs: Pairs | None = None) -> PresenceTarget:
        """Return the same with the softmax over nodes that are present, and v itself.

        What the model without the node would report. The score has a direct part, the negative that is gone. That of
        a removed u is about an embedding that training no longer determines.
        """
        chosen, labels = self._pairs(pairs)
        return PresenceTarget(partial(_pair_losses, pairs=chosen), labels, about=chosen.T)

    def link_scores(self, pairs: Pairs | None = None) -> LabelledTarget:
        """Return ⟨e_u, o_v⟩ less its mean over all nodes v: the log-odds of a link against a typical node.

        The mean is taken off because softmax losses do not determine it.
        """
        chosen, labels = self._pairs(pairs)
        centre, context = chosen

        def link_scores(params: Embeddings) -> Tensor:
            centred = params["output"] - params["output"].mean(dim=0)
            return (params["embedding"][centre] * centred[context]).sum(dim=1)

        return LabelledTarget(link_scores, labels, about=chosen.T)

    def cosine_similarities(self, pairs: Pairs | None = None) -> LabelledTarget:
        """Return the cosine between embeddings; determined by training only with a penalty."""
        chosen, labels = self._pairs(pairs)
        first, second = chosen

        def cosines(params: Embeddings) -> Tensor:
            unit = params["embedding"] / params["embedding"].norm(dim=1, keepdim=True)
            return (unit[first] * unit[second]).sum(dim=1)

        return LabelledTarget(cosines, labels, about=chosen.T)

    def class_probabilities(
        self, classes: Mapping[Hashable, int], *, of: Iterable[Hashable] | None = None, ridge: float = 1.0
    ) -> LabelledTarget:
        """Return the probability of class 1 by a logistic regression that is fitted on the embedding.

        The fit is part of the target: it follows the embedding, as it would after retraining.

        Args:
            classes: 0 or 1 for each node that the regression is fitted on.
            of: The nodes whose probability is wanted; None for all.
            ridge: λ in (λ/2)‖β‖² of the regression, intercept left out; positive, so that it has a solution.

        Raises:
            ValueError: If a class is neither 0 nor 1, a node is unknown, or `ridge` is not positive.
        """
        # Separable classes have no other fit.
        ridge = number(ridge, "ridge", above=0)
        if not isinstance(classes, Mapping) or not classes:
            raise TypeError(f"`classes` must be a dict from nodes to 0 or 1, got {told(classes)}.")
        if bad := [name for name, kind in classes.items() if kind not in (0, 1)]:
            raise ValueError(f"The class of node {bad[0]!r} is {classes[bad[0]]!r}. Classes are 0 or 1.")
        fitted = torch.tensor([self._node(name) for name in classes])
        kinds = torch.tensor([float(kind) for kind in classes.values()], dtype=torch.float64)
        names = list(self.node_labels) if of is None else listed(of, "of", "names")
        asked = torch.tensor([self._node(name) for name in names])

        def probabilities(params: Embeddings) -> Tensor:
            features = params["embedding"]
            inputs = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
            beta = _logistic_fit(inputs[fitted], kinds.to(features), ridge)
            return torch.sigmoid(inputs[asked] @ beta)

        return LabelledTarget(probabilities, [str(name) for name in names], about=asked[:, None])

    def _node(self, name: Hashable) -> int:
        return position(name, self.node_labels, "node")

    def _pairs(self, pairs: Pairs | None) -> tuple[Int[Tensor, "2 t"], list[str]]:
        """Return the numbers of both nodes of each pair, and the pairs' names."""
        names = list(self.node_labels)
        if pairs is None:
            every = torch.arange(len(names))
            return torch.cartesian_prod(every, every).T, [f"{u},{v}" for u in names for v in names]
        given: list[tuple] = [
            tuple(pair) if isinstance(pair, Iterable) else (pair,) for pair in listed(pairs, "pairs", "pairs")
        ]
        if wrong := [pair for pair in given if len(pair) != 2]:
            raise ValueError(f"{wrong[0]!r} is no pair of nodes. Name two, as in (12, 10).")
        if not given:
            raise ValueError("There are no pairs. Name at least one, or leave `pairs` out for all.")
        chosen = torch.tensor([[self._node(u), self._node(v)] for u, v in given])
        return chosen.T, [f"{u},{v}" for u, v in given]


def _pair_losses(params: Any, presence: Float[Tensor, " n"] | None, pairs: Int[Tensor, "2 t"]) -> Float[Tensor, " t"]:
    """Return −log softmax of the second as context of the first, over who is present; None for everybody."""
    centre, context = pairs
    here = params["output"].new_ones(len(params["output"])) if presence is None else presence
    agreed = (params["embedding"][centre] * params["output"][context]).sum(dim=1)
    others = log_normalisers(params, here)[centre]
    if presence is not None:
        # A context that is gone itself still belongs to its own sum.
        others = torch.where(presence[context] > 0, others, torch.logaddexp(others, agreed))
    return others - agreed


def _logistic_fit(inputs: Float[Tensor, "m d"], kinds: Float[Tensor, " m"], ridge: float) -> Float[Tensor, " d"]:
    """Return the coefficients by Newton's method, from zero, intercept last."""
    size = inputs.shape[1]
    shrink = ridge * torch.cat([inputs.new_ones(size - 1), inputs.new_zeros(1)])
    beta = inputs.new_zeros(size)
    for _ in range(LOGISTIC_STEPS):
        chance = torch.sigmoid(inputs @ beta)
        gradient = inputs.T @ (chance - kinds) + shrink * beta
        curvature = (inputs.T * (chance * (1 - chance))) @ inputs + torch.diag(shrink)
        beta = beta - torch.linalg.solve(curvature, gradient)
    return beta
