"""Sections of the page: what each shows, and which scripts measure it. Their text is in `sections.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).parent / "sections.toml"


@dataclass(frozen=True)
class Figure:
    """A picture of a record, with the words that stand for it."""

    name: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A table or figure of the paper, or what it has not.

    Attributes:
        id: How it is named.
        title: Its heading.
        scripts: Names of the scripts that measure it.
        records: Names of the records that are shown whole.
        about: What is measured, in sentences.
        columns: Heads of its table, if it has one.
        rows: Rows of that table, a text with references a cell.
        differs: Where ours differs from the paper and why, in sentences.
        figures: Its pictures.
        missing: What is said where a record is missing, by its name.
    """

    id: str
    title: str
    scripts: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    differs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    missing: Mapping[str, str] | None = None

    @property
    def beyond(self) -> bool:
        """Whether the paper has nothing of the kind."""
        return self.title.startswith("Beyond the paper")


def by_both() -> tuple[str, ...]:
    """Return names of the scripts that measure by the paper's protocol as well as on stationary ground.

    Example:
        >>> "table2" in by_both()
        True
    """
    return tuple(_texts()["by_both"])


def sections() -> list[Section]:
    """Return all sections, in the page's order.

    Example:
        >>> [section.id for section in sections()][:2]
        ['table1', 'table2']
    """
    return [_section(entry) for entry in _texts()["section"]]


def _texts() -> dict:
    return tomllib.loads(TEXTS.read_text(encoding="utf-8"))


def _section(entry: dict) -> Section:
    return Section(
        id=entry["id"],
        title=entry["title"],
        scripts=tuple(entry["scripts"]),
        records=tuple(entry["records"]),
        about=tuple(entry["about"]),
        columns=tuple(entry.get("columns", ())),
        rows=tuple(tuple(row) for row in entry.get("rows", ())),
        differs=tuple(entry.get("differs", ())),
        figures=tuple(Figure(figure["name"], figure["alt"]) for figure in entry.get("figures", ())),
        missing=entry.get("missing"),
    )
