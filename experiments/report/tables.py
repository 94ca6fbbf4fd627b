"""Tables of the page, as HTML: those that sections ask for, and any record whole."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from numbers import Real

from experiments.report.records import PLACEHOLDER, Number, Record, Records, is_interval, written
from experiments.report.sections import Section

DASH = "–"
# A list of numbers longer than this is told by its ends.
SHOWN = 6
# Words longer than this run over several lines.
LONG = 60


def data(number: Number) -> str:
    """Return a number that carries its full value and where it comes from.

    Example:
        >>> data(Number(0.99712, "0.997", "cox:r"))
        '<data value="0.99712" data-source="cox:r" title="cox: r">0.997</data>'
    """
    value = number.value["value"] if isinstance(number.value, dict) and is_interval(number.value) else number.value
    source = escape(number.source)
    return (
        f'<data value="{escape(str(value))}" data-source="{source}" title="{source.replace(":", ": ", 1)}">'
        f"{escape(number.text)}</data>"
    )


def text(template: str, records: Records) -> str | None:
    """Return a sentence as HTML with its numbers from the records, or None where one is missing."""
    return records.filled(escape(template, quote=False).replace("&amp;", "&"), write=data)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns can be sorted; the cells are HTML, the first of a row its name."""
    head = "".join(f'<th scope="col"><span>{escape(column)}</span></th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td{_kind(cell)}>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _kind(cell: str) -> str:
    """Return the attribute of a cell that holds words: short ones as a name, long ones as running text."""
    if cell == DASH or cell.startswith("<data"):
        return ""
    return ' class="words"' if len(cell) > LONG else ' class="name"'


def summary(section: Section, records: Records) -> str:
    """Return the section's own table; a cell whose number is missing holds a dash."""
    return table(
        section.title, section.columns, [[text(cell, records) or DASH for cell in row] for row in section.rows]
    )


def sources(section: Section, records: Records) -> str:
    """Return where each number of a section comes from, folded, or nothing where it has none."""
    places = [
        (f"{row[0]}, {row[1]}: {column}", cell)
        for row in section.rows
        for column, cell in zip(section.columns, row, strict=True)
    ]
    places += [("the text", sentence) for sentence in section.differs]
    found = [(place, records.number(reference)) for place, template in places for reference in numbers_of(template)]
    rows = [[escape(place), data(number), f"<code>{escape(number.source)}</code>"] for place, number in found if number]
    if not rows:
        return ""
    caption = f"Where the numbers of “{section.title}” come from"
    return (
        "<details><summary>Where these numbers come from</summary>\n"
        f"{table(caption, ['', 'number', 'record: where in it'], rows)}\n</details>"
    )


def whole(name: str, record: Record) -> str:
    """Return every number of a record, in as many tables as its nesting asks for."""
    return "\n".join(
        f'<p class="above">{escape(part[0])}</p>{table(*part)}' for part in _parts(name, record.numbers, ())
    )


def _parts(name: str, entry: Mapping, path: tuple[str, ...]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    title = " · ".join((name, *path))
    plain = {key: value for key, value in entry.items() if _is_cell(value)}
    if plain:
        rows = [[escape(str(key)), _cell(name, (*path, str(key)), value)] for key, value in plain.items()]
        yield title, ["what", "value"], rows
    for key, value in entry.items():
        if key in plain:
            continue
        below = (*path, str(key))
        named = value if isinstance(value, dict) else {str(number): row for number, row in enumerate(value, start=1)}
        if all(isinstance(row, dict) and all(map(_is_cell, row.values())) for row in named.values()):
            columns = list(dict.fromkeys(column for row in named.values() for column in row))
            yield " · ".join((name, *below)), ["", *columns], _rows(name, below, named, columns)
        else:
            yield from _parts(name, named, below)


def _rows(name: str, path: tuple[str, ...], named: Mapping, columns: list[str]) -> list[list[str]]:
    return [
        [
            escape(key),
            *(_cell(name, (*path, key, column), row[column]) if column in row else DASH for column in columns),
        ]
        for key, row in named.items()
    ]


def _is_cell(value: object) -> bool:
    if isinstance(value, list):
        return not any(isinstance(each, list | dict) for each in value)
    return not isinstance(value, dict) or is_interval(value)


def _cell(name: str, path: tuple[str, ...], value: object) -> str:
    if isinstance(value, list) and len(value) > SHOWN and all(isinstance(each, Real) for each in value):
        return f"{len(value)} numbers, {written(min(value))} to {written(max(value))}"
    if isinstance(value, list) or not isinstance(value, Real | dict) or isinstance(value, bool):
        return escape(written(value))
    return data(Number(value, written(value), f"{name}:{'/'.join(step.replace('/', '∕') for step in path)}"))


def numbers_of(template: str) -> list[str]:
    """Return the references in a text.

    Example:
        >>> numbers_of("r is {cox:r:.3f}")
        ['cox:r:.3f']
    """
    return PLACEHOLDER.findall(template)
