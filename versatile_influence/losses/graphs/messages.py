"""Networks whose messages have a weight each, 0 where an edge is absent, whatever their layers make of weights.

A module that takes a third argument is given weights there, and its layers use them as they say (`GCNConv`). Layers of
PyTorch Geometric without weights of their own are weighted from outside, through the library's hooks:

    sum, mean (SAGE)    m_v = Σ_u w_uv m_uv,    divided by Σ_u w_uv in place of the number of neighbours
    attention (GAT)     α_uv → w_uv α_uv / Σ_t w_tv α_tv, which is the softmax over those present

so that weights of 0 and 1 give what the graph without those edges gives. Other layers are found out by `check_masks`.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.models import through
from versatile_influence.core.ravel import Params, first


@dataclass(frozen=True, eq=False)
class MessageNetwork:
    """A module of a graph, as a function of its parameters, the features, the arcs and a weight of each.

    Attributes:
        module: Called as `module(x, edge_index, edge_weight)`, or `module(x, edge_index)` where it takes no third.
        weighted: Whether it takes weights itself.
        layers: Its layers of PyTorch Geometric that do not.
    """

    module: torch.nn.Module
    weighted: bool = field(init=False)
    layers: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self):
        # Nobody has a layer of a library that was never imported.
        library = sys.modules.get("torch_geometric.nn.conv.message_passing")
        passing = [one for one in self.module.modules() if library and isinstance(one, library.MessagePassing)]
        object.__setattr__(self, "weighted", _takes_three(self.module.forward))
        bare = tuple(one for one in passing if "edge_weight" not in inspect.signature(one.forward).parameters)
        object.__setattr__(self, "layers", bare)
        if not self.weighted and (len(bare) < len(passing) or not bare):
            raise TypeError(
                f"{type(self.module).__name__} must take the weights of edges: forward(self, x, edge_index, "
                "edge_weight), handed to every layer that has weights, such as GCNConv. Weight 0 is an absent edge."
            )

    def __call__(
        self,
        params: Params,
        x: Float[Tensor, "n d"],
        arcs: Int[Tensor, "2 a"],
        here: Float[Tensor, " a"],
        weights: Float[Tensor, " a"],
    ) -> Float[Tensor, "n c"]:
        """Return its outputs for presence `here` and `weights` of the arcs."""
        here = here.to(first(params))
        with _hooked(self.layers, here):
            own = (weights.to(here) * here,) if self.weighted else ()
            return through(self.module, params, x, arcs, *own)

    def start(self) -> dict[str, Tensor]:
        """Return its present parameters, those that are trained."""
        trained = ((name, one) for name, one in self.module.named_parameters() if one.requires_grad)
        return {name: one.detach().double().clone() for name, one in trained}

    @property
    def probed(self) -> dict[str, Tensor]:
        """The same where graphs are made, on the processor: a loss is looked at there before it follows parameters."""
        return {name: one.cpu() for name, one in self.start().items()}


def _takes_three(forward: Callable[..., object]) -> bool:
    try:
        inspect.signature(forward).bind(None, None, None)
    except TypeError:
        return False
    return True


@contextmanager
def _hooked(layers: tuple[Any, ...], here: Float[Tensor, " a"]) -> Iterator[None]:
    """Weight the messages of these layers while it lasts."""
    with ExitStack() as stack:
        for layer in layers:
            for hook in _hooks(layer, here):
                stack.callback(hook.remove)
        yield


def _hooks(layer: Any, here: Float[Tensor, " a"]) -> list[Any]:
    def among(count: int) -> Tensor:
        # Loops that a layer adds come after the arcs, and stay.
        return torch.cat([here, here.new_ones(count - len(here))])

    def attended(layer: Any, inputs: tuple, attention: Tensor) -> Tensor:  # noqa: ARG001
        receiver = inputs[0][1]
        weight = among(len(attention)).reshape(-1, *[1] * (attention.dim() - 1)) * attention
        total = _summed(weight, receiver, int(receiver.max()) + 1 if len(receiver) else 0)
        return weight / torch.where(total > 0, total, 1.0)[receiver]

    def sent(layer: Any, inputs: tuple, messages: Tensor) -> Tensor:  # noqa: ARG001
        return among(len(messages)).reshape(-1, *[1] * (messages.dim() - 1)) * messages

    def averaged(layer: Any, inputs: tuple, mean: Tensor) -> Tensor:  # noqa: ARG001
        receiver = inputs[0]["index"]
        weight = among(len(receiver))
        total, count = (_summed(one, receiver, len(mean)) for one in (weight, torch.ones_like(weight)))
        return mean * (count / torch.where(total > 0, total, 1.0))[:, None]

    # Layers say their attention in `edge_update`, which the base class leaves to them.
    if any("edge_update" in vars(kind) for kind in type(layer).__mro__ if kind.__name__ != "MessagePassing"):
        return [layer.register_edge_update_forward_hook(attended)]
    if layer.aggr == "mean":
        return [layer.register_message_forward_hook(sent), layer.register_aggregate_forward_hook(averaged)]
    return [layer.register_message_forward_hook(sent)]


def _summed(values: Float[Tensor, "a *h"], receiver: Int[Tensor, " a"], count: int) -> Float[Tensor, "n *h"]:
    return values.new_zeros(count, *values.shape[1:]).index_add(0, receiver, values)
