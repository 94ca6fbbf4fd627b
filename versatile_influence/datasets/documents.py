"""Documents of queries, from TREC runs and judgements and from long frames; `svmlight.py` reads LETOR files."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import listed, numbers, told
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
        comments: What stands after # in each row's line, or None.
        assumed: What the file does not say and was assumed, and what of it is left out, a sentence each.
    """

    x: Float[Tensor, "rows d"]
    relevance: Float[Tensor, " rows"]
    qid: list
    names: list[str] | None = None
    assumed: tuple[str, ...] = ()
    comments: list[str] | None = None

    def ranked(self, source: object = "the table") -> "Documents":
        """Return those of queries with two documents or more: of a single one nothing is ranked.

        Args:
            source: What they are from, for what is said.

        Raises:
            ValueError: If there is no such query, or none whose documents have two grades.

        Example:
            >>> one = Documents(torch.zeros(3, 1), torch.tensor([0.0, 0.0, 1.0]), ["a", "b", "b"])
            >>> one.ranked().qid, one.ranked().assumed
            (['b', 'b'], ("Left out ['a'], 1 of 2 queries of the table: of one document nothing is ranked.",))
        """
        graded = {*zip(self.qid, self.relevance.tolist(), strict=True)}
        if len(graded) == len({*self.qid}):
            what = "one document alone" if len(self.qid) == len(graded) else "documents of one relevance"
            raise ValueError(f"Every query of {source} has {what}, so that nothing is ranked. Are the queries right?")
        count = Counter(self.qid)
        if not (single := [query for query, documents in count.items() if documents == 1]):
            return self
        keep = [row for row, query in enumerate(self.qid) if count[query] > 1]
        share = f"{len(single):,} of {len(count):,} queries"
        said = f"Left out {told(single)}, {share} of {source}: of one document nothing is ranked."
        names, comments = (part and [part[row] for row in keep] for part in (self.names, self.comments))
        kept = replace(self, x=self.x[keep], relevance=self.relevance[keep], names=names, comments=comments)
        return replace(kept, qid=[self.qid[row] for row in keep]).saying(said)

    def said_of(self, key: str, source: object = "the table") -> list[str]:
        """Return what each row's comment says of a key, as `# docid = d7 annotator = ann` does of `annotator`.

        Raises:
            ValueError: If one says nothing of it.
        """
        word = re.compile(rf"(?<!\S){re.escape(key)}\s*[=:]\s*(\S+)")
        found = [word.search(comment) for comment in self.comments or [""] * len(self.qid)]
        if without := [query for query, said in zip(self.qid, found, strict=True) if said is None]:
            raise ValueError(
                f"{len(without):,} of {len(found):,} lines of {source}, the first of query {without[0]}, do not say "
                f"`{key} = …` after #. Remove documents or queries, or have each line say it."
            )
        return [said[1] for said in found if said is not None]

    def saying(self, words: str) -> "Documents":
        """Return the same with one more sentence on what was assumed."""
        return replace(self, assumed=(*self.assumed, words))


def read_trec(runs: str | PathLike | Sequence[str | PathLike], qrels: str | PathLike) -> Documents:
    """Return TREC runs (`query Q0 document rank score tag`) with judgements (`query 0 document relevance`).

    Each run's score is a feature. A document that a run does not list for a query has the lowest score that the run
    gives there, and what is not judged has relevance 0. A judged query without any candidate is left out, and said.

    Args:
        runs: One run, or several over the same queries.
        qrels: The judgements.

    Raises:
        ValueError: If a line has too few fields or no number where one is needed, or no judged query has a candidate.
    """
    paths = [runs] if isinstance(runs, str | PathLike) else listed(runs, "runs", "paths")
    judged = {(query, name): grade for query, name, grade in _scored(qrels, 3, least=4)}
    tables = [{(query, name): score for query, name, score in _scored(path, 4, least=5)} for path in paths]
    rows = sorted(dict.fromkeys(key for table in tables for key in table), key=lambda key: key[0])
    asked, there = {query for query, _ in judged}, {query for query, _ in rows}
    if not asked & there:
        raise ValueError(
            f"No query of {qrels}, such as {min(asked)}, has a candidate in {paths[0]}. Are both of one set?"
        )
    x = torch.empty(len(rows), len(tables), dtype=torch.float64)
    for column, table in enumerate(tables):
        lowest: dict[str, float] = {}
        for (query, _), score in table.items():
            lowest[query] = min(score, lowest.get(query, score))
        rest = min(lowest.values())
        x[:, column] = torch.tensor([table.get(key, lowest.get(key[0], rest)) for key in rows], dtype=torch.float64)
    relevance = torch.tensor([judged.get(key, 0.0) for key in rows], dtype=torch.float64)
    found = Documents(x, relevance, [query for query, _ in rows], [name for _, name in rows])
    if not (missing := sorted(asked - there)):
        return found
    share = f"{len(missing):,} of {len(asked):,} judged queries"
    return found.saying(f"Left out {told(missing)}, {share} of {qrels}: no candidate in {paths[0]}.")


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
            raise ValueError(f"Line {number} of {path} has {told(words[place])} where a number is needed.") from error


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
