"""The paper's tables and figures, measured again and shown as one HTML page.

python -m experiments.reproduce [WHAT …] [--quick] [--out FOLDER]
python -m experiments.reproduce page FOLDER … [--quick] [--out HTML]
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from experiments.report import Records, by_both, page, sections
from experiments.report.scripts import Script, scripts

COMMAND = "python -m experiments.reproduce"
PAGE = "page.html"


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 something is missing or failed, 2 the words of the call are wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return show(page_words(words[1:])) if words[:1] == ["page"] else measure(measure_words(words))
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
    return 1


def measure_words(words: Sequence[str]) -> argparse.Namespace:
    """Return the words of a call that measures."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Run the experiments behind tables and figures of the paper, keep their records, and write them as "
        "one HTML page. A record of the same settings is kept; `--again` measures anew.",
        epilog=f"`{COMMAND} page FOLDER …` writes records that are there as a page.",
    )
    names = ", ".join(section.id for section in sections())
    parser.add_argument(
        "what", nargs="*", default=["all"], help=f"all of the paper (the default), everything, a script, or of: {names}"
    )
    parser.add_argument("--protocol", choices=("stationary", "paper"), help="only with this ground truth")
    parser.add_argument("--quick", action="store_true", help="smaller settings, marked in every record and on the page")
    parser.add_argument("--data", metavar="FOLDER", help="folder of the data files")
    parser.add_argument("--out", metavar="FOLDER", default="reproduced", help="records and page (default: reproduced)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn (default 0)")
    parser.add_argument("--again", action="store_true", help="measure also what is finished")
    return parser.parse_args(words)


def page_words(words: Sequence[str]) -> argparse.Namespace:
    """Return the words of a call that only writes the page."""
    parser = argparse.ArgumentParser(
        prog=f"{COMMAND} page",
        description="Write the records in FOLDERs, such as experiments/results, as an HTML page that needs no network.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders of records")
    parser.add_argument("--quick", action="store_true", help="those of quick runs")
    parser.add_argument("--out", metavar="HTML", default=PAGE, help=f"the file (default: {PAGE})")
    return parser.parse_args(words)


def measure(args: argparse.Namespace) -> int:
    """Return 0 where all that is asked for was measured, 1 where something failed."""
    chosen, out, failed = wanted(args.what, protocol=args.protocol), Path(args.out), []
    if args.data and not Path(args.data).is_dir():
        raise ValueError(f"There is no folder {args.data} (--data).")
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(chosen, unit="script", file=sys.stderr) as bar:
        for script in bar:
            bar.set_description(script.name)
            if not args.again and (kept := script.finished(out, quick=args.quick, seed=args.seed)):
                bar.write(f"{script.name}: kept {', '.join(path.name for path in kept)}; --again measures anew")
                continue
            if words := script.run(out, quick=args.quick, seed=args.seed, data=args.data):
                failed.append(script.name)
                bar.write(f"{script.name}: {words}")
    path = out / PAGE
    path.write_text(page(Records.read([out], quick=args.quick)), encoding="utf-8")
    print(f"{'quick run: ' if args.quick else ''}{len(chosen) - len(failed)} of {len(chosen)} scripts done; see {path}")
    return 1 if failed else 0


def show(args: argparse.Namespace) -> int:
    """Return 0 when the page is written."""
    records = Records.read(args.folders, quick=args.quick)
    # The paper's own numbers are always there.
    if len(records.records) == 1:
        kind, other = ("quick", "Leave out --quick") if args.quick else ("full", "Add --quick")
        raise ValueError(
            f"There is no record of a {kind} run in {', '.join(args.folders)}. `{COMMAND}` writes some. {other} for "
            "the other kind."
        )
    Path(args.out).write_text(page(records), encoding="utf-8")
    print(f"wrote {args.out}")
    return 0


def wanted(what: list[str], *, protocol: str | None = None) -> list[Script]:
    """Return the scripts behind tables, figures or names.

    Raises:
        ValueError: If something is unknown, or nothing measures it here.
    """
    there = scripts()
    known: dict[str, Iterable[str]] = {section.id: section.scripts for section in sections()}
    known["all"] = [name for section in sections() if not section.beyond for name in section.scripts]
    known["everything"] = there
    if strange := [word for word in what if word not in {*known, *there}]:
        raise ValueError(f"There is no {strange[0]!r} to reproduce. There are: {', '.join([*known, *there])}.")
    names = [name for word in what for name in known.get(word, (word,))]
    if protocol:
        paper = protocol == "paper"
        names = [name for name in names if name in by_both() or name.startswith("paper_") == paper]
    chosen = [there[name] for name in dict.fromkeys(names) if name in there]
    if not chosen:
        raise ValueError(
            f"No script here measures {', '.join(what)}{f' by the {protocol} protocol' if protocol else ''}."
        )
    return chosen


if __name__ == "__main__":
    raise SystemExit(main())
