"""`vif rank` on small files."""

import csv

from cases import data

from versatile_influence.cli import main


def written(path, *, seed, spam=False):
    """Write five queries of four documents, relevance by the first feature; with spam, one document graded wrongly."""
    x, lines = data(seed, 20, 2), []
    for row in range(20):
        grade = int(x[row, 0] > 0) + int(x[row, 0] > 1)
        if spam and row == 6:
            x[row, 0], grade = -3.0, 2
        lines.append(f"{grade} qid:{row // 4} 1:{x[row, 0].item():.4f} 2:{x[row, 1].item():.4f} # docid = d{row}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_planted_document_is_what_the_ranking_would_be_better_without(tmp_path, capsys):
    train, test = written(tmp_path / "train", seed=1, spam=True), written(tmp_path / "test", seed=2)
    assert main(["rank", train, "--test", test, "--out", str(tmp_path / "o.csv"), "--top", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[0::2] == ["d6", "suspicious"]
    with open(tmp_path / "o.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert (rows[0]["documents"], rows[0]["suspicious"]) == ("d6", "1")
    assert float(rows[0]["change"]) < 0


def test_queries_are_removed_too(tmp_path, capsys):
    train, test = written(tmp_path / "train", seed=1), written(tmp_path / "test", seed=2)
    assert main(["rank", train, "--test", test, "--objects", "queries"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_a_bad_file_is_one_line_and_status_one(tmp_path, capsys):
    (tmp_path / "bad").write_text("1 1:0.5\n")
    assert main(["rank", str(tmp_path / "bad"), "--test", str(tmp_path / "bad")]) == 1
    assert "has no `qid:`" in capsys.readouterr().err
