"""Bad losses, targets, parameters and networks: what each must say."""

import warnings
from functools import partial

import numpy as np
import torch
from bad_inputs import Case
from torch import nn
from torch.func import functional_call

import versatile_influence as vif
from versatile_influence.losses import InfoNCELoss, OutputLoss

D = torch.float64
X = torch.tensor([1.0, 2.0, 6.0], dtype=D)
THREE = torch.tensor(3.0, dtype=D)
SCORES = torch.tensor([[2 / 3], [1 / 3], [-1.0]], dtype=D)


def quad(theta, presence):
    return (presence * (X - theta) ** 2).sum() / 2


def same(theta):
    return theta


def attributed(loss=quad, params=THREE, target=same, **given):
    return vif.attribute(loss, params, target, n_objects=3, **given)


def right(answer):
    return torch.allclose(answer.scores, SCORES, atol=1e-6)


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


class NoVmapRule(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


class WithRule(NoVmapRule):
    generate_vmap_rule = True


class Once(NoVmapRule):
    generate_vmap_rule = True

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


def squares_by(function):
    return lambda theta, presence: (presence * function.apply(X - theta)).sum() / 2


def in_place(theta, presence):
    presence.mul_((X - theta) ** 2)
    return presence.sum() / 2


def in_place_params(theta, presence):
    theta.add_(0.1)
    return quad(theta, presence)


def in_numpy(theta, presence):
    return torch.tensor(float((presence.numpy() * (X.numpy() - theta.detach().numpy()) ** 2).sum()))


def partly_numpy(theta, presence):
    weight = torch.from_numpy(np.sqrt(presence.detach().numpy()))
    return (weight * (X - theta) ** 2).sum() / 2


def stateful():
    calls = []

    def loss(theta, presence):
        calls.append(1)
        return quad(theta, presence) * (1 if len(calls) < 3 else 2)

    return loss


def seeded(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(layer() for layer in layers)).double()


class Dicts(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1, dtype=D)

    def forward(self, x):
        return self.layer(x["features"])


class Attention(nn.Module):
    """Attention of each row over itself, by scaled_dot_product_attention."""

    def __init__(self, *, masked=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.inner = nn.Linear(2, 8, dtype=D)
        self.masked = masked

    def forward(self, x):
        h = self.inner(x[:, :, None] * torch.ones(2, dtype=D)).reshape(len(x), 1, -1, 8)
        return nn.functional.scaled_dot_product_attention(h, h, h, is_causal=self.masked).sum((1, 2))[:, :1]


ROWS = torch.arange(12.0, dtype=D).reshape(6, 2) / 6 - 1


def squares(outputs, presence):
    return (presence * (outputs.reshape(6, -1)[:, 0] - 1) ** 2).sum()


def of_model(model, x=ROWS, **given):
    loss = OutputLoss(model, x, squares, n_objects=6, penalty=0.5)
    return vif.attribute(loss, loss.zeros(), lambda params: loss.outputs(params).reshape(-1)[:1], **given)


def of_function(model, x=ROWS, *, params=None, target=None, solver=vif.Explicit()):
    """Attribute a network as a plain function of its parameters."""

    def loss(params, presence):
        penalty = sum(value.square().sum() for value in params.values())
        return squares(functional_call(model, params, (x,)), presence) + penalty / 4

    params = dict(model.named_parameters()) if params is None else params
    target = target or (lambda params: functional_call(model, params, (x,)).reshape(-1)[:1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Hessian|The parameters are not at a minimum")
        return vif.attribute(loss, params, target, n_objects=6, solver=solver)


def frozen(model):
    return model.requires_grad_(False)


def on_default_device(device, call):
    torch.set_default_device(device)
    try:
        return call()
    finally:
        torch.set_default_device(None)


def contrastive(**given):
    views = torch.randn(2, 6, 3, dtype=D, generator=torch.Generator().manual_seed(0))
    return InfoNCELoss(views, **given)


def branching(theta, presence):
    return quad(theta, presence) if presence[0] > 0 else 2 * quad(theta, presence)


def minimised(**given):
    loss = contrastive(penalty=0.5, **given)
    return vif.minimize(loss, started(loss))


def explained(verb):
    loss = contrastive(penalty=0.5)
    return verb(loss, started(loss), lambda w: w.sum())


def started(loss):
    return (
        torch.randn(3, 2, dtype=D, generator=torch.Generator().manual_seed(0)) if loss.model is None else loss.zeros()
    )


NO_SCALE = r"depends on .* only through (its|their) direction.*[Ll]eave the penalty out"
PRESENCE = "does not look at `presence`"
UNMOVED = r"target.* does not depend on the parameters.*detach"

CASES = [
    # Losses.
    Case("loss: complex", partial(attributed, lambda t, b: quad(t, b) + 0j), "complex.*real"),
    Case("loss: whole numbers", partial(attributed, lambda t, b: quad(t, b).long()), r"int64.*floating"),
    Case("loss: bool", partial(attributed, lambda t, b: quad(t, b) > 1), r"bool.*floating"),
    Case("loss: a vector", partial(attributed, lambda t, b: b * (X - t) ** 2), r"scalar.*shape \(3,\)"),
    Case("loss: a float", partial(attributed, lambda t, b: 1.0), "scalar tensor, got float"),
    Case("loss: None", partial(attributed, lambda t, b: None), "scalar tensor, got NoneType"),
    Case("loss: NaN", partial(attributed, lambda t, b: quad(t, b) * float("nan")), "loss is nan"),
    Case("loss: one argument", partial(attributed, lambda t: t.sum()), r"loss\(params, presence\)"),
    Case("loss: in place on presence", partial(attributed, in_place), r"presence.*in place|in place.*presence"),
    Case("loss: in place on parameters", partial(attributed, in_place_params), "in place"),
    Case("loss: numpy throughout", partial(attributed, in_numpy), "NumPy"),
    Case("loss: numpy in part", partial(attributed, partly_numpy), "NumPy"),
    Case(
        "loss: .item() on presence",
        partial(attributed, lambda t, b: quad(t, b) * int(b.sum().item() > 0)),
        r"\.item\(\)",
    ),
    Case(
        "loss: a branch on presence",
        partial(attributed, branching),
        "presence",
    ),
    Case(
        "loss: an index by presence",
        partial(attributed, lambda t, b: ((X[b > 0] - t) ** 2).sum()),
        "instead of indexing",
    ),
    Case("loss: ignores presence", partial(attributed, lambda t, b: ((X - t) ** 2).sum()), PRESENCE),
    Case(
        "loss: ignores presence, refit",
        lambda: vif.refit(lambda t, b: ((X - t) ** 2).sum(), THREE, same, n_objects=3),
        PRESENCE,
    ),
    Case(
        "loss: ignores parameters", partial(attributed, lambda t, b: (b * X).sum()), "does not depend on the parameters"
    ),
    Case(
        "loss: parameters detached",
        partial(attributed, lambda t, b: quad(t.detach(), b)),
        "does not depend on the parameters",
    ),
    Case("loss: under no_grad", partial(attributed, torch.no_grad()(quad)), "does not depend on the parameters"),
    Case("loss: random", partial(attributed, lambda t, b: quad(t, b) * torch.rand(())), "loss is random"),
    Case("loss: another at its third call", lambda: attributed(stateful()), "changes between calls|is random"),
    Case(
        "loss: dropout",
        partial(attributed, lambda t, b: nn.functional.dropout(b * (X - t) ** 2).sum()),
        r"random.*\.eval\(\)",
    ),
    Case(
        "loss: old style Function",
        partial(attributed, squares_by(OldStyle)),
        r"autograd.Function.*setup_context.*bad_inputs_models.py, line \d",
    ),
    Case("loss: Function without a vmap rule", partial(attributed, squares_by(NoVmapRule)), "generate_vmap_rule"),
    Case("loss: Function with a rule", partial(attributed, squares_by(WithRule)), right=right),
    Case("loss: Function differentiable once", partial(attributed, squares_by(Once)), "once_differentiable"),
    Case(
        "loss: float32 product",
        partial(
            attributed, lambda t, b: (b * (torch.ones(3, 1) @ t)).square().sum(), torch.ones(1, 1), lambda t: t.sum()
        ),
        "runs only in torch.float32",
    ),
    Case("loss: on another device", partial(attributed, lambda t, b: (b * (X.to("meta") - t) ** 2).sum()), "meta"),
    # Targets.
    Case("target: whole numbers", partial(attributed, target=lambda t: t.long()), "target.*int64.*floating"),
    Case("target: bool", partial(attributed, target=lambda t: t > 1), "target.*bool.*floating"),
    Case("target: complex", partial(attributed, target=lambda t: t + 0j), "target.*complex.*real"),
    Case("target: argmax", partial(attributed, target=lambda t: torch.stack([t, t]).argmax()), "target.*floating"),
    Case("target: detached", partial(attributed, target=lambda t: t.detach()), UNMOVED),
    Case("target: under no_grad", partial(attributed, target=torch.no_grad()(lambda t: 2 * t)), UNMOVED),
    Case("target: rounded", partial(attributed, target=lambda t: t.round()), UNMOVED),
    Case(
        "target: argmax as a float",
        partial(attributed, target=lambda t: torch.stack([t, 0 * t]).argmax().double()),
        UNMOVED,
    ),
    Case("target: constant", partial(attributed, target=lambda t: torch.ones(2, dtype=D)), UNMOVED),
    Case(
        "target: constant, newton_step",
        lambda: vif.newton_step(quad, THREE, lambda t: torch.ones(2, dtype=D), n_objects=3),
        UNMOVED,
    ),
    Case(
        "target: .item()", partial(attributed, target=lambda t: torch.tensor(t.item())), r"\.item\(\)|does not depend"
    ),
    Case("target: numpy", partial(attributed, target=lambda t: t.numpy()), "return a tensor.*ndarray|NumPy"),
    Case("target: numpy inside", partial(attributed, target=lambda t: torch.from_numpy(np.exp(t.numpy()))), "NumPy"),
    Case("target: a list", partial(attributed, target=lambda t: [t]), "return a tensor"),
    Case("target: a dict", partial(attributed, target=lambda t: {"a": t}), "return a tensor"),
    Case("target: None", partial(attributed, target=None), "`target` must be a function"),
    Case("target: no argument", partial(attributed, target=lambda: THREE), r"target.*params"),
    Case("target: two arguments", partial(attributed, target=lambda t, b: t), r"target.*params"),
    Case("target: empty", partial(attributed, target=lambda t: t.reshape(1)[:0]), "no numbers"),
    Case("target: NaN", partial(attributed, target=lambda t: t * float("nan")), "Target 0 is nan"),
    Case("target: random", partial(attributed, target=lambda t: t * torch.rand((), dtype=D)), "target is random"),
    Case(
        "target: dropout",
        partial(attributed, target=lambda t: nn.functional.dropout(t.expand(4), 0.5)),
        "target is random",
    ),
    Case(
        "target: random, refit",
        lambda: vif.refit(quad, THREE, lambda t: t * torch.rand((), dtype=D), n_objects=3),
        "random",
    ),
    Case("target: on another device", partial(attributed, target=lambda t: t * torch.ones((), device="meta")), "meta"),
    Case(
        "target: Function without a vmap rule",
        lambda: vif.refit(quad, THREE, NoVmapRule.apply, n_objects=3),
        "generate_vmap_rule",
    ),
    Case(
        "target: an index by presence",
        partial(attributed, target=vif.PresenceTarget(lambda t, b: t + X[b > 0].sum())),
        "instead of indexing",
    ),
    Case(
        "target: float32 data",
        lambda: of_function(seeded(partial(nn.Linear, 2, 1)), target=lambda p: ROWS.float() @ p["0.weight"][0]),
        "float32.*float64|dtype",
    ),
    # Parameters.
    Case("params: meta", partial(attributed, params=THREE.to("meta")), "meta"),
    Case("params: sparse", partial(attributed, params=torch.tensor([3.0, 0.0]).to_sparse()), "sparse.*dense"),
    Case(
        "params: quantized",
        lambda: attributed(params=torch.quantize_per_tensor(torch.ones(1), 0.1, 0, torch.quint8)),
        "quint8.*dequantize|floating",
    ),
    Case("params: complex", partial(attributed, params=THREE + 0j), "floating-point"),
    Case("params: whole", partial(attributed, params=torch.tensor(3)), "floating-point"),
    Case("params: a module", partial(attributed, params=nn.Linear(1, 1)), r"named_parameters"),
    Case("params: a generator of them", lambda: attributed(params=nn.Linear(1, 1).parameters()), "named_parameters"),
    Case("params: nested", partial(attributed, params={"a": {"b": THREE}}), "dict for `a`"),
    Case("params: an empty dict", partial(attributed, params={}), "no parameters"),
    Case("params: an empty tensor", partial(attributed, params=torch.empty(0)), "no parameters|empty"),
    Case("params: float16", partial(attributed, params=THREE.half()), right=right),
    Case("params: bfloat16", partial(attributed, params=THREE.bfloat16()), right=right),
    Case("params: default device meta", lambda: on_default_device("meta", attributed), "meta"),
    Case(
        "params: all frozen",
        lambda: of_function(frozen(seeded(partial(nn.Linear, 2, 1)))),
        r"frozen.*requires_grad",
    ),
    # Networks.
    Case("model: all frozen", lambda: of_model(frozen(seeded(partial(nn.Linear, 2, 1)))), "frozen.*requires_grad"),
    Case("model: traced", lambda: of_model(torch.jit.trace(seeded(partial(nn.Linear, 2, 1)), ROWS)), "torch.jit"),
    Case("model: scripted", lambda: of_model(torch.jit.script(seeded(partial(nn.Linear, 2, 1)))), "torch.jit"),
    Case(
        "model: traced, in a function",
        lambda: of_function(torch.jit.trace(seeded(partial(nn.Linear, 2, 1)), ROWS)),
        "torch.jit",
    ),
    Case("model: a dict of inputs", lambda: of_model(Dicts(), {"features": ROWS}), "one tensor.*dict"),
    Case(
        "model: a list of inputs", lambda: of_model(seeded(partial(nn.Linear, 2, 1)), ROWS.tolist()), "one tensor.*list"
    ),
    Case("model: no module", lambda: of_model(lambda x: x), "torch.nn.Module.*function"),
    Case(
        "model: batch normalisation",
        lambda: of_model(seeded(partial(nn.Linear, 2, 1), partial(nn.BatchNorm1d, 1))),
        r"batch normalisation.*eval\(\)",
    ),
    Case(
        "model: batch normalisation, in a function",
        lambda: of_function(seeded(partial(nn.Linear, 2, 1), partial(nn.BatchNorm1d, 1))),
        r"batch normalisation.*\.eval\(\)",
    ),
    Case("model: dropout", lambda: of_model(seeded(partial(nn.Linear, 2, 1), nn.Dropout)), r"random.*\.eval\(\)"),
    Case("model: without parameters", lambda: of_model(nn.Identity()), "no parameters"),
    Case(
        "model: parameters as a tensor",
        lambda: vif.attribute(
            OutputLoss(seeded(partial(nn.Linear, 2, 1)), ROWS, squares, n_objects=6), torch.ones(3, dtype=D), same
        ),
        "dict of `loss.zeros",
    ),
    Case("model: on meta", lambda: of_model(nn.Linear(2, 1, device="meta")), "meta"),
    Case("model: attention", lambda: of_model(Attention()), r"sdpa_kernel\(.*SDPBackend.MATH"),
    Case("model: attention, in a function", lambda: of_function(Attention()), r"sdpa_kernel\(.*SDPBackend.MATH"),
    # No minimum.
    Case(
        "InfoNCELoss: penalty on what is normalised",
        minimised,
        NO_SCALE,
    ),
    Case(
        "InfoNCELoss: penalty, a network",
        partial(minimised, model=nn.Linear(3, 2, bias=False)),
        NO_SCALE,
    ),
    Case(
        "InfoNCELoss: penalty, its last layer",
        partial(minimised, model=seeded(partial(nn.Linear, 3, 4), nn.Tanh, partial(nn.Linear, 4, 2))),
        NO_SCALE,
    ),
    Case(
        "InfoNCELoss: penalty, refit",
        partial(explained, vif.refit),
        NO_SCALE,
    ),
    Case(
        "InfoNCELoss: penalty, attribute",
        partial(explained, vif.attribute),
        NO_SCALE,
    ),
    # Solvers on losses that do not serve them.
    Case("LiSSA: a function has no terms", partial(attributed, solver=vif.LiSSA()), "batch_size=None"),
    Case("EKFAC: a tensor", partial(attributed, solver=vif.EKFAC()), "EKFAC needs"),
]
