"""Ranking files in svmlight's format, as scikit-learn, LightGBM, XGBoost and LETOR write them.

    relevance qid:query 1:value 2:value … # docid = name

Features are numbered from 1 (LETOR), or from 0 (scikit-learn's `dump_svmlight_file`, LightGBM, XGBoost). Where lines
have no `qid`, a file beside says how many rows each query has: `name.query` of LightGBM, `name.group` of XGBoost.
"""

import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad

from versatile_influence.core.checks import told, whole
from versatile_influence.core.sizes import LINES, SPARSE_FEATURES
from versatile_influence.core.tables import file
from versatile_influence.datasets.documents import Documents

# What numbers are spelled with: without it, what is left of `1:0.5 2:nan` are its colons and spaces.
SPELLING = b"0123456789.+-eEinfatyINFATY"


def read_svmlight(
    path: str | PathLike,
    *,
    n_features: int | None = None,
    zero_based: bool | None = None,
    groups: str | PathLike | None = None,
) -> Documents:
    """Return the documents of a file, with what was assumed of it in `assumed`.

    Args:
        path: The file.
        n_features: How many features there are; None for as many as the largest number in the file says.
        zero_based: Whether features are numbered from 0; None: where one is numbered 0, as scikit-learn's "auto".
        groups: A file of the number of rows of each query; None: where lines have no `qid`, `path` with `.query` or
            `.group` after it.

    Raises:
        ValueError: If a line cannot be read or has a feature of another number, the line is named; or if nothing says
            which query a line belongs to.
    """
    n_features = None if n_features is None else whole(n_features, "n_features", least=1)
    if zero_based not in (None, True, False):
        raise TypeError(f"`zero_based` must be True, False, or None to see it from the file; got {told(zero_based)}.")
    rows = Rows.read(path, groups)
    return rows.documents(rows.from_zero if zero_based is None else bool(zero_based), n_features)


def read_together(*paths: str | PathLike) -> list[Documents]:
    """Return the documents of files that have the same features: numbered from 0 in all where they are in any.

    A feature that is 0 in all lines of a file may be missing from it.
    """
    files = [Rows.read(path) for path in paths]
    from_zero = any(rows.from_zero for rows in files)
    tables = [rows.documents(from_zero, None) for rows in files]
    if not (width := max(table.x.shape[1] for table in tables)):
        raise ValueError(f"No line of {' or '.join(map(str, paths))} has a feature: `relevance qid:query 1:value …`.")
    return [replace(table, x=pad(table.x, (0, width - table.x.shape[1]))) for table in tables]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a file, taken apart.

    Attributes:
        path: The file.
        relevance, qid, comments, lines: Grade, query, what stands after #, and number of the line, of each row.
        counts: (rows,) how many features each row names.
        columns, values: Their numbers and values, row after row.
        assumed: What was assumed of the queries.
    """

    path: str | PathLike
    relevance: list[float]
    qid: list[str]
    comments: list[str]
    lines: list[int]
    counts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    assumed: tuple[str, ...]

    @classmethod
    def read(cls, path: str | PathLike, groups: str | PathLike | None = None) -> "Rows":
        """Return the rows of a file.

        Raises:
            ValueError: If a line cannot be read; it is named.
        """
        heads, counts, columns, values = [], [], [], []
        with open(file(path), "rb") as held:
            numbered = enumerate(held, start=1)
            while lines := list(islice(numbered, LINES)):
                some, cells = _split(lines, path)
                heads += some
                for kept, part in zip((counts, columns, values), _cells(cells, some, path), strict=True):
                    kept.append(part)
        if not heads:
            raise ValueError(f"{path} has no rows.")
        numbers, relevance, qid, comments = (list(column) for column in zip(*heads, strict=True))
        qid, assumed = _queries(qid, numbers, path, groups)
        counted, column, value = (np.concatenate(parts) for parts in (counts, columns, values))
        return cls(path, relevance, qid, comments, numbers, counted, column, value, assumed)

    @property
    def from_zero(self) -> bool:
        """Whether a feature is numbered 0."""
        return bool((self.columns == 0).any())

    def documents(self, from_zero: bool, n_features: int | None) -> Documents:
        """Return them as a table.

        Raises:
            ValueError: If a feature has another number, is named twice in a row, or is not finite.
        """
        first, n = (0 if from_zero else 1), len(self.lines)
        row, most = np.repeat(np.arange(n), self.counts), (n_features or SPARSE_FEATURES) + first - 1
        if len(bad := np.flatnonzero((self.columns < first) | (self.columns > most))):
            raise ValueError(
                f"Line {self.lines[row[bad[0]]]} of {self.path} has feature {self.columns[bad[0]]}; features run "
                f"from {first} to {most:,}. Correct the line, or number the features anew without gaps."
            )
        if len(bad := np.flatnonzero(~np.isfinite(self.values))):
            place = row[bad[0]]
            raise ValueError(
                f"Feature {self.columns[bad[0]]} of query {self.qid[place]} is missing in line {self.lines[place]} "
                f"of {self.path}. Fill it, or drop the line."
            )
        column = self.columns - first
        x = np.zeros((n, n_features or int(column.max(initial=-1)) + 1))
        x[row, column] = self.values
        if ((np.diff(row) == 0) & (np.diff(column) <= 0)).any():
            self._no_feature_twice(row, column, first)
        said = (
            f"Features of {self.path} are numbered from {first}"
            f"{'' if from_zero == self.from_zero else ', as in the other file'}."
        )
        # `docid = d7`, or d7 alone.
        words = [comment.replace("docid", " ").replace("=", " ").split(None, 1) for comment in self.comments]
        names = [first[0] for first in words if first]
        grades, comments = torch.tensor(self.relevance, dtype=torch.float64), self.comments if any(words) else None
        known = names if len(names) == n else None
        return Documents(torch.from_numpy(x), grades, self.qid, known, (*self.assumed, said), comments)

    def _no_feature_twice(self, row: np.ndarray, column: np.ndarray, first: int) -> None:
        order = np.lexsort((column, row))
        twice = np.flatnonzero((np.diff(row[order]) == 0) & (np.diff(column[order]) == 0))
        if len(twice):
            place = order[twice[0]]
            raise ValueError(
                f"Line {self.lines[row[place]]} of {self.path} has feature {column[place] + first} twice. Keep one."
            )


Head = tuple[int, float, str | None, str]


def _split(lines: list[tuple[int, bytes]], path: str | PathLike) -> tuple[list[Head], list[bytes]]:
    """Return of each line that is no comment its number, relevance, query and comment, and its features as text."""
    heads, texts = [], []
    for number, line in lines:
        text, _, comment = line.partition(b"#")
        label, *rest = text.split(None, 1)[:2] or [b""]
        if not label:
            continue
        qid, cells = None, rest[0] if rest else b""
        if cells.startswith(b"qid:"):
            query, *rest = cells.split(None, 1)
            qid, cells = query[4:].decode(), rest[0] if rest else b""
        try:
            heads.append((number, float(label), qid, comment.decode().strip()))
        except ValueError as error:
            raise ValueError(
                f"Line {number} of {path} begins with {told(label.decode(errors='replace'))}, and with no number: each "
                "line must read `relevance qid:query 1:value …`."
            ) from error
        texts.append(cells)
    return heads, texts


def _cells(cells: list[bytes], heads: list[Head], path: str | PathLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many features each row names, and their numbers and values.

    Raises:
        ValueError: If those of a line are not `number:value …`.
    """
    counts = np.array([part.count(b":") for part in cells], dtype=np.int64)
    text = b" ".join(cells)
    numbers = np.zeros(0)
    # Where it cannot go on NumPy stops, with a warning before 2.4 and an error since: fewer numbers either way.
    with warnings.catch_warnings(), suppress(ValueError):
        warnings.simplefilter("ignore", DeprecationWarning)
        numbers = np.fromstring(text.replace(b":", b" "), sep=" ") if counts.any() else numbers
    columns = numbers[::2].astype(np.int64)
    right = (
        len(numbers) == 2 * counts.sum()
        and b"::" not in text.translate(None, SPELLING)
        and (columns == numbers[::2]).all()
    )
    if right and (counts.any() or not text.strip()):
        return counts, columns, numbers[1::2]
    if len(cells) > 1:
        # Whichever line it is says so by itself.
        for one, head in zip(cells, heads, strict=True):
            _cells([one], [head], path)
    raise ValueError(
        f"Line {heads[0][0]} of {path} cannot be read: features must be `number:value`, got "
        f"{told(text.decode(errors='replace').strip())}."
    )


def _queries(
    qid: list[str | None], lines: list[int], path: str | PathLike, groups: str | PathLike | None
) -> tuple[list[str], tuple[str, ...]]:
    """Return the query of each row: of its line, or as many rows each as a file says.

    Raises:
        ValueError: If only some lines say, nothing says, or the numbers add up to other than the rows.
    """
    known = [query for query in qid if query is not None]
    if len(known) == len(qid) and groups is None:
        return known, ()
    beside = [Path(f"{path}{ending}") for ending in (".query", ".group")]
    there = [one for one in beside if one.is_file()] if groups is None and not known else []
    if groups is None and not there:
        line = next(number for number, query in zip(lines, qid, strict=True) if query is None)
        raise ValueError(
            f"Line {line} of {path} has no `qid:`. Each line must read `relevance qid:query 1:…`, or a file "
            f"{beside[0]} or {beside[1]} hold the number of rows of each query; a TREC run is read with its judgements "
            "(`read_trec`, `vif rank --qrels`)."
        )
    source = there[0] if groups is None else file(groups, "groups")
    words = source.read_text(encoding="utf-8").split()
    if bad := [word for word in words if not word.isascii() or not word.isdigit() or int(word) < 1]:
        raise ValueError(f"{source} must hold the number of rows of each query, a line each; {bad[0]!r} is none.")
    sizes = [int(word) for word in words]
    if sum(sizes) != len(qid):
        raise ValueError(f"The queries of {source} have {sum(sizes):,} rows together, and {path} has {len(qid):,}.")
    found = [str(query + 1) for query, size in enumerate(sizes) for _ in range(size)]
    return found, (f"Queries of {path} are those of {source}, numbered from 1.",)
