"""`vif recommend` from a table of interactions to who and what made a user see an item."""

import csv

import pytest
import torch

import versatile_influence as vif
from versatile_influence.cli import main
from versatile_influence.datasets.interactions import from_frame

pd = pytest.importorskip("pandas")


@pytest.fixture
def seen(tmp_path):
    """Two kinds of users, each with items of its own kind."""
    draw = torch.Generator().manual_seed(0)
    rows = [
        (f"u{user}", f"i{item}", 4.0 - (user + item) % 2)
        for user in range(8)
        for item in range(8)
        if torch.rand(1, generator=draw).item() < (0.75 if (user + item) % 2 == 0 else 0.1)
    ]
    path = tmp_path / "seen.csv"
    pd.DataFrame(rows, columns=["user", "item", "stars"]).to_csv(path, index=False)
    return str(path)


WORDS = ["--user", "u1", "--dim", "1", "--list", "2", "--top", "3", "--objects", "users"]


def test_changes_are_those_of_refits_of_the_model_that_was_learnt(seen, tmp_path, capsys):
    out = tmp_path / "o.csv"
    assert main(["recommend", seen, *WORDS, "--out", str(out)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].endswith("interactions of 8 users with 8 items")
    assert "is number 1 of those recommended" in lines[1]
    assert f"wrote 7 rows to {out}" in said.err
    data = from_frame(pd.read_csv(seen))
    loss = vif.losses.MatrixFactorisationLoss(data.users, data.items, dim=1, objects="users")
    best = vif.minimize(loss, loss.zeros())
    user = data.user_names.index("u1")
    scores = best["item"] @ best["user"][user] + best["item_bias"]
    order = scores.index_fill(0, data.items[data.users == user], -torch.inf).argsort(descending=True).tolist()
    truth = vif.refit(loss, best, loss.preference([(user, order[0], order[2])]))
    with open(out, encoding="utf-8") as file:
        rows = {row["object"]: row for row in csv.DictReader(file)}
    # The user whose list it is makes no row.
    assert rows.keys() == set(data.user_names) - {"u1"}
    for name, row in rows.items():
        assert row["kind"] == "users"
        right = truth.scores[data.user_names.index(name), 0].item()
        assert float(row["change"]) == pytest.approx(right, abs=1e-5)


def test_an_item_that_is_asked_for_and_ratings(seen, capsys):
    words = ["recommend", seen, *WORDS[:-1], "items", "--rating-col", "stars", "--item", "i0", "--by", "attribute"]
    assert main(words) == 0
    assert "item i0 is number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "nobody"], "nobody"),
        (["--user", "u1", "--list", "2", "--item", "i99"], "i99"),
        (["--user", "u1", "--list", "50"], "has no end. Give a smaller --list"),
        (["--user", "u1", "--user-col", "who"], "who"),
    ],
)
def test_what_the_table_has_not_is_named(seen, capsys, words, message):
    assert main(["recommend", seen, "--dim", "1", *words]) == 1
    assert message in capsys.readouterr().err


def test_an_item_had_to_do_with_is_not_recommended(seen, capsys):
    frame = pd.read_csv(seen)
    item = frame[frame.user == "u1"].item.iloc[0]
    assert main(["recommend", seen, "--dim", "1", "--list", "2", "--user", "u1", "--item", item]) == 1
    assert f"has had to do with item {item} already" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--list", "--dim", "--negatives"])
def test_numbers_that_make_no_sense_are_words_that_are_wrong(seen, refused, flag):
    assert f"{flag} must be 1 or more" in refused("recommend", seen, "--user", "u1", flag, "0")
