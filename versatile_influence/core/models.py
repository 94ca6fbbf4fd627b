"""Models as outputs: linear in features, linear about a point, a network, and functions of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from versatile_influence.core.factored import ByRow
from versatile_influence.core.jacobian import Stored
from versatile_influence.core.outputs import Outputs, Pull
from versatile_influence.core.ravel import Params, all_frozen, first


@dataclass(frozen=True, eq=False)
class Linear(Outputs):
    """Outputs x θ, one a row of x.

    Attributes:
        x: (m, d) features, in float64.
        units: One over the spread of each, where they are of very different sizes.
    """

    x: Float[Tensor, "m d"]
    units: Float[Tensor, " d"] | None = field(default=None, kw_only=True)
    linear = True

    def __call__(self, params: Params) -> Float[Tensor, " m"]:
        """Return x θ, in the precision of x whatever θ is kept in.

        Raises:
            TypeError: If the parameters are a dict.
        """
        if isinstance(params, dict):
            raise TypeError(f"The parameters must be a tensor of {self.x.shape[1]} coefficients, got a dict.")
        # Trained in float32 or not: what is lost in the sums over rows is not had back later.
        return self.x @ params.to(self.x)

    @property
    def by_row(self) -> ByRow:
        return (lambda params, rows: rows @ first(params)), self.x

    def start(self) -> Float[Tensor, " d"]:
        return self.x.new_zeros(self.x.shape[1])

    def jacobian(self, params: Params) -> Stored:  # noqa: ARG002
        return Stored(self.x)

    def pull(self, params: Params) -> tuple[Tensor, Pull]:
        return self(params), lambda slopes: slopes @ self.x

    def at_each(self, params: Params) -> Float[Tensor, "k m"]:
        assert isinstance(params, Tensor)
        return params.to(self.x) @ self.x.T

    def pull_each(self, params: Params, slopes: Float[Tensor, "k m"]) -> Float[Tensor, "k d"]:  # noqa: ARG002
        return slopes @ self.x

    def rows(self, chosen: Int[Tensor, " r"]) -> "Linear":
        return Linear(self.x[chosen], units=self.units)


@dataclass(frozen=True, eq=False)
class Affine(Outputs):
    """The linear part of other outputs in some coordinates: values + rows (θ − at), in the shape of the values.

    Attributes:
        matrix: Their Jacobian.
        at: The coordinates at which they have these values.
        values: The outputs there.
    """

    matrix: Float[Tensor, "m r"]
    at: Float[Tensor, " r"]
    values: Tensor
    linear = True

    def __call__(self, params: Params) -> Tensor:
        assert isinstance(params, Tensor)
        return self.values + (self.matrix @ (params - self.at)).reshape(self.values.shape)

    def start(self) -> Float[Tensor, " r"]:
        return self.at

    def jacobian(self, params: Params) -> Stored:  # noqa: ARG002
        return Stored(self.matrix)

    def pull(self, params: Params) -> tuple[Tensor, Pull]:
        return self(params), lambda slopes: slopes @ self.matrix


@dataclass(frozen=True, eq=False)
class Network(Outputs):
    """Outputs of a torch module; parameters are the dict of those of its `named_parameters()` that are trained.

    Frozen ones (`requires_grad=False`) are constants: the module's own, or those given beside the others.

    Attributes:
        model: The network.
        x: Its input.
        item_parameters: Names of parameters whose first axis runs over objects, each row trained by its object alone.

    Raises:
        TypeError: If the model is no module that can be given other parameters, or its input no tensor.
        ValueError: If it has no parameters, or all are frozen.
    """

    model: torch.nn.Module
    x: Tensor
    item_parameters: tuple[str, ...] = ()

    def __post_init__(self):
        model, x = self.model, self.x
        if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
            script = " A module of torch.jit takes no other parameters: hand in the one it was made from."
            given = f"{type(model).__module__}.{type(model).__name__}"
            raise TypeError(f"`model` must be a torch.nn.Module, got {given}.{script * given.startswith('torch.jit')}")
        if not isinstance(x, Tensor):
            raise TypeError(
                f"The input of `model` must be one tensor, got {type(x).__name__}. Take it apart inside a module: its "
                "forward(self, x) makes of a tensor of rows what the network asks for."
            )
        flags = [value.requires_grad for value in model.parameters()]
        if not any(flags):
            raise ValueError(all_frozen(len(flags)) if flags else "The `model` has no parameters: nothing was trained.")

    def __call__(self, params: Params) -> Tensor:
        if self.item_parameters and isinstance(params, dict) and [*params] != [name for name, _ in self.trained()]:
            raise ValueError("Where objects own parameters, these are those of loss.zeros(), in that order.")
        return through(self.model, params, self.x)

    def trained(self) -> list[tuple[str, Tensor]]:
        """Return the parameters that are not frozen, with their names."""
        return [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]

    @property
    def module(self) -> torch.nn.Module:
        return self.model

    @property
    def by_row(self) -> ByRow:
        return (lambda params, rows: through(self.model, params, rows)), self.x

    def start(self) -> dict[str, Tensor]:
        return {name: value.detach().double().clone() for name, value in self.trained()}

    @property
    def owning(self) -> bool:
        """Whether objects own rows of parameters."""
        return bool(self.item_parameters)

    def owned(self, i: int) -> Int[Tensor, " m"]:
        """Return where the object's rows of `item_parameters` are in the flat parameters."""
        start, positions = 0, [torch.arange(0)]
        # The flat parameters are in this order too.
        for name, value in self.trained():
            if name in self.item_parameters:
                width = value[0].numel()
                positions.append(torch.arange(width) + start + i * width)
            start += value.numel()
        return torch.cat(positions)

    def rows(self, chosen: Int[Tensor, " r"]) -> "Network":
        return replace(self, x=self.x[chosen])


@dataclass(frozen=True, eq=False)
class Mapped(Outputs):
    """A function without parameters of other outputs: similarities of embeddings, leads of pairs.

    Attributes:
        inner: The other outputs.
        function: The function.
        each: Whether it maps each row by itself.
    """

    inner: Outputs
    function: Callable[[Any], Any]
    each: bool = False

    def __call__(self, params: Params) -> Any:
        return self.function(self.inner(params))

    @property
    def module(self) -> torch.nn.Module | None:
        return self.inner.module

    @property
    def by_row(self) -> ByRow | None:
        """Each row by itself, where the function leaves rows apart."""
        if not self.each or self.inner.by_row is None:
            return None
        function, x = self.inner.by_row
        return (lambda params, rows: self.function(function(params, rows))), x

    def start(self) -> Params:
        return self.inner.start()

    @property
    def owning(self) -> bool:
        return self.inner.owning

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return self.inner.owned(i)

    def rows(self, chosen: Int[Tensor, " r"]) -> "Outputs":
        return replace(self, inner=self.inner.rows(chosen)) if self.each else super().rows(chosen)

    def holding(self, params: dict[str, Tensor], free: Sequence[str]) -> "Mapped":
        return replace(self, inner=self.inner.holding(params, free))


def through(model: torch.nn.Module, params: Params, x: Tensor, *rest: Tensor) -> Tensor:
    """Return the network's outputs at other parameters, in their dtype, buffers too; `rest` is handed on as it is.

    Raises:
        TypeError: If the parameters are no dict.
        ValueError: If a batch normalisation takes its statistics from the batch.
    """
    if not isinstance(params, dict):
        raise TypeError("The parameters are a tensor, but the loss has a `model`. Pass the dict of `loss.zeros()`.")
    buffers, known = dict(model.named_buffers()), dict(model.named_parameters())
    frozen = {name: value for name, value in known.items() if not value.requires_grad}
    # Of what is constant the network has values of its own.
    if wrong := params.keys() ^ (known.keys() - (frozen.keys() - params.keys()) | (params.keys() & buffers.keys())):
        raise ValueError(
            f"The parameters are not those of the network: {', '.join(sorted(wrong))} is in one alone. Pass all "
            "of dict(model.named_parameters()); vif.subset holds some of them fixed."
        )
    # Present rows would then depend on absent ones by more than the loss says, and masking is not deleting.
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            raise ValueError(
                f"The batch normalisation `{name}` couples the rows: its statistics would change with who is present. "
                "Call model.eval(), so that it uses the running statistics, or use another normalisation."
            )
    # Constants (frozen, running means, tables) must be of the dtype of the parameters, or PyTorch refuses the product.
    like = next(iter(params.values()))
    constants = {name: value.to(like) for name, value in (buffers | frozen).items() if value.is_floating_point()}
    x = x.to(like) if x.is_floating_point() else x.to(like.device)
    return functional_call(model, constants | params, (x, *rest))
