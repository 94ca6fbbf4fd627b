"""Trainings run by the trainers of transformers and sentence-transformers."""

from typing import TYPE_CHECKING, Any

from versatile_influence.core.checks import told
from versatile_influence.core.words import missing
from versatile_influence.training.recording import Recording

if TYPE_CHECKING:
    from transformers import Trainer


def from_trainer(trainer: "Trainer", *, field: str | None = None) -> Recording:
    """Return the recording of what a trainer is about to do: `trainer.train()`, then `recording.training(step_loss)`.

    Batches are recorded as they leave its DataLoader, on one device, with the learning rate of each step, clipping and
    accumulation. Dropout is to be off, as by `model.config`, since its masks are nowhere in the batches.

    Args:
        trainer: A `transformers.Trainer` or `sentence_transformers.SentenceTransformerTrainer`.
        field: The entry of a batch that numbers its objects; None for the numbers of the sampler: the rows of the
            data set.

    Raises:
        TypeError: If it is no such trainer.

    Example:
        >>> from_trainer(3)
        Traceback (most recent call last):
        TypeError: `trainer` must be a transformers.Trainer, got 3.
    """
    try:
        from transformers import Trainer, TrainerCallback
    except ImportError as error:
        raise missing(error, "a trainer is one of transformers", "trainers") from error
    if not isinstance(trainer, Trainer):
        raise TypeError(f"`trainer` must be a transformers.Trainer, got {told(trainer)}.")
    found: Any = trainer
    recording = Recording(found.model, field=field, max_norm=found.args.max_grad_norm or None)

    class Noted(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
            optimizer = given["optimizer"]
            # accelerate wraps it.
            recording.begin(vars(optimizer).get("optimizer", optimizer), given["train_dataloader"])

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
            recording.end()

    trainer.add_callback(Noted())
    return recording
