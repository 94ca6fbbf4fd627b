"""How good held-out rankings are, as targets: NDCG@k, reciprocal rank and recall@k, exact or with soft ranks.

Exact, they are steps, whose gradient is 0 wherever there is one: `vif.newton_step` and `vif.refit` evaluate them at the
parameters without the object. With `ranks=SoftRanks(…)` they are smooth, and `vif.attribute` explains them.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.arguments import function
from versatile_influence.core.checks import instance, listed, whole
from versatile_influence.core.ravel import Params
from versatile_influence.core.target import LabelledTarget
from versatile_influence.losses.softmax.documents import relevance_grades
from versatile_influence.losses.softmax.ranking_data import grouped_rows, padded
from versatile_influence.losses.softmax.ranks import EXACT, Ranks, SoftRanks, normalised

Scores = Callable[[Any], Tensor]
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]


def ndcg(
    scores: Scores, relevance: object, qid: object, *, k: int = 10, ranks: SoftRanks | None = None
) -> LabelledTarget:
    """Return the target NDCG@k of each held-out query; 0 for one without a relevant document.

    The documents of a test query stay, whoever is removed from training: `ndcg_change` is for items that also leave it.

    Args:
        scores: From parameters to the scores of the rows, such as `vif.losses.Linear(x)`.
        relevance: (rows,) grades, 0 to 1000; a gain is 2^grade − 1.
        qid: (rows,) the row's query; the rows of a query stand together.
        k: How deep.
        ranks: None for the ranks themselves: a step function, for `newton_step` and `refit`. `SoftRanks(temperature)`
            for ApproxNDCG@k, for `attribute` too.

    References:
        Järvelin & Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques"; Qin, Liu & Li (2010).

    Example:
        >>> target = ndcg(lambda scores: scores, [1, 0], ["a", "a"])
        >>> target(torch.tensor([1.0, 2.0])).tolist()  # 1/log₂ 3
        [0.630...]
    """
    k, by = whole(k, "k", least=1), _ranks(ranks)

    def measure(scores: Tensor, grades: Tensor, there: Tensor) -> Tensor:
        places = by.ranks(scores, there)
        return (normalised(grades, there, k) * by.within(places, k) / torch.log2(1 + places)).sum(-1)

    return _measured(f"NDCG@{k}", measure, scores, relevance, qid)


def reciprocal_rank(
    scores: Scores, relevance: object, qid: object, *, ranks: SoftRanks | None = None
) -> LabelledTarget:
    """Return the target 1/rank of the first relevant document of each held-out query, whose mean is MRR.

    Relevant is what has a grade above 0. With soft ranks it is Σ_i y_i/π_i Π_{j≠i} (1 − y_j σ((s_j − s_i)/τ)), the
    first relevant document being the one that no other is ahead of. Other arguments and words are those of `ndcg`.

    References:
        Voorhees (1999) for MRR; Shi et al. (2012), "CLiMF", Eqs. 2–3.

    Example:
        >>> target = reciprocal_rank(lambda scores: scores, [1, 0], ["a", "a"])
        >>> target(torch.tensor([1.0, 2.0])).tolist()
        [0.5]
    """
    by = _ranks(ranks)

    def measure(scores: Tensor, grades: Tensor, there: Tensor) -> Tensor:
        relevant = (grades > 0) * there
        first = (1 - by.ahead(scores) * relevant[:, None, :]).prod(-1)
        return (relevant * first / by.ranks(scores, there)).sum(-1)

    return _measured("reciprocal rank", measure, scores, relevance, qid)


def recall(
    scores: Scores, relevance: object, qid: object, *, k: int = 10, ranks: SoftRanks | None = None
) -> LabelledTarget:
    """Return the target recall@k of each held-out query: the share of its relevant documents among the first k.

    Relevant is what has a grade above 0; without any it is 0. Other arguments and words are those of `ndcg`.

    Example:
        >>> target = recall(lambda scores: scores, [1, 0, 1], ["a", "a", "a"], k=2)
        >>> target(torch.tensor([1.0, 2.0, 3.0])).tolist()
        [0.5]
    """
    k, by = whole(k, "k", least=1), _ranks(ranks)

    def measure(scores: Tensor, grades: Tensor, there: Tensor) -> Tensor:
        relevant = (grades > 0) * there
        found = (relevant * by.within(by.ranks(scores, there), k)).sum(-1)
        return found / relevant.sum(-1).clamp_min(1)

    return _measured(f"recall@{k}", measure, scores, relevance, qid)


def _ranks(given: SoftRanks | None) -> Ranks:
    return EXACT if given is None else instance(given, "ranks", SoftRanks, "vif.losses.SoftRanks()")


def _measured(name: str, measure: Measure, scores: Scores, relevance: object, qid: object) -> LabelledTarget:
    """Return the target of a measure of (scores, grades, who is there), (queries, d) each."""
    of_rows = function(scores, "scores", "params")
    groups, ids = grouped_rows(qid)
    grades = relevance_grades(relevance, n := len(listed(qid, "qid", "names")))
    table, there = padded(groups)

    def value(params: Params) -> Float[Tensor, " q"]:
        given = of_rows(params).reshape(-1)
        if len(given) != n:
            raise ValueError(f"`scores` must give one score a row of `qid`: {n}, got {len(given)}.")
        return measure(given[table], grades[table].to(given), there.to(given))

    return LabelledTarget(value, [f"{name} of {query}" for query in ids])
