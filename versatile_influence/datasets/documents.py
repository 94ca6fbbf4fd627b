"""Documents of queries: svmlight with `qid` (LETOR), TREC runs and judgements, long frames."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import listed, numbers, whole
from versatile_influence.core.sizes import SPARSE_FEATURES
from versatile_influence.core.tables import covariates, features, file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Documents:
    """Documents of queries, row by row.

    Attributes:
        x: (rows, features).
        relevance: Grade of each row.
        qid: Query of each row.
        names: Id of each row's document, or None.
    """

    x: Float[Tensor, "rows d"]
    relevance: Float[Tensor, " rows"]
    qid: list
    names: list[str] | None = None


def read_svmlight(path: str | PathLike, *, n_features: int | None = None) -> Documents:
    """Return a LETOR file: `relevance qid:query 1:value 2:value … # docid = name`, features numbered from 1.

    Args:
        path: The file.
        n_features: How many features there are; None for the largest number in the file.

    Raises:
        ValueError: If a line cannot be read, has no `qid`, or a feature of another number; the line is named.
    """
    n_features = None if n_features is None else whole(n_features, "n_features", least=1)
    relevance, qid, cells, names = [], [], [], []
    with open(file(path), encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            text, _, comment = line.partition("#")
            words = text.split()
            if not words:
                continue
            if len(words) < 2 or not words[1].startswith("qid:"):
                raise ValueError(
                    f"Line {number} of {path} has no `qid:`. Each line must read `relevance qid:query 1:…`; a TREC run "
                    "is read with its judgements (`read_trec`, `vif rank --qrels`)."
                )
            try:
                relevance.append(float(words[0]))
                cells.append([(int(c), float(v)) for c, v in (word.split(":") for word in words[2:])])
            except ValueError as error:
                raise ValueError(f"Line {number} of {path} cannot be read: {error}.") from error
            qid.append(words[1][4:])
            most = n_features or SPARSE_FEATURES
            if beyond := [column for column, _ in cells[-1] if not 1 <= column <= most]:
                raise ValueError(
                    f"Line {number} of {path} has feature {beyond[0]}; features run from 1 to {most:,}. Correct the "
                    "line, or number the features anew without gaps."
                )
            if bad := [column for column, value in cells[-1] if not math.isfinite(value)]:
                raise ValueError(
                    f"Feature {bad[0]} of query {qid[-1]} is missing in line {number} of {path}. Fill it, or drop the "
                    "line."
                )
            comment = comment.replace("docid", " ").replace("=", " ").split()
            names.append(comment[0] if comment else None)
    if not cells:
        raise ValueError(f"{path} has no rows.")
    width = n_features or max((column for row in cells for column, _ in row), default=0)
    x = torch.zeros(len(cells), width, dtype=torch.float64)
    for row, pairs in enumerate(cells):
        for column, value in pairs:
            x[row, column - 1] = value
    known = [name for name in names if name is not None]
    return Documents(x, torch.tensor(relevance, dtype=torch.float64), qid, known if len(known) == len(names) else None)


def read_trec(runs: str | PathLike | Sequence[str | PathLike], qrels: str | PathLike) -> Documents:
    """Return TREC runs (`query Q0 document rank score tag`) with judgements (`query 0 document relevance`).

    Each run's score is a feature. A document that a run does not list for a query has the lowest score that the run
    gives there, and what is not judged has relevance 0.

    Args:
        runs: One run, or several over the same queries.
        qrels: The judgements.

    Raises:
        ValueError: If a line has too few fields or no number where one is needed, or a query has no candidate.
    """
    paths = [runs] if isinstance(runs, str | PathLike) else listed(runs, "runs", "paths")
    judged = {(query, name): grade for query, name, grade in _scored(qrels, 3, least=4)}
    tables = [{(query, name): score for query, name, score in _scored(path, 4, least=5)} for path in paths]
    rows = sorted(dict.fromkeys(key for table in tables for key in table), key=lambda key: key[0])
    if missing := {query for query, _ in judged} - {query for query, _ in rows}:
        raise ValueError(f"Query {min(missing)} has judgements in {qrels} but no candidate in {paths[0]}.")
    x = torch.empty(len(rows), len(tables), dtype=torch.float64)
    for column, table in enumerate(tables):
        lowest: dict[str, float] = {}
        for (query, _), score in table.items():
            lowest[query] = min(score, lowest.get(query, score))
        rest = min(lowest.values())
        x[:, column] = torch.tensor([table.get(key, lowest.get(key[0], rest)) for key in rows], dtype=torch.float64)
    relevance = torch.tensor([judged.get(key, 0.0) for key in rows], dtype=torch.float64)
    return Documents(x, relevance, [query for query, _ in rows], [name for _, name in rows])


def _scored(path: str | PathLike, place: int, *, least: int) -> Iterator[tuple[str, str, float]]:
    """Yield query, document and the number at `place` of each line."""
    with open(file(path), encoding="utf-8") as held:
        lines = [(number, line.split()) for number, line in enumerate(held, start=1) if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no rows.")
    for number, words in lines:
        if len(words) < least:
            raise ValueError(f"Line {number} of {path} has {len(words)} fields, {least} are needed.")
        try:
            yield words[0], words[2], float(words[place])
        except ValueError as error:
            raise ValueError(f"Line {number} of {path} cannot be read: {error}.") from error


def from_frame(
    frame: "pd.DataFrame", *, qid: str = "qid", relevance: str = "label", document: str | None = None
) -> Documents:
    """Return a long frame, a row a document of a query; every column not named here is a feature.

    Raises:
        ValueError: If a column is missing.
    """
    left = covariates(frame, {"qid": qid, "relevance": relevance, "document": document})
    frame = frame.sort_values(qid, kind="stable")
    x = features(frame[left].to_numpy(), "frame", rows="row")
    grades = numbers(frame[relevance].to_numpy(), relevance, shape=[len(x)])
    names = frame[document].astype(str).tolist() if document else None
    return Documents(x, grades, frame[qid].tolist(), names)
