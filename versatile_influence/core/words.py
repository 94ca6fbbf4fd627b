"""What PyTorch says of a user's loss, target or network, in words that name the culprit and what to do."""

import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

# What a verb says may be done about scores that are not trusted, or were not checked.
MENDING = "attribute(…, tolerance=0.1) takes such removals further, up to a refit"
ESTIMATING, CHECKING = 'attribute(…, check="all") estimates how far each is off, ', "spot_check(…) trains without a few"


def missing(error: ImportError, what: str, extra: str) -> ImportError:
    """Return what to say of a library that is not there, and how it comes."""
    return ImportError(f"{error}: {what}. Run `pip install versatile-influence[{extra}]`.")


# What PyTorch says, as a regular expression; the error that it becomes; and what it means. The first that fits serves.
MEANINGS: list[tuple[str, type[Exception], str]] = [
    (
        # On the processor there is no error of its own for it.
        r"can't allocate memory|not enough memory|out of memory|failed to allocate",
        MemoryError,
        "Memory ran out. Do less at once, `with vif.memory_budget(gigabytes):`; ask for fewer targets or objects in a "
        "call; or choose a solver that holds less, such as vif.CG(rtol=1e-3).",
    ),
    (
        r"must override the setup_context|does not have vmap support|generate_vmap_rule|legacy autograd function",
        TypeError,
        "A torch.autograd.Function cannot be evaluated for many presences or directions at once. Give its class "
        "forward(…) without ctx, a setup_context, and generate_vmap_rule = True (PyTorch: extending torch.func).",
    ),
    (
        r"once_differentiable|differentiate twice",
        TypeError,
        "A torch.autograd.Function is marked once_differentiable, and a Hessian takes two derivatives. Write its "
        "backward in operations that PyTorch differentiates, without that mark.",
    ),
    (
        r"scaled_dot_product|_flash_attention|_efficient_attention",
        TypeError,
        "The fused attention has no second derivative. Have it computed by the formula: put `with "
        "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):` around the call; a model of transformers "
        'may also be loaded with attn_implementation="eager".',
    ),
    (
        r"data pointer of Tensor|numpy\(\) on|convert .* to numpy|data-less|expected np\.ndarray",
        TypeError,
        "NumPy, or another library that reads a tensor's memory, is used on parameters or presence: no derivative "
        "passes through it. Write it in torch.",
    ),
    (
        r"running_mean|running_var|num_batches_tracked|[Bb]atch ?norm",
        ValueError,
        "A batch normalisation takes its statistics from the batch, and keeps them. Call model.eval(), so that it uses "
        "the running statistics, or use another normalisation.",
    ),
    (
        r"mutate a captured Tensor|inplace arithmetic|in-place operation|a leaf Variable that requires grad",
        TypeError,
        "Something is changed in place: presence, parameters, or what a network keeps. Make a new tensor instead "
        "(x = x * y, not x.mul_(y)). A batch normalisation in training keeps statistics: call model.eval().",
    ),
    (
        r"randomness error mode",
        ValueError,
        "The loss or the target is random: numbers are drawn anew in each call. Fix what is drawn: dropout off with "
        "model.eval(), samples drawn once outside.",
    ),
    (
        r"Jitted modules|ScriptModule",
        TypeError,
        "A module of torch.jit takes no other parameters: use the one it was made from.",
    ),
    (
        r"[Mm]eta tensor|device meta|meta device|not on the expected device",
        ValueError,
        "A tensor is on the meta device, without values. Load the model and the data first, and leave "
        "torch.set_default_device alone.",
    ),
    (
        r"device type for generator",
        ValueError,
        "Numbers are drawn on another device than their generator's. Say device='cpu' where a generator of the "
        "processor draws, and move what it drew: .to(params.device).",
    ),
    (
        r"same device|on (different|two) devices|at least two devices",
        ValueError,
        "Parameters and data are on different devices. Move both, with .to(device), to one.",
    ),
    (
        r"dynamic shape|data-dependent|\.item\(\) on a Tensor|control flow|vmap|batched",
        TypeError,
        "The loss could not be evaluated for many presences at once. Its shapes must not depend on who is present: "
        "multiply by `presence` (or use torch.where) instead of indexing with it or branching on it, and do not call "
        ".item(). A target of parameters must do without them too.",
    ),
    (
        r"same dtype|dtype mismatch|expected .*(Double|Float|Half|BFloat16)",
        TypeError,
        "Numbers of two precisions meet. Loss and target are evaluated in float64: keep their data in it, "
        "tensor.double(), or cast it to that of the parameters, tensor.to(theta.dtype).",
    ),
]

CALL = (
    "The target is called with the parameters, target(params) -> (t,). One that asks who is present, too, is a "
    "vif.PresenceTarget."
)
# Files whose lines are not the user's: this library, PyTorch, Python's own, what is compiled on the way.
NOT_THEIRS = (
    r"^<|[/\\](versatile_influence|torch|beartype|jaxtyping)[/\\]|^"
    + re.escape(sysconfig.get_path("stdlib"))
    + r"[/\\][^/\\]*$"
)


def meaning(error: BaseException) -> Exception | None:
    """Return the error that says what one of PyTorch's means, or None where it means nothing known.

    Example:
        >>> type(meaning(RuntimeError("mat1 and mat2 must have the same dtype, but got Double and Float")))
        <class 'TypeError'>
        >>> meaning(RuntimeError("the user's own"))
    """
    said = str(error)
    for pattern, kind, told in MEANINGS:
        if re.search(pattern, said):
            return kind(f"{told} {place(error)}PyTorch said: {said.strip().splitlines()[0][:200]}")
    return None


def place(error: BaseException) -> str:
    """Return where in the user's code an error came from, as a sentence, or nothing."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not re.search(NOT_THEIRS, frame.filename)]
    return f"It is in {own[-1].name}, {own[-1].filename}, line {own[-1].lineno}. " if own else ""


@contextmanager
def errors_named() -> Iterator[None]:
    """Say what PyTorch means where it raises inside.

    Raises:
        Exception: In the place of one of PyTorch's whose meaning is known.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        # The library's own TypeErrors are plain already; from its own lines Python says only that a call did not fit.
        called = "versatile_influence" in traceback.extract_tb(error.__traceback__)[-1].filename
        if isinstance(error, TypeError) and called:
            # What a checker says begins with the argument it names.
            misfit = "positional argument" in str(error) and not str(error).startswith("`")
            named = TypeError(f"{CALL} Python said: {error}.") if misfit else None
        else:
            named = meaning(error)
        if named is None:
            raise
        raise named from error
