"""The page: every record of the experiments as one HTML file that needs nothing else, nor a network."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

from experiments.report import tables
from experiments.report.records import Records
from experiments.report.sections import Figure, Section, sections

HERE = Path(__file__).parent
NAME = "Versatile Influence"
TITLE = "The paper’s results, measured again"
LEAD = (
    "Influence of training objects for losses that are no sum over them: every table and figure of Deng et al., "
    "“A Versatile Influence Function for Data Attribution with Non-Decomposable Loss”, beside what this library "
    "measures on the same data."
)
QUICK_NOTE = "A quick run: smaller settings, declared in each record. It shows that everything runs; it is no result."


def page(records: Records) -> str:
    """Return the page.

    Args:
        records: What to show. Sections without any record say so; records that no section knows come last.

    Example:
        >>> from experiments.report.records import Record, Records
        >>> "<h1>" in page(Records({}, {}))
        True
    """
    known = {name for section in sections() for name in section.records} | {"paper"}
    rest = tuple(sorted(set(records.records) - known))
    more = Section("more", "More measurements", records=rest, about=("Records that belong to no table of the paper.",))
    shown = [*sections(), *([more] if rest else [])]
    quick = f'<p class="quick" role="note"><strong>Quick.</strong> {QUICK_NOTE}</p>' if records.quick else ""
    links = "\n".join(f'<li><a href="#{part.id}">{escape(part.title)}</a></li>' for part in shown)
    body = "\n".join(_section(part, records) for part in shown)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{NAME}: {escape(TITLE)}{" (quick)" if records.quick else ""}</title>
<style>
{(HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<p class="over">{NAME}</p>
<h1>{escape(TITLE)}</h1>
<p class="lead">{escape(LEAD)}</p>
<p>Each number comes from a record: beneath a table stands from which, and where in it. Heads of columns sort.</p>
{quick}
<nav aria-label="Sections"><ul>
{links}
</ul></nav>
</header>
<main>
{body}
</main>
<footer>{_footer(records)}</footer>
<script>
{(HERE / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _section(section: Section, records: Records) -> str:
    found = [name for name in section.records if name in records.records]
    pictures = [figure for figure in section.figures if figure.name in records.pictures]
    parts = [f'<section id="{section.id}" aria-labelledby="{section.id}-title">']
    parts.append(f'<h2 id="{section.id}-title">{escape(section.title)}</h2>')
    parts.append(f"<p>{escape(' '.join(section.about))}</p>")
    if section.rows:
        parts.append(tables.summary(section, records))
    parts += [_figure(figure, records) for figure in pictures]
    if differs := [sentence for each in section.differs if (sentence := tables.text(each, records))]:
        parts.append(f'<div class="differs"><p>{" ".join(differs)}</p></div>')
    parts.append(tables.sources(section, records))
    for name, note in (section.missing or {}).items():
        if name not in records.records:
            parts.append(f'<p class="note">{_code(note)}</p>')
    if not found and not pictures:
        parts.append(
            f'<p class="note">{_code(f"Not measured here: `python -m experiments.reproduce {section.id}` does.")}</p>'
        )
    parts += [_record(name, records) for name in found]
    return "\n".join([*filter(None, parts), "</section>"])


def _record(name: str, records: Records) -> str:
    record = records.records[name]
    about = record.about
    known = {key: str(about[key]) for key in ("date", "commit", "threads", "seed", "cpu") if about.get(key) is not None}
    known |= {"seconds": str(record.numbers["run seconds"])} if "run seconds" in record.numbers else {}
    origin = ", ".join(value if key in ("date", "cpu") else f"{key} {value}" for key, value in known.items())
    return (
        f"<details><summary>All numbers of <code>{escape(name)}</code></summary>\n"
        f'<p class="from"><code>{escape(str(about.get("command", "")))}</code><br>{escape(origin)}<br>'
        f"{escape(_versions(about))}</p>\n{tables.whole(name, record)}\n</details>"
    )


def _figure(figure: Figure, records: Records) -> str:
    image = base64.b64encode(records.pictures[figure.name].read_bytes()).decode()
    return f'<figure><img src="data:image/png;base64,{image}" alt="{escape(figure.alt)}" loading="lazy"></figure>'


def _footer(records: Records) -> str:
    dates = sorted({record.about["date"] for record in records.records.values() if "date" in record.about})
    machines = sorted({record.about["cpu"] for record in records.records.values() if "cpu" in record.about})
    when = (
        f"Measured {dates[0]}{f' to {dates[-1]}' if len(dates) > 1 else ''} on {'; '.join(machines)}. " if dates else ""
    )
    return f"<p>{escape(when)}Each record names its command, commit, seed, threads and versions.</p>"


def _versions(about: dict) -> str:
    versions: Iterable[tuple[str, str]] = about.get("versions", {}).items()
    python = [f"python {about['python']}"] if "python" in about else []
    return ", ".join([*python, *(f"{name} {version}" for name, version in versions)])


def _code(words: str) -> str:
    """Return words as HTML, those between backticks as code."""
    return "".join(f"<code>{part}</code>" if odd % 2 else part for odd, part in enumerate(escape(words).split("`")))
