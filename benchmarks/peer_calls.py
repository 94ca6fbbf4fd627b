"""Each attribution library called in its own best way, on models whose loss is a sum over rows.

Every function takes a `Job` and returns two functions: `prepare()`, what the library does once (wrap the model, build
the Hessian or its factors), and `score(prepared)`, the (n, t) scores in this library's sign and unit,
f(θ without i) − f(θ) with f a test row's loss. A library that is not installed raises ImportError.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

Steps = tuple[Callable[[], Any], Callable[[Any], Tensor]]


@dataclass(frozen=True)
class Job:
    """A trained model with a loss of rows.

    Attributes:
        model: A network from x to one output a row.
        loss: From outputs (m, 1) and y (m, c) to the mean loss of the rows, for the libraries that ask for one.
        x, y: Training rows.
        x_test, y_test: Test rows.
        penalty: λ of the summed loss.
        draw: From outputs and y to labels drawn from the model, for libraries that estimate the curvature so.
    """

    model: torch.nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    penalty: float
    draw: Callable[[Tensor, Tensor], Tensor]

    def loader(self, *, test: bool = False) -> DataLoader:
        """Return all rows as one batch: dattri adds up inverses over several, and all are fastest so."""
        rows = TensorDataset(self.x_test, self.y_test) if test else TensorDataset(self.x, self.y)
        return DataLoader(rows, batch_size=len(rows), shuffle=False)


def pydvl(job: Job) -> Steps:
    """Direct solve. Its loss is a mean: λ/n is the regularisation, and a score is the product over n."""
    from pydvl.influence.base_influence_function_model import InfluenceMode
    from pydvl.influence.torch import DirectInfluence

    n = len(job.x)

    def prepare():
        return DirectInfluence(job.model, job.loss, regularization=job.penalty / n).fit(job.loader())

    def score(fitted):
        products = fitted.influences(job.x_test, job.y_test, job.x, job.y, mode=InfluenceMode.Up)
        return products.detach().T / n

    return prepare, score


def dattri(job: Job) -> Steps:
    """Explicit inverse, in one batch, since it adds up the inverses of batches. Here the loss may be a sum."""
    from dattri.algorithm.influence_function import IFAttributorExplicit
    from dattri.task import AttributionTask

    def loss(params, rows):
        x, y = rows
        # A row alone comes without its batch axis, or with one of length 1.
        x, y = x.reshape(-1, job.x.shape[1]), y.reshape(-1, job.y.shape[1])
        return job.loss(torch.func.functional_call(job.model, params, (x,)), y) * len(x)

    def prepare():
        task = AttributionTask(loss_func=loss, model=job.model, checkpoints=job.model.state_dict())
        attributor = IFAttributorExplicit(task=task, regularization=job.penalty)
        attributor.cache(job.loader())
        return attributor

    def score(attributor):
        torch.set_default_dtype(torch.float64)  # the dtype of its scores
        try:
            return attributor.attribute(job.loader(), job.loader(test=True)).detach()
        finally:
            torch.set_default_dtype(torch.float32)

    return prepare, score


def captum(job: Job) -> Steps:
    """The explicit Hessian with layer hooks for the gradients of rows, and no direction left out."""
    from captum.influence._core.influence_function import NaiveInfluenceFunction

    class Summed(torch.nn.Module):
        reduction = "sum"

        def forward(self, outputs, y):
            return job.loss(outputs, y) * len(y)

    def prepare():
        with tempfile.NamedTemporaryFile(suffix=".pt") as file:
            torch.save(job.model.state_dict(), file.name)
            return NaiveInfluenceFunction(
                job.model,
                TensorDataset(job.x, job.y),
                file.name,
                loss_fn=Summed(),
                batch_size=len(job.x),
                sample_wise_grads_per_batch=True,
                projection_dim=sum(value.numel() for value in job.model.parameters()),
                hessian_reg=job.penalty,
                hessian_inverse_tol=0.0,
            )

    return prepare, lambda made: made.influence((job.x_test, job.y_test)).detach().T


def kronfluence(job: Job) -> Steps:
    """EK-FAC factors in float64, kept in a temporary folder as it asks; approximate by design."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    n, exact = len(job.x), torch.float64

    class Rows(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, y = batch
            outputs = model(x)
            if sample:
                with torch.no_grad():
                    y = job.draw(outputs, y)
            return job.loss(outputs, y) * len(x)

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    factors = FactorArguments(
        strategy="ekfac",
        activation_covariance_dtype=exact,
        gradient_covariance_dtype=exact,
        per_sample_gradient_dtype=exact,
        lambda_dtype=exact,
    )
    scores = ScoreArguments(
        damping_factor=job.penalty / n, per_sample_gradient_dtype=exact, precondition_dtype=exact, score_dtype=exact
    )

    def prepare():
        folder = tempfile.TemporaryDirectory()
        model = prepare_model(copy.deepcopy(job.model), Rows())
        made = Analyzer("peers", model, Rows(), cpu=True, disable_tqdm=True, output_dir=folder.name, log_level=50)
        rows = TensorDataset(job.x, job.y)
        made.fit_all_factors("ekfac", rows, per_device_batch_size=n, factor_args=factors, overwrite_output_dir=True)
        return made, folder

    def score(prepared):
        made, _ = prepared  # the folder lives as long as its name is held
        made.compute_pairwise_scores(
            "scores",
            factors_name="ekfac",
            query_dataset=TensorDataset(job.x_test, job.y_test),
            train_dataset=TensorDataset(job.x, job.y),
            per_device_query_batch_size=len(job.x_test),
            per_device_train_batch_size=n,
            score_args=scores,
            overwrite_output_dir=True,
        )
        return made.load_pairwise_scores("scores")["all_modules"].T / n

    return prepare, score


PEERS = {"dattri": dattri, "pyDVL": pydvl, "captum": captum, "kronfluence": kronfluence}
