"""Multi-label data, of which rankings of labels are made: ARFF files, Delicious, Mediamill."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import whole
from versatile_influence.core.tables import file
from versatile_influence.datasets.files import find

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
    n_labels = whole(n_labels, "n_labels", least=1)
    names, rows, columns, values, count = [], [], [], [], 0
    with open(file(path), encoding="utf-8") as held:
        lines = enumerate(held, start=1)
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
    if not names:
        raise ValueError(f"{path} has no line `@attribute`: an ARFF file has, and needs it to know its labels.")
    if n_labels >= len(names) or not count:
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
    # The solver finds fewer than there are.
    rank = whole(rank, "rank", least=1, most=min(matrix.shape) - 1)
    found: Any = scipy.sparse.linalg.svds(matrix, k=rank, v0=np.ones(min(matrix.shape)))
    directions = found[2][np.argsort(-found[1])]
    return [torch.from_numpy(np.asarray(x @ directions.T)) for x in (train, *others)]
