"""`vif rank` on small files."""

import csv
from argparse import Namespace

import pytest
import torch
from cases import data
from scipy.optimize import minimize

import versatile_influence as vif
from versatile_influence.cli import main
from versatile_influence.cli.rank import read_ranking
from versatile_influence.datasets.svmlight import read_svmlight


def written(path, *, seed, spam=False, n=20):
    """Write queries of four documents, relevance by the first feature; with spam, one document graded wrongly."""
    x, lines = data(seed, n, 2), []
    for row in range(n):
        grade = int(x[row, 0] > 0) + int(x[row, 0] > 1)
        if spam and row == 6:
            x[row, 0], grade = -3.0, 2
        lines.append(f"{grade} qid:{row // 4} 1:{x[row, 0].item():.4f} 2:{x[row, 1].item():.4f} # docid = d{row}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_planted_document_is_what_the_ranking_would_be_better_without(tmp_path, capsys):
    train, test = written(tmp_path / "train", seed=4, spam=True, n=60), written(tmp_path / "test", seed=9, n=60)
    words = ["--penalty", "10", "--out", str(tmp_path / "o.csv"), "--top", "3"]
    assert main(["rank", train, "--test", test, *words]) == 0
    assert capsys.readouterr().out.splitlines()[6].split()[0::2] == ["d6", "suspicious"]
    with open(tmp_path / "o.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert [row["document"] for row in rows if row["suspicious"] == "1"] == ["d6"]
    assert min(rows, key=lambda row: float(row["change"]))["document"] == "d6"


def test_in_pure_noise_hardly_a_document_of_thousands_is_suspicious(tmp_path, capsys):
    from sklearn.datasets import dump_svmlight_file

    for name, n, seed in (("train", 12_000, 3), ("test", 1_000, 4)):
        x, grades = data(seed, n, 10).numpy(), data(seed + 10, n).gt(1).int().numpy()
        dump_svmlight_file(x, grades, str(tmp_path / name), query_id=torch.arange(n).numpy() // 50)
    words = ["rank", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--by", "attribute", "--check", "0"]
    assert main(words) == 0
    said = capsys.readouterr()
    marked = int(said.out.split("suspicious: ")[1].split()[0])
    # By distance alone over 300 are, 2.5 of a hundred.
    assert marked <= 0.001 * 12_000
    assert f"Features of {tmp_path / 'train'} are numbered from 0." in said.err


@pytest.mark.parametrize("style", ["scikit-learn", "scikit-learn from 1", "LightGBM", "XGBoost"])
def test_files_of_libraries_are_read_as_they_are_and_rank_as_the_table_they_hold(tmp_path, capsys, style):
    from sklearn.datasets import dump_svmlight_file

    sizes, found = [3, 5, 1, 4], []
    qid = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    for name, seed in (("train", 1), ("test", 2)):
        x, grades = data(seed, 13, 3), (data(seed + 5, 13) > 0).int()
        path = str(tmp_path / name)
        if style.startswith("scikit-learn"):
            first = {"zero_based": style == "scikit-learn", "comment": "dumped"}
            dump_svmlight_file(x.numpy(), grades.numpy(), path, query_id=qid.numpy(), **first)
        else:
            dump_svmlight_file(x.numpy(), grades.numpy(), path)
            beside = path + {"LightGBM": ".query", "XGBoost": ".group"}[style]
            with open(beside, "w", encoding="utf-8") as file:
                file.write("".join(f"{size}\n" for size in sizes))
        found.append((path, x, grades))
    if style == "LightGBM":
        lightgbm = pytest.importorskip("lightgbm")
        theirs = lightgbm.Dataset(found[0][0], params={"verbose": -1}).construct()
        assert theirs.get_group().tolist() == sizes
    out = tmp_path / "o.csv"
    words = ["rank", found[0][0], "--test", found[1][0], "--objects", "queries", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert f"Features of {found[0][0]} are numbered from {int(style == 'scikit-learn from 1')}." in said
    assert f"1 of 4 queries of {found[0][0]}: of one document nothing is ranked." in said
    assert ("Queries of" in said) == (not style.startswith("scikit-learn"))
    with open(out, encoding="utf-8") as file:
        changes = {row["query"]: float(row["change"]) for row in csv.DictReader(file)}
    (_, x, grades), (_, x_test, test_grades) = found
    kept = qid != 2
    middle, spread = x[kept].mean(0), x[kept].std(0, correction=0)
    loss, test = (
        vif.losses.DocumentListMLELoss((part[kept] - middle) / spread, marks[kept], qid[kept], **given)
        for part, marks, given in (
            (x, grades, {"penalty": 1.0, "objects": "queries"}),
            (x_test, test_grades, {"objects": "queries"}),
        )
    )
    best = vif.minimize(loss, loss.zeros())
    ones = torch.ones(3, dtype=torch.float64)
    right = vif.refit(loss, best, lambda params: test(params, ones)[None] / 3).scores[:, 0].tolist()
    names = ["0", "1", "3"] if style.startswith("scikit-learn") else ["1", "2", "4"]
    assert changes == pytest.approx(dict(zip(names, right, strict=True)), abs=1e-6)


def test_what_each_annotator_graded_is_removed_together(tmp_path, capsys):
    path, test, out = tmp_path / "train", written(tmp_path / "test", seed=2), tmp_path / "o.csv"
    written(path, seed=1)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"{line} annotator = a{row % 3}" for row, line in enumerate(lines)) + "\n")
    words = ["rank", str(path), "--test", test, "--objects"]
    assert main([*words, "annotator", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 training lists, 3 annotators\n")
    assert "suspicious: 0 of 3 annotators" in said
    with open(out, encoding="utf-8") as file:
        changes = {row["annotator"]: float(row["change"]) for row in csv.DictReader(file)}
    given = {"labels": None, "qrels": None, "test_qrels": None, "objects": "documents", "penalty": 1.0}
    read = read_ranking(Namespace(train=str(path), test=test, loss="listmle", **given))
    # Documents are named, d0 to d19, and stand in the order of their names.
    gone = [[place for place, name in enumerate(read.names) if int(name[1:]) % 3 == one] for one in range(3)]
    for one, places in enumerate(gone):
        presence = torch.ones(20).double()
        presence[places] = 0
        found = minimize(
            lambda theta, there=presence: read.loss(torch.as_tensor(theta), there).item(), [0, 0], tol=1e-12
        )
        change = read.mean_loss(torch.as_tensor(found.x)).item() - read.mean_loss(read.learned()).item()
        assert changes[f"a{one}"] == pytest.approx(change, rel=1e-3)
    assert main([*words, "judge"]) == 1
    said = capsys.readouterr().err
    assert f"20 of 20 lines of {path}, the first of query 0, do not say `judge = …` after #" in said


@pytest.mark.filterwarnings("ignore:.*Text file input has been deprecated")
def test_xgboost_reads_the_same_table_and_queries(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    from sklearn.datasets import dump_svmlight_file

    path, sizes = str(tmp_path / "train"), [3, 5, 1, 4]
    qid = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes)).numpy()
    dump_svmlight_file(data(1, 13, 3).numpy(), data(2, 13).gt(0).int().numpy(), path, query_id=qid)
    theirs, ours = xgboost.DMatrix(f"{path}?format=libsvm"), read_svmlight(path)
    assert torch.tensor(theirs.get_uint_info("group_ptr").astype(int)).diff().tolist() == sizes
    assert [ours.qid.count(query) for query in dict.fromkeys(ours.qid)] == sizes
    torch.testing.assert_close(torch.from_numpy(theirs.get_data().toarray()).double(), ours.x, atol=1e-6, rtol=1e-6)
    assert theirs.get_label().tolist() == ours.relevance.tolist()


def test_queries_are_removed_too(tmp_path, capsys):
    train, test = written(tmp_path / "train", seed=1), written(tmp_path / "test", seed=2)
    assert main(["rank", train, "--test", test, "--objects", "queries"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 training lists, 5 queries"
    assert {line.split()[0] for line in lines[6:-3]} == set("01234")
    assert lines[2].startswith("Refitting without each of 5 queries: about 0.")
    assert lines[-2] == "All 5 removals are exact: the model was trained without each."
    assert lines[-1].startswith("Predictions against refits: 5 removals refitted: correlation 0.9")
    assert main(["rank", train, "--test", test, "--objects", "queries", "--by", "attribute", "--check", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "of 5 removals are trusted" in lines[-2]
    assert lines[-1].startswith("Predictions against refits: 2 removals refitted")


@pytest.mark.parametrize("loss", ["listmle", "lambda", "approx-ndcg"])
def test_by_default_a_change_is_what_another_minimiser_finds_without_the_query(tmp_path, loss):
    train, test = written(tmp_path / "train", seed=1), written(tmp_path / "test", seed=2)
    out = tmp_path / "o.csv"
    assert main(["rank", train, "--test", test, "--objects", "queries", "--loss", loss, "--out", str(out)]) == 0
    with open(out, encoding="utf-8") as file:
        changes = {row["query"]: float(row["change"]) for row in csv.DictReader(file)}

    read = read_ranking(
        Namespace(
            train=train,
            test=test,
            labels=None,
            qrels=None,
            test_qrels=None,
            objects="queries",
            penalty=1.0,
            loss=loss,
        )
    )
    presence = torch.ones(5).double()
    presence[3] = 0
    found = minimize(
        lambda theta: read.loss(torch.as_tensor(theta), presence).item(), read.learned().numpy(), tol=1e-12
    )
    change = read.mean_loss(torch.as_tensor(found.x)).item() - read.mean_loss(read.learned()).item()
    assert changes["3"] == pytest.approx(change, rel=1e-3)


def test_a_bad_file_is_one_line_and_status_one(tmp_path, capsys):
    (tmp_path / "bad").write_text("1 1:0.5\n")
    assert main(["rank", str(tmp_path / "bad"), "--test", str(tmp_path / "bad")]) == 1
    assert "has no `qid:`" in capsys.readouterr().err


def test_lambda_loss_is_at_a_minimum_in_the_order_that_it_gives_itself(tmp_path):
    train, test = written(tmp_path / "train", seed=1, n=60), written(tmp_path / "test", seed=2)
    words = {"labels": None, "qrels": None, "test_qrels": None, "objects": "queries", "penalty": 1.0}
    read = read_ranking(Namespace(train=train, test=test, loss="lambda", **words))
    params, everyone = read.learned(), torch.ones(15).double()
    table = read_svmlight(train)
    x = (table.x - table.x.mean(0)) / table.x.std(0, correction=0)
    # Ranks of the scores themselves, not of those that were held.
    live = vif.losses.DocumentLoss(
        x, table.relevance, table.qid, vif.losses.LambdaLoss(), objects="queries", penalty=1.0
    )
    assert live(params, everyone).item() == pytest.approx(read.loss(params, everyone).item(), rel=1e-10)
    assert live.gradient(params, everyone).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("1 qid:1 1:0.5", None, "Every query of {train} has one document alone"),
        ("1 qid:1 1:0.5\n1 qid:1 1:0.7", None, "Every query of {train} has documents of one relevance"),
        (None, "0 qid:1 1:0.5\n0 qid:1 1:0.7", "Every query of {test} has documents of one relevance"),
        ("1 qid:1\n0 qid:1", "1 qid:1\n0 qid:1", "No line of {train} or {test} has a feature"),
        ("1 qid:1 1:2\n0 qid:1 1:2", None, "Every feature of {train} is the same in all lines"),
        ("query,score\nq,1", None, "Line 1 of {train} begins with 'query,score', and with no number"),
    ],
)
def test_tiny_files_that_rank_nothing_say_so(tmp_path, capsys, train, test, message):
    paths = {"train": tmp_path / "train", "test": tmp_path / "test"}
    for path, text in zip(paths.values(), (train, test), strict=True):
        path.write_text(text or "1 qid:1 1:0.5\n0 qid:1 1:1\n")
    assert main(["rank", str(paths["train"]), "--test", str(paths["test"])]) == 1
    assert message.format(**paths) in capsys.readouterr().err.splitlines()[-1]


def test_one_query_is_one_and_has_no_correlation(tmp_path, capsys):
    path = tmp_path / "one"
    path.write_text("1 qid:1 1:0.5\n0 qid:1 1:1\n")
    assert main(["rank", str(path), "--test", str(path), "--objects", "queries"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("Refitting without each of 1 query: ")
    assert lines[-2] == "1 removal is exact: the model was trained without each."
    assert lines[-1].startswith("Predictions against refits: 1 removal refitted: relative error of a removal ")


@pytest.mark.parametrize("feature", ["999999999", "-1"])
def test_a_feature_of_an_impossible_number_is_refused_with_its_line(tmp_path, capsys, feature):
    (tmp_path / "slip").write_text(f"1 qid:1 1:0.5\n0 qid:1 {feature}:1\n")
    assert main(["rank", str(tmp_path / "slip"), "--test", str(tmp_path / "slip")]) == 1
    assert f"slip has feature {feature}; features run from 1 to 100,000. Correct the line" in capsys.readouterr().err


def test_missing_files_and_files_of_another_format_are_named(tmp_path, capsys):
    assert main(["rank", "missing.svm", "--test", "t.svm"]) == 1
    assert "missing.svm" in capsys.readouterr().err
    train = written(tmp_path / "train", seed=1)
    assert main(["rank", train, "--test", train, "--labels", "3"]) == 1
    assert "train has no line `@attribute`" in capsys.readouterr().err


def test_a_missing_feature_is_named_and_one_that_only_test_lines_have_is_not_missed(tmp_path, capsys):
    train, test = tmp_path / "train", tmp_path / "test"
    train.write_text("1 qid:1 1:0.5\n0 qid:1 1:1\n")
    test.write_text("1 qid:1 1:0.5 3:1\n0 qid:1 1:1\n")
    assert main(["rank", str(train), "--test", str(test)]) == 0
    test.write_text("1 qid:7 1:0.5\n0 qid:7 2:nan\n")
    assert main(["rank", str(train), "--test", str(test)]) == 1
    assert "Feature 2 of query 7 is missing in line 2" in capsys.readouterr().err


def arff(path, *, seed):
    """Write forty rows of three features and four labels that the features decide."""
    x, names = data(seed, 40, 3), ["red", "green", "blue", "pink"]
    on = (x @ data(9, 3, 4) > -0.5).int()
    lines = [*(f"@attribute f{place} numeric" for place in range(3)), *(f"@attribute {name} {{0,1}}" for name in names)]
    rows = [",".join(map(str, [*features, *labels])) for features, labels in zip(x.tolist(), on.tolist(), strict=True)]
    path.write_text("\n".join(["@relation r", *lines, "@data", *rows]) + "\n")
    return str(path)


def test_items_of_an_arff_file_are_removed_with_their_direct_part_apart(tmp_path, capsys):
    train, test = arff(tmp_path / "train.arff", seed=1), arff(tmp_path / "test.arff", seed=2)
    out = str(tmp_path / "o.csv")
    assert main(["rank", train, "--test", test, "--labels", "4", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "through parameters" in printed
    with open(out, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["item"] for row in rows} == {"red", "green", "blue", "pink"}
    words = {"labels": 4, "qrels": None, "test_qrels": None, "objects": None, "penalty": 1.0, "loss": "listmle"}
    read = read_ranking(Namespace(train=train, test=test, **words))
    truth = vif.refit(read.loss, read.learned(), vif.losses.query_loss(read.test))
    for row in rows:
        place = read.names.index(row["item"])
        assert abs(float(row["direct"]) - truth.direct[place].mean().item()) < 1e-7
        assert abs(float(row["change"]) - truth.parameter[place].mean().item()) < 1e-6
        assert row["estimated error"] == "0"
    assert main(["rank", train, "--test", test, "--labels", "4", "--objects", "queries"]) == 0
    assert "row " in capsys.readouterr().out


def trec(folder, name, *, seed, noise=0.0):
    """Write a run of five queries of four documents, and their judgements by its score before the noise."""
    score, noisy = data(seed, 20), data(seed + 7, 20) * noise
    run = [f"q{row // 4} Q0 d{row} 1 {score[row] + noisy[row]:.4f} tag" for row in range(20)]
    (folder / f"{name}.run").write_text("\n".join(run))
    (folder / f"{name}.qrels").write_text("\n".join(f"q{row // 4} 0 d{row} {int(score[row] > 0)}" for row in range(20)))
    return str(folder / f"{name}.run"), str(folder / f"{name}.qrels")


def test_trec_runs_are_features_and_their_documents_are_removed(tmp_path, capsys):
    (run, qrels), (noisy, _) = trec(tmp_path, "a", seed=1), trec(tmp_path, "b", seed=1, noise=2.0)
    (test, test_qrels), (test_noisy, _) = trec(tmp_path, "c", seed=2), trec(tmp_path, "d", seed=2, noise=2.0)
    words = ["rank", f"{run},{noisy}", "--qrels", qrels, "--test", f"{test},{test_noisy}", "--test-qrels", test_qrels]
    assert main([*words, "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 training lists, 20 documents"
    assert len(lines) == 8 + 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["t.arff", "--test", "t.arff"], "say with --labels"),
        (["t.run", "--test", "t.run", "--qrels", "q"], "--test-qrels"),
        (["t.arff", "--test", "t.arff", "--labels", "2", "--objects", "documents"], "has items and queries"),
        (["t.arff", "--test", "t.arff", "--labels", "2", "--loss", "lambda"], "--loss lambda is of graded documents"),
        (["t.svm", "--test", "t.svm", "--objects", "items"], "has documents and queries"),
    ],
)
def test_words_that_do_not_go_together_are_named(words, message, refused):
    assert message in refused("rank", *words)


def test_what_takes_long_is_seen_from_a_few_refits_and_what_is_loaded_first_is_no_part_of_it(tmp_path, monkeypatch):
    from versatile_influence.cli import answers

    clock, calls = [0.0], []

    def refit(loss, params, target, *, objects):
        calls.append(len(objects))
        # Two seconds to load, half a second for any call, and a hundredth for each.
        clock[0] += 2.0 * (len(calls) == 1) + 0.5 + 0.01 * len(objects)

    monkeypatch.setattr(answers, "refit", refit)
    monkeypatch.setattr(answers.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(answers.time, "process_time", lambda: clock[0])
    loss = vif.losses.PairwiseLoss([0], [1], n_objects=1000, incidence=[list(range(1000))], penalty=1.0)
    found = answers.seconds_of_refits(loss, loss.zeros(), vif.LabelledTarget(lambda theta: theta))
    assert found == pytest.approx(0.5 + 0.01 * 1000)
    assert max(calls) <= 64
