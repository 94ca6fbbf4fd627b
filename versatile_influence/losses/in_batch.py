"""What is lost by the outputs of a batch: contrast, preference, or a term an object. Values for `BatchedLoss`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from versatile_influence.core.arguments import function as checked
from versatile_influence.core.batched_outer import InBatch, Lost, tried
from versatile_influence.core.checks import told
from versatile_influence.core.readings import Layout
from versatile_influence.core.settings import Settings, setting
from versatile_influence.losses.softmax.contrastive import batch_rows, similarities
from versatile_influence.losses.terms.outer import Terms


@dataclass(frozen=True)
class Contrast(Settings, InBatch):
    """InfoNCE of a batch whose outputs are a tuple of views or towers, (b, d) each: `InfoNCELoss` of one batch.

    MultipleNegatives, as of sentence-transformers: `Contrast(one_way=True, temperature=1/20)`, of (anchors, positives,
    negatives, …). CLIP: `Contrast(across=True, temperature=None)`, of (images, texts, scale). SimCLR: `Contrast()`.
    SupCon: with the classes, (b,) whole numbers, as a further output. Two towers with an in-batch softmax:
    `Contrast(one_way=True, cosine=False, temperature=1.0)`, of (users, items); its correction of popularity, s − log q,
    is one feature more, 1 of a user and −log q of an item.

    Attributes:
        temperature: τ; None where the last output is one number 1/τ (CLIP's `logit_scale.exp()`), learned or not.
        across: Compare each view with the other only, both ways.
        one_way: The first view's are the only anchors.
        cosine: Compare by cosines; False for dot products.

    References:
        As of `InfoNCELoss`; Yi et al. (2019), sampling-bias-corrected in-batch softmax.

    Example:
        >>> model = torch.nn.Linear(2, 2).double()
        >>> batches = [((torch.eye(2), torch.eye(2)), [0, 1])]
        >>> import versatile_influence as vif
        >>> towers = lambda model, batch: [model(side) for side in batch]
        >>> loss = vif.losses.BatchedLoss(model, batches, Contrast(across=True), call=towers)
        >>> loss.n_objects
        2
    """

    temperature: float | None = setting(0.1, above=0)
    across: bool = setting(False)
    one_way: bool = setting(False)
    cosine: bool = setting(True)

    def of(self, layout: Layout) -> Lost:
        """Return what is lost by one batch.

        Raises:
            ValueError: If its outputs are not views of one shape with a row an object.
        """
        shapes, n = [leaf for leaf in layout.leaves if isinstance(leaf, torch.Size)], len(layout.objects)
        constants = [leaf for leaf in layout.leaves if isinstance(leaf, Tensor)]
        one_each = len(constants) == 1 and constants[0].shape == (n,) and constants[0].dtype != torch.bool
        classes = constants.pop() if one_each else None
        scale = [shapes.pop()] if self.temperature is None and shapes else []
        fits = len({*shapes}) == 1 and len(shapes[0]) == 2 and shapes[0][0] == n and all(s.numel() == 1 for s in scale)
        # Of a dict the order is that in which it was filled, which says nothing.
        fits = fits and not issubclass(layout.spec.type or tuple, dict) and not constants
        least = 1 if classes is not None and not self.one_way else 2
        fits = fits and (len(shapes) >= least) and not (self.across and len(shapes) != 2)
        if not fits or (self.across and self.one_way) or n < 2:
            last = ", and last one number 1/τ" * (self.temperature is None)
            raise ValueError(
                f"Contrast needs two views or more as outputs of a batch, each of its {n} objects by features{last} "
                f"(with ({n},) whole numbers, their classes, one view is enough); "
                f"two objects or more, with `across` two views and no `one_way`. Got {[*map(tuple, shapes + scale)]}."
            )
        shape = (len(shapes), *shapes[0])
        rows = batch_rows(
            torch.arange(n)[None], shape, across=self.across, one_way=self.one_way, classes=classes, given=None
        )
        return Lost(rows, rows.allowed.numel(), partial(self._scores, shape, bool(scale)))

    def _scores(self, shape: tuple[int, ...], scaled: bool, numbers: Tensor) -> Tensor:
        views, rest = numbers[: math.prod(shape)].reshape(shape), numbers[math.prod(shape) :]
        ways = {"across": self.across, "one_way": self.one_way, "cosine": self.cosine}
        compared = similarities(views, torch.arange(shape[1])[None], self.temperature or 1.0, **ways).reshape(-1)
        return compared * above_zero(rest[0]) if scaled else compared


def above_zero(scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return 1/τ, or say that it is none."""
    try:
        wrong = not bool(scale > 0)
    except RuntimeError:
        # Of several at once (`vmap`) none can be looked at.
        return scale
    if wrong:
        raise ValueError(
            f"Contrast(temperature=None) needs 1/τ, more than 0, as last output, got {float(scale):g}. Hand out what "
            "similarities are multiplied by: CLIP's logit_scale.exp()."
        )
    return scale


@dataclass(frozen=True)
class EachObject(InBatch):
    """A term an object: L(o, b) = Σ_i b_i ℓ_i(o), and a removal takes one term away.

    Attributes:
        function: From the outputs of a batch to its terms (b,): `cross_entropy`, `Preferred(…)`, or your own,
            convex in them for a Gauss–Newton matrix without negative eigenvalues.

    Example:
        >>> import versatile_influence as vif
        >>> call = lambda model, batch: (model(batch[0]), batch[1])
        >>> batches = [((torch.eye(2), torch.tensor([0, 1])), [0, 1])]
        >>> each = EachObject(vif.losses.cross_entropy)
        >>> vif.losses.BatchedLoss(torch.nn.Linear(2, 2), batches, each, call=call).n_objects
        2
    """

    function: Callable[[Any], Tensor]

    def __post_init__(self):
        checked(self.function, "function", "outputs")

    def of(self, layout: Layout) -> Lost:
        """Return what is lost by one batch.

        Raises:
            ValueError: If the function is not to be computed for its outputs.
        """
        n = len(layout.objects)
        if isinstance(self.function, Preferred):
            what = "scores of the preferred and of the others, perhaps each by a reference too, one an object"
            shapes = shapes_of(layout, "Preferred", what, {2, 4})
            if {*shapes} != {torch.Size([n])}:
                raise ValueError(f"Preferred needs outputs of shape ({n},) each: {what}. Got {[*map(tuple, shapes)]}.")
        tried(self.function, layout, "function")
        terms = Terms(lambda outputs: self.function(layout.shaped(outputs)), torch.arange(n)[:, None], n)
        return Lost(terms, sum(layout.sizes))


def shapes_of(layout: Layout, name: str, what: str, counts: set[int]) -> list[torch.Size]:
    """Return the shapes of a batch's outputs, which are a tuple of so many floating tensors.

    Raises:
        ValueError: If they are not.
    """
    order = layout.spec.type in (tuple, list) and all(isinstance(leaf, torch.Size) for leaf in layout.leaves)
    if not order or len(layout.leaves) not in counts:
        raise ValueError(
            f"{name} needs a tuple as outputs of a batch: {what}. Got {len(layout.leaves)} outputs in "
            f"{'one tensor' if layout.spec.type is None else layout.spec.type.__name__}: give `call`."
        )
    return list(layout.leaves)


def cross_entropy(outputs: Any) -> Float[Tensor, " b"]:
    """Return −log softmax of the right class, of outputs (logits (b, c), classes (b,)).

    Raises:
        TypeError: If they are no such pair.

    Example:
        >>> cross_entropy((torch.zeros(1, 2), torch.tensor([1])))
        tensor([0.6931])
    """
    pair = isinstance(outputs, tuple | list) and len(outputs) == 2
    if not pair or not all(isinstance(part, Tensor) for part in outputs):
        raise TypeError(f"`outputs` must be (logits, classes), two tensors of a batch, got {told(outputs)}.")
    logits, classes = outputs
    rows = logits.shape[:1] if logits.dim() == 2 else None
    whole = not (classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool)
    if not (whole and classes.shape == rows) and not (classes.is_floating_point() and classes.shape == logits.shape):
        got = f"{tuple(logits.shape)} and {tuple(classes.shape)} of {classes.dtype}"
        raise TypeError(f"Cross-entropy needs logits (b, c) and classes (b,), whole numbers below c, got {got}.")
    return torch.nn.functional.cross_entropy(logits, classes, reduction="none")


@dataclass(frozen=True)
class Triplets(Settings, InBatch):
    """Softplus (or hinge) of margin + ‖a − p‖² − ‖a − n‖² of an object's outputs (anchors, positives, negatives).

    Attributes:
        margin: Added to the difference of squared distances.
        smooth: Softplus in place of the hinge, whose kinks have no curvature.

    Example:
        >>> import versatile_influence as vif
        >>> model, call = torch.nn.Linear(2, 2), lambda model, batch: [model(rows) for rows in batch]
        >>> loss = vif.losses.BatchedLoss(model, [([torch.ones(1, 2)] * 3, [0])], Triplets(margin=0.0), call=call)
        >>> loss(loss.zeros(), torch.ones(1).double()).item()  # log 2
        0.693...
    """

    margin: float = setting(1.0)
    smooth: bool = setting(True)

    def of(self, layout: Layout) -> Lost:
        """Return what is lost by one batch."""
        n = len(layout.objects)
        shapes = shapes_of(layout, "Triplets", "anchors, positives and negatives, of one shape, a row an object", {3})
        if len({*shapes}) > 1 or len(shapes[0]) != 2:
            raise ValueError(
                f"Triplets needs outputs (anchors, positives, negatives) of one shape ({n}, d), got "
                f"{[*map(tuple, shapes)]}."
            )
        loss = Terms(softplus if self.smooth else torch.relu, torch.arange(n)[:, None], n, elementwise=True)
        return Lost(loss, n, lambda numbers: self._leads(layout.shaped(numbers)))

    def _leads(self, outputs: Any) -> Float[Tensor, " b"]:
        anchor, positive, negative = outputs
        return self.margin + (anchor - positive).square().sum(-1) - (anchor - negative).square().sum(-1)


@dataclass(frozen=True)
class Preferred(Settings):
    """−log σ(β lead) of outputs (scores of the preferred, scores of the others): Bradley–Terry, BPR.

    DPO: outputs are log-probabilities of the chosen and the rejected answer, by the policy and then by the reference:
    (chosen, rejected, reference chosen, reference rejected).

    Attributes:
        beta: β.

    References:
        Rendle et al. (2009), BPR; Rafailov et al. (2023), DPO, Eq. 7.

    Example:
        >>> Preferred()((torch.zeros(1), torch.zeros(1)))
        tensor([0.6931])
    """

    beta: float = setting(1.0, above=0)

    def __call__(self, outputs: Any) -> Float[Tensor, " b"]:
        """Return the terms."""
        winner, loser, *reference = outputs
        lead = winner - loser - (reference[0] - reference[1] if reference else 0.0)
        return softplus(-self.beta * lead)
