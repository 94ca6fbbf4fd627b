"""An embedding loss for one presence, its counts taken once: what minimisers and solvers evaluate again and again."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.loss import Loss
from versatile_influence.core.preconditioner import Coordinates, Halved, Root, Rooted
from versatile_influence.core.ravel import Params, flat, squared_norm
from versatile_influence.core.sizes import PAIR_BYTES, kept
from versatile_influence.losses.graphs.context_models import Embeddings
from versatile_influence.losses.graphs.large import Large
from versatile_influence.losses.graphs.meetings import Meetings


class AtPresence(Loss):
    """An embedding loss for one presence: a function of the parameters only, whatever presence it is given.

    Args:
        loss: The loss.
        nodes: Which nodes are present.
        counts: How often each meets each.
    """

    hessian_written_out = True

    def __init__(self, loss: Any, nodes: Float[Tensor, " n"], counts: Any):
        self.loss, self.model, self.nodes, self.counts = loss, loss.model, nodes, counts
        self.n_objects, self.object_labels = loss.n_objects, loss.object_labels
        self.penalty, self.treatment = loss.penalty, loss.treatment

    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:  # noqa: ARG002
        return self.model.value(params, self.counts, self.nodes) + 0.5 * self.penalty * squared_norm(params)

    def gradient(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, " p"]:  # noqa: ARG002
        slopes = self.model.slopes(params, self.counts, self.nodes)
        found = {"embedding": slopes @ params["output"], "output": slopes.T @ params["embedding"]}
        return flat(found) + self.penalty * flat(params)

    def gradient_and_value(
        self, params: Any, presence: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        return self.gradient(params, presence), self(params, presence)

    def hessian(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, "p p"]:  # noqa: ARG002
        whole = self.model.hessian(params, self.counts, self.nodes)
        whole.diagonal().add_(self.penalty)
        return whole

    def null_directions(self, params: Any, presence: Float[Tensor, " k"]) -> dict[str, Params]:
        return self.loss.null_directions(params, presence)


@dataclass(frozen=True)
class NodeBlocks(Rooted):
    """Stand in for H⁻¹ with the inverse of each node's own blocks of H: of its embedding, and of its output row."""

    def root(self, hessian: Curvature) -> Root:
        return Root(hessian.loss.at(hessian.presence).there.roots(hessian.params, hessian.floor))

    def coordinates(self, hessian: Curvature) -> Coordinates:
        there, root = hessian.loss.at(hessian.presence).there, self.root(hessian)
        # Scores that share a normaliser bind rows of one layer together; a curvature of nothing has no root.
        if there.model.shifts or not hessian.floor > 0:
            return Coordinates(hessian, root)
        # Kept for all products, where there is room for two tables of all pairs.
        held = there.pairs(hessian.params) if kept(16 * there.nodes.numel() ** 2, most=PAIR_BYTES) else None

        def across(columns: Tensor, *, outward: bool) -> Tensor:
            return there.across(held, hessian.params, columns, outward=outward)

        return Halved(hessian, root, (partial(across, outward=True), partial(across, outward=False)))


def detached(params: Embeddings) -> Embeddings:
    """Return parameters whose derivatives are written out, as numbers alone."""
    return {name: layer.detach() for name, layer in params.items()}


class AtLargePresence(AtPresence):
    """The same of many nodes, without tables of all pairs."""

    stand_in = NodeBlocks()

    def __init__(self, loss: Any, nodes: Float[Tensor, " n"], meetings: Meetings):
        super().__init__(loss, nodes, meetings)
        self.there = Large(loss.model, meetings, nodes)

    @cached_property
    def rough(self) -> "AtLargePresence":
        other = copy.copy(self)
        other.there = replace(self.there, precision=torch.float32)
        return other

    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:
        return self.gradient_and_value(params, presence)[1]

    def gradient(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, " p"]:
        return self.gradient_and_value(params, presence)[0]

    def gradient_and_value(
        self,
        params: Any,
        presence: Float[Tensor, " k"],  # noqa: ARG002
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        params = detached(params)
        found, value = self.there.gradient_and_value(params)
        return flat(found) + self.penalty * flat(params), value + 0.5 * self.penalty * squared_norm(params)

    def gradients(self, params: Any, presence: Float[Tensor, "j k"]) -> Float[Tensor, "j p"]:
        return self.loss.gradients(params, presence)

    def hessian_products(
        self,
        params: Any,
        presence: Float[Tensor, " k"],  # noqa: ARG002
        vectors: Float[Tensor, "p q"],
    ) -> Float[Tensor, "p q"]:
        return self.there.hessian_products(detached(params), vectors) + self.penalty * vectors

    def hessian(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, "p p"]:  # noqa: ARG002
        whole = self.there.hessian(detached(params))
        whole.diagonal().add_(self.penalty)
        return whole
