"""Twelve questions that somebody new has, each answered within two clicks from the site's first page.

A click is the text of a link on the page one is on; the answer is words that the page reached must say, outside of its
navigation. `make site` first.

    python experiments/twelve_questions.py
"""

import sys
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path

from experiments.run import Run

SITE = Path(__file__).parent.parent / "site"


@dataclass(frozen=True)
class Question:
    """What somebody asks, which links they follow, and what tells them."""

    who: str
    asks: str
    clicks: tuple[str, ...]
    answer: str


QUESTIONS = (
    Question(
        "statistician",
        "Which patients carry my treatment effect, and in which sign is that beside R's dfbeta?",
        ("Survival analysis",),
        "have R's sign, the opposite: with the person, less without",
    ),
    Question(
        "clinical researcher",
        "How few patients would have to be left out for my conclusion to be another?",
        ("Survival analysis", "Does the conclusion survive?"),
        "The set is the smallest found",
    ),
    Question(
        "lifelines user",
        "I have a fitted CoxPHFitter. Must I fit again?",
        ("Survival analysis", "Fitted models as they are"),
        "vif.adapters.from_lifelines(model, rossi)",
    ),
    Question(
        "search engineer",
        "My judgements are in LightGBM's files. Which documents make my ranking worse?",
        ("Ranking and recommending",),
        "which documents the test queries would be better without",
    ),
    Question(
        "recommender engineer",
        "What brought this item to this user's list, in which options?",
        ("Command line", "vif recommend"),
        "who and what made this user see this item",
    ),
    Question(
        "embedding engineer",
        "My encoder has 22 million parameters. What does it cost, and which solver do I take?",
        ("A model as it is",),
        "So a target costs twice the steps that CG takes",
    ),
    Question(
        "fine-tuner",
        "I stopped after three epochs of AdamW. Is that a minimum, and what do I call instead?",
        ("Through training",),
        "stopped: some epochs of Adam over shuffled batches",
    ),
    Question(
        "graph user",
        "What goes when a node goes: its edges, its messages, its label?",
        ("Graphs", "Graph networks"),
        "all its edges, and its label",
    ),
    Question(
        "author of a loss",
        "My loss is no sum. How do I write presence, and how do I know that I wrote it right?",
        ("A loss of your own",),
        "Presence is a float vector: multiply by it, do not index with it",
    ),
    Question(
        "sceptic",
        "How do I know which scores to believe without refitting everybody?",
        ("How far to trust a score",),
        "the estimated relative error of each removal",
    ),
    Question(
        "chooser",
        "I have pyDVL and kronfluence. What can this do that they cannot, and is it slower?",
        ("Beside other libraries",),
        "cannot take it",
    ),
    Question(
        "operator",
        "My n trainings were killed at night. What is lost, and can a cluster do them?",
        ("Retraining", "Resuming"),
        "The same call goes on where a killed one stopped",
    ),
)


class Page(HTMLParser):
    """A page's links by their text, and its words outside of navigation."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.links, self.words, self._link, self._inside = path, {}, [], None, 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self._link = [dict(attrs).get("href"), ""]
        self._inside += tag == "article"

    def handle_endtag(self, tag):
        if tag == "a" and self._link:
            self.links.setdefault(" ".join(self._link[1].split()).removesuffix("¶").strip(), self._link[0])
            self._link = None
        self._inside -= tag == "article"

    def handle_data(self, data):
        if self._link:
            self._link[1] += data
        if self._inside:
            self.words.append(data)

    def says(self, words: str) -> bool:
        """Return whether the page has these words."""
        return words in " ".join("".join(self.words).split())


def reached(question: Question, site: Path = SITE) -> tuple[str, bool]:
    """Return the page that the clicks lead to, and whether it answers.

    Raises:
        KeyError: If there is no such link on the way.
    """
    page, where = Page(site / "index.html"), "index.html"
    for click in question.clicks:
        where = page.links[click]
        file = where.partition("#")[0]
        page = Page((page.path.parent / file).resolve()) if file else page
    return str(page.path.relative_to(site)) + ("#" + where.partition("#")[2]).rstrip("#"), page.says(question.answer)


def main() -> int:
    """Follow all, record, and return 1 where one is not answered."""
    run = Run.of(__file__, __doc__)
    rows = []
    for question in QUESTIONS:
        page, answered = reached(question)
        rows.append(asdict(question) | {"clicks": list(question.clicks), "page": page, "answered": answered})
        print(f"{'yes' if answered else 'NO ':4}{page:45}{question.asks}")
    run.record({"questions": rows})
    return int(not all(row["answered"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
