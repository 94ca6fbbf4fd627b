"""The words of every command, and which do not go together: known without the libraries that do the work."""

import argparse
from collections.abc import Callable, Sequence

from versatile_influence import __version__
from versatile_influence.cli.texts import COX, EPILOG, RANK, RECOMMEND
from versatile_influence.cli.words import STANDARD_INPUT, count, function_name, literal, pair, source, sources


def command_line() -> argparse.ArgumentParser:
    """Return the parser of `vif`."""
    what = "Which training objects made a model say this, and what would it say without them?"
    parser = argparse.ArgumentParser(prog="vif", description=what, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add_parser in (_cox, _rank, _recommend, _graph, _retrain):
        command = add_parser(commands)
        command.add_argument("--out", metavar="CSV", help="write all scores, an object a row")
        spreadsheet = "in --out, put ' before names that a spreadsheet would run as formulas (= + - @ first)"
        command.add_argument("--spreadsheet", action="store_true", help=spreadsheet)
        command.set_defaults(parser=command)
    for each in (parser, *commands.choices.values()):
        each.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what a call says, or leave with status 2 and a word on what does not go together in it."""
    args = command_line().parse_args(argv)
    files = [word for value in vars(args).values() if isinstance(value, str) for word in value.split(",")]
    if files.count(STANDARD_INPUT) > 1:
        args.parser.error("- is the standard input, which can be read once. Give the other files by name.")
    if args.spreadsheet and not args.out:
        args.parser.error("--spreadsheet is about the file of --out. Name that too, or leave it out.")
    if fault := FAULTS[args.command](args):
        args.parser.error(fault)
    return args


def _cox(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "cox",
        help="which patients made a Cox model say this",
        description="Fit a Cox model and show what each coefficient, and each test patient's risk, would be without "
        "each patient:\nby refitting without each, or predicted from the one fit and checked by refitting some.",
        epilog=COX,
    )
    add = parser.add_argument
    add(
        "patients",
        type=source,
        metavar="patients.csv",
        help="CSV or Parquet, one row a patient; every column not named below is a covariate",
    )
    add("--duration-col", metavar="COL", help="time of the event, or of censoring")
    add("--event-col", metavar="COL", help="1 where the event happened, 0 where censored")
    add("--event-value", type=literal, metavar="VALUE", help="what the event column holds where it happened, if not 1")
    formula = '"Surv(months, died) ~ age + C(stage) + strata(site)": the columns, as R and lifelines spell them'
    add("--formula", help=formula)
    add("--na", choices=["refuse", "drop"], default="refuse", help="rows with missing values (default: %(default)s)")
    add("--ties", choices=["efron", "breslow"], default="efron", help="method for tied events (default: %(default)s)")
    add("--strata", nargs="+", metavar="COL", help="columns whose values have a baseline hazard of their own")
    add("--penalty", type=float, default=0.0, help="λ of (λ/2)‖θ‖² on the summed loss (default 0)")
    add("--test", type=source, metavar="test.csv", help="patients to predict the relative risk of")
    flip = (
        "covariates: fewest patients found without whom sign or significance would be another (all, if none is named)"
    )
    add("--flip", nargs="*", metavar="NAME", help=flip)
    add("--report", metavar="HTML", help="write a page of all this that can be printed and passed on")
    groups = "column of hospitals or the like, no covariate: the page says what each coefficient would be without each"
    add("--groups", metavar="COL", help=groups)
    named = "whether the page of --report keeps the names of patients to itself (default: it does)"
    add("--anonymous", action=argparse.BooleanOptionalAction, default=True, help=named)
    add("--top", type=count, default=20, metavar="K", help="patients shown in each table (default: %(default)s)")
    _how(add, "patients", check=20)
    more = parser.add_argument_group("more columns")
    more.add_argument("--id-col", metavar="COL", help="names the patients; rows of one name are left out together")
    more.add_argument("--entry-col", metavar="COL", help="time from which the row is at risk (start-stop data)")
    more.add_argument("--weights-col", metavar="COL", help="case weights")
    more.add_argument("--covariates", nargs="+", metavar="COL", help="use only these covariates")
    return parser


def _rank(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "rank", help="which documents, items or queries drive a learned ranking", description=RANK
    )
    add = parser.add_argument
    add("train", type=sources, help="svmlight file with qid, ARFF file, or TREC runs joined by commas")
    add("--test", type=sources, required=True, help="the same of the test queries")
    add("--qrels", type=source, help="judgements of TRAIN, where it is of TREC runs")
    add("--test-qrels", type=source, help="judgements of the test queries")
    add("--labels", type=count, help="how many of the last columns of an ARFF file are the items")
    words = "what is removed: documents, items, queries, or a word of comments: annotator (default: not queries)"
    add("--objects", metavar="WHAT", help=words)
    losses = ["listmle", "lambda", "approx-ndcg"]
    add("--loss", choices=losses, default="listmle", help="what is learnt, of documents (default: %(default)s)")
    add("--penalty", type=float, default=1.0, help="λ of (λ/2)‖θ‖² on the summed loss (default 1)")
    add("--top", type=count, default=10, help="rows to print (default 10)")
    _how(add, "objects", check=20)
    return parser


def _recommend(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("recommend", help="who and what made this user see this item", description=RECOMMEND)
    add = parser.add_argument
    add("interactions", type=source, metavar="interactions.csv", help="CSV or Parquet, one row an interaction")
    add("--user", required=True, help="whose list, by name")
    add("--item", help="which item, by name (default: the first of the list)")
    add("--user-col", default="user", metavar="COL", help="names the users (default: %(default)s)")
    add("--item-col", default="item", metavar="COL", help="names the items (default: %(default)s)")
    add("--rating-col", metavar="COL", help="ratings, whose squared error is learnt (default: who had to do with what)")
    kinds = "without ratings, how items had to do with stand above others (default: bpr)"
    add("--kind", choices=["bpr", "logistic", "softmax"], help=kinds)
    add("--negatives", type=count, metavar="K", help="without ratings, other items beside each interaction (default 1)")
    add("--dim", type=count, default=8, metavar="D", help="factors (default: %(default)s)")
    add("--penalty", type=float, default=1.0, help="λ of (λ/2)‖θ‖² on the summed loss (default 1)")
    add("--seed", type=count, default=0, help="of what is drawn: other items, and the start (default 0)")
    add("--list", type=count, default=10, metavar="K", help="how long the list is (default: %(default)s)")
    words = "what is removed: interactions, users, items, or a column, such as of sessions (default: the first two)"
    add("--objects", nargs="+", default=["interactions", "users"], metavar="WHAT", help=words)
    add("--top", type=count, default=10, help="rows to print of each (default 10)")
    _how(add, "objects", check=0)
    return parser


def _graph(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "graph",
        help="nodes of a graph: what their removal does to the embedding's loss on pairs of nodes",
        description="Train a node embedding on expected walk counts, and predict how the contrastive loss of pairs of\n"
        "nodes changes without each other node. Positive: without it, the pair is further apart.",
    )
    add = parser.add_argument
    add("edges", type=source, help="edge list: `source target [weight]` a line, CSV, TSV, of networkx, Gephi; or .gz")
    add("--weight", metavar="COL", help="column, or attribute, of weights (default: `weight`, where there is one)")
    words = "pairs of nodes by name, how likely V is near U; of names with commas: '\"a, b\",c'"
    add("--pairs", type=pair, nargs="+", required=True, metavar="U,V", help=words)
    add("--length", type=int, default=6, help="nodes of a walk (6)")
    add("--window", type=int, default=3, help="how far context reaches (3)")
    add("--dim", type=int, default=2, help="length of an embedding (2)")
    add("--penalty", type=float, default=0.0, help="λ of (λ/2)‖θ‖² on the summed loss (0)")
    add("--directed", action="store_true", help="walk edges from source to target only")
    add("--seed", type=count, default=0, help="of where training starts, of several minima it finds one (0)")
    add("--top", type=count, default=5, help="nodes listed for each pair (5)")
    add("--format", choices=["table", "csv", "json"], default="table", help="of what is printed (%(default)s)")
    add("--plot", metavar="FILE", help="draw the graph for each pair, its nodes coloured by their scores (.png, .svg)")
    _how(add, "nodes", check=0, by="attribute")
    return parser


def _how(add: Callable[..., object], things: str, *, check: int, by: str | None = None) -> None:
    """Add how scores are had, and how many predictions are held against refits."""
    usual = by or "refit where all take under half a minute, else attribute"
    words = f"refit without each, or predict: attribute, or a Newton step for each (default: {usual})"
    add("--by", choices=["refit", "attribute", "newton_step"], default=by, help=words)
    known = f"of predictions, {things} really left out to check the rest by, 0 for none (default: {check})"
    add("--check", type=count, default=check, metavar="K", help=known)


def _retrain(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "retrain",
        help="retrain without each object, with a fit and a target of your own",
        description="Retrain without each object and print what changes most. FIT and TARGET are module:function, "
        "found in\nthis folder: fit(presence) -> parameters, target(parameters) -> numbers. With --seeds it is\n"
        "fit(presence, seed=…).",
    )
    add = parser.add_argument
    add("fit", type=function_name, metavar="FIT", help="module:function that trains")
    add("target", type=function_name, metavar="TARGET", help="module:function that is explained")
    add("--n-objects", type=int, required=True, help="how many objects there are")
    add("--objects", type=int, nargs="+", metavar="I", help="only these (default: each)")
    add("--seeds", type=int, nargs="+", metavar="S", help="repeat with these seeds; scores are means")
    add("--jobs", type=int, metavar="K", help="trainings at once (default: 1; -1: all cores)")
    add("--store", metavar="FOLDER", help="keep every finished training here")
    add("--resume", action="store_true", help="go on with what --store holds")
    return parser


def _cox_fault(args: argparse.Namespace) -> str | None:
    inside = {"--duration-col": args.duration_col, "--event-col": args.event_col, "--entry-col": args.entry_col}
    inside |= {"--strata": args.strata, "--covariates": args.covariates}
    if args.groups and not args.report:
        return "--groups is about the page of --report. Name that too, or leave it out."
    if args.formula:
        both = next((flag for flag, given in inside.items() if given), None)
        return both and f"{both} is said by --formula. Leave one of them out."
    if missing := [flag for flag in ("--duration-col", "--event-col") if not inside[flag]]:
        return f"the following arguments are required: {', '.join(missing)}; or --formula"
    seen: dict[str, str] = {}
    for flag, given in (inside | {"--weights-col": args.weights_col, "--id-col": args.id_col}).items():
        for name in given if isinstance(given, list) else [given] if given else []:
            word = "a covariate" if flag == "--covariates" else flag
            if name in seen:
                # Once more in the same list is as wrong.
                return f"Column `{name}` cannot be both {seen[name]} and {word}."
            seen[name] = word
    return None


def _rank_fault(args: argparse.Namespace) -> str | None:
    arff = args.labels is not None
    known = ("items", "queries") if arff else ("documents", "queries")
    if not arff and args.train.lower().endswith(".arff"):
        return f"{args.train} is an ARFF file: say with --labels how many of its last columns are the items."
    if (args.qrels is None) != (args.test_qrels is None):
        return "TREC runs need the judgements of both: give --qrels for TRAIN and --test-qrels for --test."
    if arff and args.qrels is not None:
        return "--qrels goes with TREC runs, and --labels with an ARFF file, which has its own. Leave one out."
    if arff and args.loss != "listmle":
        return f"--loss {args.loss} is of graded documents; the items of an ARFF file are learnt by listmle alone."
    svmlight = not arff and args.qrels is None
    if args.objects not in (None, *known) and (args.objects == "items" or not svmlight):
        return f"{args.train} has {' and '.join(known)}, and no {args.objects}. Choose one of them as --objects."
    return None


def _graph_fault(args: argparse.Namespace) -> str | None:
    if same := [first for first, second in args.pairs if first == second]:
        return f"--pairs {same[0]},{same[0]} names one node twice. Name two nodes."
    if args.check and args.by == "refit":
        return "--check is of predictions, and --by refit trains without each node. Leave one of them out."
    return None


def _recommend_fault(args: argparse.Namespace) -> str | None:
    least = {"--list": args.list, "--dim": args.dim, "--negatives": args.negatives}
    if small := next((flag for flag, given in least.items() if given == 0), None):
        return f"{small} must be 1 or more."
    if not args.penalty > 0:
        return "--penalty must be more than 0: without any, factors grow without end."
    without = {"--kind": args.kind, "--negatives": args.negatives}
    if args.rating_col and (vain := next((flag for flag, given in without.items() if given is not None), None)):
        return f"{vain} is about who had to do with what, and --rating-col has ratings learnt. Leave one of them out."
    return None


def _retrain_fault(args: argparse.Namespace) -> str | None:
    return "--resume goes on with a folder: name it with --store FOLDER." if args.resume and not args.store else None


FAULTS = {
    "cox": _cox_fault,
    "rank": _rank_fault,
    "graph": _graph_fault,
    "recommend": _recommend_fault,
    "retrain": _retrain_fault,
}
