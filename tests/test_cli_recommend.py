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


def test_a_bad_cell_is_named_by_its_row_below_the_header_and_a_user_by_name(seen, tmp_path, capsys):
    path, frame = str(tmp_path / "bad.csv"), pd.read_csv(seen).astype({"stars": object})
    frame.loc[[2, 5], "item"] = None
    frame.loc[6, "stars"] = "many"
    frame.to_csv(path, index=False)
    assert main(["recommend", path, "--user", "u1"]) == 1
    assert f"`item` is None in row 3: 2 of {len(frame)} rows hold no name there." in capsys.readouterr().err
    frame.ffill().to_csv(path, index=False)
    assert main(["recommend", path, "--user", "u1", "--rating-col", "stars"]) == 1
    assert "`stars` is 'many' in row 7: 1 of" in capsys.readouterr().err
    assert main(["recommend", seen, "--user", "u1", "--negatives", "5"]) == 1
    most = pd.read_csv(seen).groupby("user").item.nunique()
    said = capsys.readouterr().err
    assert f"has had to do with all but {8 - most.max()} of 8 items: 5 other items beside each" in said
    assert said.split("User ")[1].split()[0] in most[most == most.max()]


@pytest.mark.parametrize(("between", "header"), [("\t", None), ("::", None), ("\t", "user\titem\trating\n")])
def test_movielens_files_are_read_as_they_are_and_say_what_was_assumed(seen, tmp_path, capsys, between, header):
    numbers = pd.read_csv(seen).replace(r"[ui](\d)", r"10\1", regex=True).astype(int)
    lines = [between.join(map(str, [*row, *([] if header else [881250949])])) for row in numbers.to_numpy().tolist()]
    path, same = tmp_path / "u.data", tmp_path / "same.csv"
    path.write_text((header or "") + "\n".join(lines) + "\n")
    numbers.rename(columns={"stars": "rating"}).to_csv(same, index=False)
    words = ["--user", "101", "--dim", "1", "--list", "2", "--objects", "items", "--rating-col", "rating"]
    assert main(["recommend", str(same), *words]) == 0
    expected = capsys.readouterr()
    assert main(["recommend", str(path), *words]) == 0
    found = capsys.readouterr()
    assumed = f"vif: {path} has no header: its columns are taken for user, item, rating, timestamp, as in MovieLens.\n"
    assert (found.err, expected.err) == ("" if header else assumed, "")
    # All but how long refits take.
    assert found.out.splitlines()[:2] + found.out.splitlines()[3:] == (
        expected.out.splitlines()[:2] + expected.out.splitlines()[3:]
    )
    assert main(["recommend", str(path), *words[:-2]]) == 0
    assert ("Ratings are not learnt without --rating-col rating." in capsys.readouterr().err) == (header is None)


def test_what_a_column_says_is_removed_together(seen, tmp_path, capsys):
    frame, out = pd.read_csv(seen), tmp_path / "o.csv"
    frame = frame.assign(day=[f"d{row % 4}" for row in range(len(frame))])
    path = str(tmp_path / "days.csv")
    frame.to_csv(path, index=False)
    words = ["recommend", path, *WORDS[:-1]]
    assert main([*words, "day", "--out", str(out), "--by", "refit"]) == 0
    assert "That lead without each of 4 days:" in capsys.readouterr().out
    data = from_frame(frame)
    # Without a day: a model of the other interactions alone, beside the same other items.
    whole = vif.losses.MatrixFactorisationLoss(data.users, data.items, dim=1)
    best = vif.minimize(whole, whole.zeros())
    user = data.user_names.index("u1")
    scores = best["item"] @ best["user"][user] + best["item_bias"]
    order = scores.index_fill(0, data.items[data.users == user], -torch.inf).argsort(descending=True).tolist()
    question = whole.preference([(user, order[0], order[2])])
    with open(out, encoding="utf-8") as file:
        rows = {row["object"]: float(row["change"]) for row in csv.DictReader(file)}
    assert rows.keys() == {"d0", "d1", "d2", "d3"}
    for day, change in rows.items():
        left = torch.from_numpy((frame.day != day).to_numpy())
        rest = vif.losses.MatrixFactorisationLoss(
            data.users[left], data.items[left], negatives=whole.factors.items[left, 1:], dim=1, n_users=8, n_items=8
        )
        assert change == pytest.approx((question(vif.minimize(rest, best)) - question(best)).item(), abs=1e-4)
    assert main([*words, "dya"]) == 1
    assert "has no column `dya` (--objects)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rating-col", "stars", "--negatives", "2"], "--negatives is about who had to do with what"),
        (["--rating-col", "stars", "--kind", "bpr"], "--kind is about who had to do with what"),
        (["--penalty", "0"], "--penalty must be more than 0"),
    ],
)
def test_words_that_would_be_ignored_or_never_end_are_refused(seen, refused, words, message):
    assert message in refused("recommend", seen, "--user", "u1", *words)


@pytest.mark.parametrize("flag", ["--list", "--dim", "--negatives"])
def test_numbers_that_make_no_sense_are_words_that_are_wrong(seen, refused, flag):
    assert f"{flag} must be 1 or more" in refused("recommend", seen, "--user", "u1", flag, "0")
