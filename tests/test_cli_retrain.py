"""The command retrains with functions of a file in the folder, and goes on with a store."""

import os
from pathlib import Path

import pandas as pd
import pytest

from versatile_influence.cli import main

MODULE = """
import torch
x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
def fit(presence, seed=0):
    return (presence @ x / presence.sum())[None] + seed
def target(theta):
    return theta
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "users_training.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return ["retrain", "users_training:fit", "users_training:target", "--n-objects", "3"]


def test_scores_are_printed_and_written(module, capsys):
    assert main([*module, "--out", "scores.csv", "--seeds", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "largest changes of target 0, of 3 removals"
    assert [line.split() for line in lines[-3:]] == [["2", "-1.5"], ["0", "1"], ["1", "0.5"]]
    assert pd.read_csv("scores.csv", index_col="object")["0"].tolist() == [1.0, 0.5, -1.5]


def test_a_store_is_gone_on_with_only_when_asked(module, capsys):
    stored = [*module, "--store", "kept", "--objects", "0", "2"]
    assert main(stored) == 0
    first = capsys.readouterr().out
    assert main(stored) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*stored, "--resume"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: "users_training:fitt"}, "no function 'fitt'"),
        ({2: "not_there:target"}, "no module 'not_there'"),
        ({4: "0"}, "`n_objects` must be a whole number"),
    ],
)
def test_bad_calls_are_named(module, capsys, change, message):
    assert main([change.get(place, word) for place, word in enumerate(module)]) == 1
    assert message in capsys.readouterr().err


def test_what_is_no_function_and_where_nothing_can_be_written_is_said_before_any_training(module, capsys):
    assert main(["retrain", "users_training:x", *module[2:]]) == 1
    assert "users_training:x is no function" in capsys.readouterr().err
    assert main([*module, "--out", "none/scores.csv"]) == 1
    assert "there is no folder none" in capsys.readouterr().err


def test_resuming_without_a_store_and_names_of_no_function_are_refused(module, refused):
    assert "--store FOLDER" in refused(*module, "--resume")
    assert "'users_training' names no function" in refused("retrain", "users_training", *module[2:])


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_an_output_that_is_an_input_is_refused_whatever_it_is_called(module, link, capsys):
    written = Path("users_training.py")
    before, out = written.read_bytes(), "users_training.py"
    if link:
        link(written, out := "scores.csv")
    assert main([*module, "--out", f"./{out}"]) == 1
    assert "which the call reads" in capsys.readouterr().err
    assert written.read_bytes() == before


def test_the_store_is_an_input(module, capsys):
    assert main([*module, "--store", "kept"]) == 0
    assert main([*module, "--store", "kept", "--resume", "--out", "kept/run.json"]) == 1
    assert "which the call reads" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/null"])
def test_an_output_that_is_no_file_is_written_to(module, out, capfd):
    assert main([*module, "--out", out]) == 0
    assert ("object,0" in capfd.readouterr().out) == (out == "/dev/stdout")
