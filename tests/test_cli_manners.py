"""Manners of the command: quick to answer, silent when cut short, at home in pipes, and safe to look at and to open."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import versatile_influence as vif
from versatile_influence import adapters, datasets, losses, solvers
from versatile_influence.cli import main, tables

VIF = [sys.executable, "-m", "versatile_influence"]
COX = ["--duration-col", "months", "--event-col", "died", "--id-col", "id", "--check", "0"]
LATIN = {"PYTHONIOENCODING": "latin-1"}
NAMES = ["=1+1", "\x1b[31mred\x1b[0m\a", "−5 ≈ λ", "@x", "plain", "-7", "+8", "last"]


@pytest.fixture
def patients(tmp_path):
    """Write eight patients with names that terminals, spreadsheets and old encodings stumble over."""
    frame = pd.DataFrame({"id": NAMES, "months": range(1, 9), "died": [1, 0, 1, 1, 0, 1, 1, 1]})
    frame["=age"] = [0.3, -1.0, 0.8, -0.2, 1.5, -0.7, 0.1, -0.4]
    frame.to_csv(tmp_path / "patients.csv", index=False)
    return str(tmp_path / "patients.csv")


def started(*words, **settings):
    """Start `vif` on its own, with what it prints and says kept apart."""
    return subprocess.Popen([*VIF, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def test_the_package_and_the_words_of_the_command_line_need_no_torch():
    code = """
import sys, versatile_influence as vif
from versatile_influence.cli import main
for words in (["--help"], ["cox", "--help"], ["help", "rank"], ["--version"], ["nonsense"], ["cox"]):
    try: main(words)
    except SystemExit as left: print(left.code, end=" ")
print("heavy:", {"torch", "numpy", "scipy", "pandas"} & {*sys.modules}, vif.CG.__module__, "torch" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "\n0 2 2 heavy: set() versatile_influence.solvers.cg True" in out
    assert f"vif {vif.__version__}\n" in out


@pytest.mark.parametrize("face", [vif, losses, solvers, datasets, adapters])
def test_a_face_shows_each_of_its_names_and_no_other(face):
    everything: dict = {}
    exec(f"from {face.__name__} import *", everything)
    assert {*everything} - {"__builtins__"} == {*face.__all__} == {*dir(face)}
    with pytest.raises(AttributeError, match=f"module '{face.__name__}' has no attribute 'atribute'"):
        face.atribute  # noqa: B018


def test_without_words_the_help_is_said_and_help_is_a_word_too(capsys):
    assert main([]) == 2
    told = capsys.readouterr()
    assert "exit status:" in told.err
    assert not told.out
    for words in (["help"], ["help", "cox"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: {' '.join(['vif', *words[1:]])} ")


def test_the_standard_input_is_read_once_and_spreadsheets_need_a_file(refused):
    assert "can be read once" in refused("rank", "-", "--test", "-")
    assert "can be read once" in refused("rank", "a.run,-", "--test", "b", "--qrels", "-", "--test-qrels", "q")
    assert "--spreadsheet is about the file of --out" in refused("cox", "-", *COX, "--spreadsheet")
    assert "invalid choice: 'coxs'" in refused("coxs")


def test_patients_come_through_standard_input_and_a_pipe_into_a_terminal_of_latin_1(patients, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    words = ["cox", "-", *COX, "--test", str(tmp_path / "pipe")]
    with open(patients, "rb") as file, started(*words, stdin=file, env=os.environ | LATIN) as command:
        (tmp_path / "pipe").write_bytes(Path(patients).read_bytes())
        out, err = command.communicate()
    assert (command.returncode, err) == (0, b"")
    text = out.decode("latin-1")
    assert "Cox model of `months` in /dev/stdin: 8 patients" in text
    assert "  ?5 ? ?  " in text
    assert "\n  red  " in text
    assert not {"\x1b", "\a"} & {*text}


def test_an_interrupt_is_one_line_and_status_130(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    # Shells start what runs in the background deaf to interrupts.
    words = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    # The pipe is open here once the command has opened its end.
    with started("cox", str(tmp_path / "pipe"), *COX, **words) as waiting, open(tmp_path / "pipe", "w"):
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out, err) == (130, b"", b"vif: interrupted\n")


def test_output_that_nobody_reads_ends_in_silence(patients):
    for words in (["cox", patients, *COX], ["--help"]):
        # Where every word is written at once, argparse keeps silent on its own and ends with 0.
        with started(*words, env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}) as unread:
            unread.stdout.close()
            assert (unread.stderr.read(), unread.wait()) == (b"", 141)


@pytest.mark.parametrize("safe", [False, True])
def test_names_are_written_as_they_are_or_so_that_a_spreadsheet_runs_none(patients, tmp_path, safe, capsys):
    out = str(tmp_path / "scores.csv")
    assert main(["cox", patients, *COX, "--out", out, *(["--spreadsheet"] if safe else [])]) == 0
    capsys.readouterr()
    written = pd.read_csv(out, index_col="patient")
    runs = {"=1+1", "@x", "-7", "+8"} if safe else ()
    assert list(written.index) == [f"'{name}" if name in runs else name for name in NAMES]
    assert list(written.columns) == ["'=age" if safe else "=age", "estimated error", "verdict"]
    assert written.dtypes.iloc[0] == "float64"


def test_an_id_of_two_lines_stays_in_its_row_of_a_table():
    assert tables.table(["a"], [["x\ny\x1b[2J"], ["\u202ez"]]).splitlines() == ["  a", "  x y", "  z"]
