"""Edges as people write them: files, tables and lists, an edge a row; what is wrong is said of its row."""

import ast
import csv
import gzip
import math
import sys
import zlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.tables import file

# What the columns of ends and weights are called: by Gephi, igraph, Cytoscape, networkx and in data sets.
STARTS, ENDS = (
    {"source", "from", "src", "node1", "u", "start", "id1"},
    {"target", "to", "dst", "node2", "v", "end", "id2"},
)
WEIGHTS = {"weight", "weights", "w", "value", "count"}
FORM = (
    "An edge is `source target` or `source target weight`, separated by blanks, or by tabs, commas or semicolons, "
    "which names with blanks need; the same number of columns on every line."
)


@dataclass(frozen=True)
class Edges:
    """Edges between named nodes, each with the row that it comes from.

    Attributes:
        ends: Names of the two ends.
        weights: Its weight.
        rows: Where it stands, in words.
    """

    ends: Sequence[tuple[Hashable, Hashable]]
    weights: Sequence[float]
    rows: Sequence[str]

    def graph(self, *, directed: bool) -> tuple[list[Hashable], Int[Tensor, "m 2"], Float[Tensor, " m"]]:
        """Return the names of the nodes, the ends of each edge by number and its weight, each edge once.

        An undirected edge may be listed both ways with one weight; it is one edge.

        Raises:
            ValueError: If there is none, one is a self-loop or has no weight, or one is listed twice.
        """
        if not self.ends:
            raise ValueError("There are no edges. Give one edge a row: source, target, weight or none.")
        labels: list[Hashable] = list(dict.fromkeys(name for pair in self.ends for name in pair))
        if all(isinstance(name, int) for name in labels):
            labels = sorted(labels)  # pyright: ignore[reportArgumentType]
        number = {name: place for place, name in enumerate(labels)}
        known: dict[tuple[int, int], int] = {}
        for place, (pair, weight) in enumerate(zip(self.ends, self.weights, strict=True)):
            a, b = number[pair[0]], number[pair[1]]
            if a == b:
                raise ValueError(
                    f"{self.rows[place]} joins node {pair[0]!r} to itself. Walks with self-loops count a node as its "
                    "own context: leave such rows out."
                )
            if not 0 < weight < math.inf:
                raise ValueError(
                    f"{self.rows[place]}: the weight is {weight:g}; weights must be positive and finite. Leave absent "
                    "edges out."
                )
            again = known.get((a, b), None if directed else known.get((b, a)))
            if again is None:
                known[a, b] = place
            elif self.ends[again] == pair or self.weights[again] != weight:
                differ = f", with weights {self.weights[again]:g} and {weight:g}" * (self.ends[again] != pair)
                cure = "Sum their weights first" + ", or pass directed=True" * (self.ends[again] != pair)
                raise ValueError(
                    f"{self.rows[place]} lists the edge {pair[0]!r}–{pair[1]!r} again, after "
                    f"{self.rows[again]}{differ}. {cure}."
                )
        ends = torch.tensor([*known], dtype=torch.long).reshape(-1, 2)
        return labels, ends, torch.tensor([self.weights[place] for place in known.values()], dtype=torch.float64)


def of_file(path: str | PathLike, *, weight: str | None = None) -> Edges:
    """Return the edges of a file, which may be compressed (.gz); lines that start with # or % are skipped.

    Columns are separated by tabs, semicolons or commas where the first line has one, and otherwise by blanks. A first
    line of names (`source`, `target`, `weight`, among others) says which columns are meant. What networkx's
    `write_edgelist` adds, {'weight': 2.0}, is read too.

    Args:
        path: The file.
        weight: The attribute or column that holds weights; None for `weight` where there is one, and for 1 elsewhere.

    Raises:
        ValueError: If a line is no edge, with its number.
    """
    place = file(path, "graph")
    opened = gzip.open if place.suffix == ".gz" else open
    try:
        with opened(place, "rt", encoding="utf-8-sig", newline=None) as lines:
            given = [(f"Line {number} of {path}", line.rstrip("\r\n")) for number, line in enumerate(lines, start=1)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}. Save it as UTF-8, with one edge a line.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file: {error}. Compress it again, or take .gz off.") from error
    given = [(row, line) for row, line in given if line.strip() and not line.lstrip().startswith(("#", "%"))]
    if not given:
        raise ValueError(f"{path} holds no edges. Give one edge a line: source target [weight].")
    words = _words([line for _, line in given])
    header, rows = _header(words), [row for row, _ in given]
    columns = [word.strip().lower() for word in words[0]] if header else []
    table, rows = (words[1:], rows[1:]) if header else (words, rows)
    if not table:
        raise ValueError(f"{path} holds a header and no edges. Give one edge a line: source target [weight].")
    width = len(columns) or len(table[0])
    start, end, third = _places(columns, width, weight, path)
    for row, found in zip(rows, table, strict=True):
        wrong = len(found) != width or width < 2 or (not columns and width > 3)
        if wrong or not found[start] or not found[end]:
            raise ValueError(f"{row} has {len(found)} columns: {' '.join(found)!r}. {FORM}")
    numbers = all(_is_whole(found[place]) for found in table for place in (start, end))
    ends = [(found[start], found[end]) for found in table]
    weights = [
        1.0 if third is None else _weight(found[third], row, weight) for found, row in zip(table, rows, strict=True)
    ]
    return Edges([(int(a), int(b)) for a, b in ends] if numbers else ends, weights, rows)


def of_frame(frame: Any, *, weight: str | None = None) -> Edges:
    """Return the edges of a pandas frame: columns `source` and `target`, or the first two; see `of_file` for weights.

    Raises:
        ValueError: If it has fewer than two columns, no such weight, or a name is missing; its row is named.
    """
    if frame.shape[1] < 2:
        raise ValueError("A frame of edges has columns `source` and `target`, and perhaps `weight`.")
    columns = [str(name).strip().lower() for name in frame.columns]
    start, end, third = _places(columns, len(columns), weight, "the frame")
    rows = [f"Row {name!r} of the frame" for name in frame.index.tolist()]
    ends = list(zip(frame.iloc[:, start].tolist(), frame.iloc[:, end].tolist(), strict=True))
    for row, pair in zip(rows, ends, strict=True):
        if any(name is None or str(name) in ("nan", "<NA>", "NaT") for name in pair):
            raise ValueError(f"{row} has no name for a node: {pair}. Leave such rows out, or name the node.")
    given = [1.0] * len(ends) if third is None else frame.iloc[:, third].tolist()
    return Edges(ends, [_weight(one, row, weight) for one, row in zip(given, rows, strict=True)], rows)


def of_pairs(pairs: Iterable[tuple], *, weight: str | None = None) -> Edges:
    """Return the edges of a list of (source, target), (source, target, weight) or (source, target, attributes).

    Raises:
        ValueError: If an entry is none of those; its position is named.
    """
    ends, weights, rows = [], [], []
    for place, entry in enumerate(pairs):
        row = f"Entry {place} of the list"
        if len(entry) not in (2, 3):
            raise ValueError(f"{row} is {entry!r}. An edge is (source, target) or (source, target, weight).")
        ends.append((entry[0], entry[1]))
        weights.append(_weight(entry[2] if len(entry) == 3 else 1.0, row, weight))
        rows.append(row)
    return Edges(ends, weights, rows)


def listed(graph: Any, *, weight: str | None) -> Edges | None:
    """Return the edges of a file, a frame or a list; None of what is none of those."""
    if isinstance(graph, str | PathLike):
        return of_file(graph, weight=weight)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(graph, pandas.DataFrame):
        return of_frame(graph, weight=weight)
    # Rows of a dense matrix are lists.
    if isinstance(graph, list) and all(isinstance(entry, tuple) for entry in graph):
        return of_pairs(graph, weight=weight)
    return None


def _words(lines: list[str]) -> list[list[str]]:
    """Return the columns of each line; of what networkx writes at its end, {…}, as one column."""
    bare = lines[0].split("{")[0]
    for mark in ("\t", ";", ","):
        if mark in bare:
            return [[word.strip() for word in row] for row in csv.reader(lines, delimiter=mark, skipinitialspace=True)]
    heads = [line.partition("{") for line in lines]
    return [[*head.split(), *(["{" + rest] if mark else [])] for head, mark, rest in heads]


def _header(words: list[list[str]]) -> bool:
    """Return whether the first line names the columns."""
    first, others = words[0], words[1:]
    named = {word.lower() for word in first}
    # Nodes may have such names too: then they occur further down.
    if named & STARTS and named & ENDS and not named & {word.lower() for row in others for word in row[:2]}:
        return True
    # Words above numbers alone are names of columns too.
    numbered = bool(others) and all(_is_whole(word) for row in others for word in row[:2])
    return numbered and not any(map(_is_whole, first[:2]))


def _places(columns: list[str], width: int, weight: str | None, where: object) -> tuple[int, int, int | None]:
    """Return in which columns the ends and the weight are."""
    start = next((place for place, name in enumerate(columns) if name in STARTS), 0)
    end = next((place for place, name in enumerate(columns) if name in ENDS), 1 - start if start < 2 else 1)
    if weight is not None and columns and weight.lower() not in columns:
        raise ValueError(f"There is no column {weight!r} in {where}. The columns are: {', '.join(columns)}.")
    if columns:
        wanted = WEIGHTS if weight is None else {weight.lower()}
        return start, end, next((place for place, name in enumerate(columns) if name in wanted), None)
    if weight is not None and width == 2:
        raise ValueError(f"There is no column {weight!r} in {where}: it has two, without names. {FORM}")
    return 0, 1, 2 if width == 3 else None


def _weight(given: Any, row: str, name: str | None) -> float:
    if isinstance(given, str) and given.startswith("{"):
        try:
            given = ast.literal_eval(given)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{row}: {given!r} is no dict of attributes. {FORM}") from error
    if isinstance(given, dict):
        if name is not None and name not in given:
            raise ValueError(f"{row} has no attribute {name!r}: {given}. Every edge needs it.")
        given = given.get(name or "weight", 1.0)
    try:
        # 1_000 is a number to Python alone.
        return float("none" if isinstance(given, str) and "_" in given else given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{row}: the weight {given!r} is not a number. {FORM}") from error


def _is_whole(word: str) -> bool:
    """Return whether a word is a number as Python writes it: 01 is another name than 1."""
    return word.isascii() and word.removeprefix("-").isdigit() and str(int(word)) == word
