"""Ranking data: multi-label ARFF (Delicious, Mediamill), svmlight with `qid`, TREC runs and judgements, long frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.datasets.files import find

if TYPE_CHECKING:
    import pandas as pd

MULAN = "https://raw.githubusercontent.com/tsoumakas/mulan/43f6389095ad71984264db4387a8074b22bc7d4a/data/multi-label/"
DELICIOUS = {
    "delicious-train.arff": "030186cdb542ebdd32052fcdbb1ebe30115b3a22518c1b4b198c45eb827aebe1",
    "delicious-test.arff": "2dfb01723a819914b0ca83361177ed413ce3f2169851d9f228d4692915d63944",
}
BOOMER = "https://media.githubusercontent.com/media/mrapp-ke/Boomer-Datasets/main/data/"
MEDIAMILL = {
    "mediamill_training.arff": "cc03255aff4ed26a56bf0607c194f1257a36eba4816b2733bbf384db30530475",
    "mediamill_test.arff": "7dec9a71c8eaa2ec2f7d911d9bc52f8c4a3025100a2693b4a4acf0c52c2dfafe",
}


@dataclass(frozen=True)
class MultiLabel:
    """Rows with features and a set of labels each.

    Attributes:
        x: (rows, features), sparse.
        labels: (rows, labels), sparse, 1 where a row has the label.
        label_names: Names of the labels.
    """

    x: scipy.sparse.csr_matrix
    labels: scipy.sparse.csr_matrix
    label_names: list[str]

    def lists(self, universe: Iterable[int] | None = None) -> list[list[int]]:
        """Return each row's labels in ascending order, as positions in `universe` (all labels where it is None).

        Labels of one row have no order of their own; ascending ids are the convention here.
        """
        labels: Any = self.labels
        chosen = list(range(labels.shape[1]) if universe is None else universe)
        part = labels[:, chosen].tocsr().sorted_indices()
        return [part.indices[start:stop].tolist() for start, stop in zip(part.indptr, part.indptr[1:], strict=False)]


def delicious(folder: str | PathLike | None = None) -> tuple[MultiLabel, MultiLabel]:
    """Return Delicious, 12,920 training and 3,185 test rows with 500 words and 983 tags.

    References:
        Tsoumakas, Katakis & Vlahavas (2008), "Effective and efficient multilabel classification in domains with large
        number of labels".
    """
    train, test = (
        find(name, url=f"{MULAN}delicious/{name}", sha256=sha256, folder=folder) for name, sha256 in DELICIOUS.items()
    )
    return read_arff(train, n_labels=983), read_arff(test, n_labels=983)


def mediamill(folder: str | PathLike | None = None) -> tuple[MultiLabel, MultiLabel]:
    """Return Mediamill, 30,993 training and 12,914 test rows with 120 real features and 101 labels.

    References:
        Snoek et al. (2006), "The challenge problem for automated detection of 101 semantic concepts in multimedia".
    """
    train, test = (find(name, url=BOOMER + name, sha256=sha256, folder=folder) for name, sha256 in MEDIAMILL.items())
    return read_arff(train, n_labels=101), read_arff(test, n_labels=101)


def read_arff(path: str | PathLike, *, n_labels: int) -> MultiLabel:
    """Return a multi-label ARFF file, dense or sparse, whose last `n_labels` attributes are the labels.

    Raises:
        ValueError: If a line cannot be read; the line is named.
    """
    names, rows, columns, values, count = [], [], [], [], 0
    with open(path, encoding="utf-8") as file:
        lines = enumerate(file, start=1)
        for _, line in lines:
            word = line.strip().split(None, 1)[0].lower() if line.strip() else ""
            if word == "@data":
                break
            if word == "@attribute":
                names.append(line.split(None, 1)[1].rsplit(None, 1)[0].split("{")[0].strip().strip("'\""))
        for number, line in lines:
            text = line.strip()
            if not text or text.startswith("%"):
                continue
            for column, value in _arff_cells(text, path, number=number, width=len(names)):
                rows.append(count)
                columns.append(column)
                values.append(value)
            count += 1
    if n_labels >= len(names) or n_labels < 1 or not count:
        raise ValueError(f"{path} has {len(names)} attributes and {count} rows; {n_labels} of them cannot be labels.")
    table = scipy.sparse.csr_matrix((values, (rows, columns)), shape=(count, len(names)))
    x, labels = table[:, :-n_labels].tocsr(), table[:, -n_labels:].tocsr()
    labels.eliminate_zeros()
    return MultiLabel(x, labels, names[-n_labels:])


def _arff_cells(text: str, path: str | PathLike, *, number: int, width: int) -> Iterator[tuple[int, float]]:
    sparse = text.startswith("{")
    try:
        cells = text.strip("{}").split(",") if text.strip("{} ") else []
        pairs = [cell.split() for cell in cells] if sparse else list(enumerate(cells))
        found = [(int(column), float(value)) for column, value in pairs]
    except ValueError as error:
        raise ValueError(f"Line {number} of {path} cannot be read: {error}. Values must be numbers.") from error
    if any(not 0 <= column < width for column, _ in found) or (not sparse and len(found) != width):
        raise ValueError(f"Line {number} of {path} does not fit its {width} attributes.")
    return iter([cell for cell in found if cell[1] != 0.0])


def truncated_svd(train: scipy.sparse.csr_matrix, others: list, *, rank: int = 8) -> list[Float[Tensor, "rows rank"]]:
    """Return `train` and `others` projected on the leading right singular vectors of `train` alone.

    Equivalent to scikit-learn's `TruncatedSVD(rank)` fitted on `train`, up to sign, and deterministic.
    """
    matrix: Any = train.astype(np.float64)
    found: Any = scipy.sparse.linalg.svds(matrix, k=rank, v0=np.ones(min(matrix.shape)))
    directions = found[2][np.argsort(-found[1])]
    return [torch.from_numpy(np.asarray(x @ directions.T)) for x in (train, *others)]


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

    Raises:
        ValueError: If a line cannot be read or has no `qid`; the line is named.
    """
    relevance, qid, cells, names = [], [], [], []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            text, _, comment = line.partition("#")
            words = text.split()
            if not words:
                continue
            if len(words) < 2 or not words[1].startswith("qid:"):
                raise ValueError(
                    f"Line {number} of {path} has no `qid:`. Each line must read `relevance qid:query 1:…`."
                )
            try:
                relevance.append(float(words[0]))
                cells.append([(int(c), float(v)) for c, v in (word.split(":") for word in words[2:])])
            except ValueError as error:
                raise ValueError(f"Line {number} of {path} cannot be read: {error}.") from error
            qid.append(words[1][4:])
            comment = comment.replace("docid", " ").replace("=", " ").split()
            names.append(comment[0] if comment else None)
    if not cells:
        raise ValueError(f"{path} has no rows.")
    width = n_features or max((column for row in cells for column, _ in row), default=0)
    x = torch.zeros(len(cells), width, dtype=torch.float64)
    for row, entries in enumerate(cells):
        for column, value in entries:
            if not 1 <= column <= width:
                raise ValueError(f"Row {row} of {path} has feature {column}; features run from 1 to {width}.")
            x[row, column - 1] = value
    known = [name for name in names if name is not None]
    return Documents(x, torch.tensor(relevance, dtype=torch.float64), qid, known if len(known) == len(names) else None)


def read_trec(run: str | PathLike, qrels: str | PathLike) -> Documents:
    """Return a TREC run (`query Q0 document rank score tag`) with its judgements (`query 0 document relevance`).

    The one feature is the run's score; what is not judged has relevance 0.

    Raises:
        ValueError: If a line has too few fields, or a query has no candidate.
    """
    judged = {(line[0], line[2]): float(line[3]) for line in _fields(qrels, 4)}
    lines = sorted(enumerate(_fields(run, 5)), key=lambda entry: entry[1][0])
    rows = [line for _, line in lines]
    if missing := {query for query, _ in judged} - {line[0] for line in rows}:
        raise ValueError(f"Query {min(missing)} has judgements in {qrels} but no candidate in {run}.")
    scores = torch.tensor([[float(line[4])] for line in rows], dtype=torch.float64)
    relevance = torch.tensor([judged.get((line[0], line[2]), 0.0) for line in rows], dtype=torch.float64)
    return Documents(scores, relevance, [line[0] for line in rows], [line[2] for line in rows])


def _fields(path: str | PathLike, least: int) -> list[list[str]]:
    with open(path, encoding="utf-8") as file:
        lines = [line.split() for line in file if line.strip()]
    for number, line in enumerate(lines, start=1):
        if len(line) < least:
            raise ValueError(f"Line {number} of {path} has {len(line)} fields, {least} are needed.")
    return lines


def from_frame(
    frame: "pd.DataFrame", *, qid: str = "qid", relevance: str = "label", document: str | None = None
) -> Documents:
    """Return a long frame, a row a document of a query; every column not named here is a feature.

    Raises:
        ValueError: If a column is missing.
    """
    named = [qid, relevance, *([document] if document else [])]
    if absent := [column for column in named if column not in frame]:
        raise ValueError(f"The frame has no column {absent[0]!r}; it has {list(frame.columns)}.")
    frame = frame.sort_values(qid, kind="stable")
    x = torch.from_numpy(frame.drop(columns=named).to_numpy(dtype=np.float64))
    grades = torch.from_numpy(frame[relevance].to_numpy(dtype=np.float64))
    names = frame[document].astype(str).tolist() if document else None
    return Documents(x, grades, frame[qid].tolist(), names)
