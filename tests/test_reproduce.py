"""`python -m experiments.reproduce`, over scripts of the shared command line."""

import pytest

from experiments.report import scripts as found
from experiments.reproduce import main

SCRIPT = '''"""Small."""
from experiments.run import Run
run = Run.of(__file__, __doc__)
print("working")
run.record({"r": 0.5 if run.quick else 0.25})
'''
BROKEN = SCRIPT.replace("print", 'raise FileNotFoundError("no file here")\nprint')


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "table2.py").write_text(SCRIPT)
    monkeypatch.setattr(found, "ROOT", tmp_path)
    return tmp_path


def test_a_table_is_measured_shown_and_kept(home, capsys):
    out = home / "out"
    assert main(["table2", "--quick", "--out", str(out)]) == 0
    assert "quick run: 1 of 1 scripts done" in capsys.readouterr().out
    assert "A quick run" in (out / "page.html").read_text()
    assert main(["table2", "--quick", "--out", str(out)]) == 0
    assert "kept table2-quick.json" in "".join(capsys.readouterr())
    assert main(["page", str(out), "--quick", "--out", str(home / "page.html")]) == 0
    assert 'value="0.5"' in (home / "page.html").read_text()


def test_missing_data_is_one_line_and_an_exit_status(home, capsys):
    (home / "experiments" / "table3.py").write_text(BROKEN)
    assert main(["--out", str(home / "out")]) == 1
    words = "".join(capsys.readouterr())
    assert "table3: FileNotFoundError: no file here" in words
    assert "1 of 2 scripts done" in words


def test_what_is_unknown_is_told_with_what_is_known(home, capsys):
    assert main(["table9"]) == 1
    assert "no 'table9' to reproduce. There are: table1" in capsys.readouterr().err
    assert main(["table2", "--protocol", "paper", "--out", str(home / "o")]) == 0


def test_a_page_of_no_records_is_refused_and_the_folder_of_data_is_looked_for_first(tmp_path, capsys):
    assert main(["page", str(tmp_path)]) == 1
    assert "no record of a full run" in capsys.readouterr().err
    assert main(["page", str(tmp_path), "--quick"]) == 1
    assert "Leave out --quick" in capsys.readouterr().err
    assert main(["table1", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "There is no folder" in capsys.readouterr().err
