import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.datasets import files, metabric, simulated_survival, simulated_trial, support
from versatile_influence.datasets.simulated import TRIAL_EFFECTS
from versatile_influence.datasets.survival import read_deepsurv

LOADERS = {"metabric": metabric, "support": support}
CONTINUOUS = {"metabric": [0, 1, 2, 3, 8], "support": [0, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13]}


@pytest.fixture
def folder():
    named = os.environ.get(files.FOLDER_VARIABLE)
    if not named or not (Path(named) / "split_metabric_seed0.csv").is_file():
        pytest.skip("no real data here: set VIF_DATA to the folder that holds them")
    return Path(named)


@pytest.mark.data
@pytest.mark.parametrize("name", LOADERS)
def test_the_split_is_the_published_one_patient_by_patient(name, folder):
    data, published = LOADERS[name](folder), pd.read_csv(folder / f"split_{name}_seed0.csv")
    for part, called in (("train", "train"), ("validation", "val"), ("test", "test")):
        expected = published[published["split"] == called].sort_values("position")["row"]
        assert getattr(data, part).index.tolist() == expected.tolist()


@pytest.mark.data
@pytest.mark.parametrize("name", LOADERS)
def test_what_is_not_standardised_is_as_published_and_what_is_has_mean_zero_on_train(name, folder):
    data, table = LOADERS[name](folder), pd.read_csv(folder / f"{name}.csv", float_precision="round_trip")
    scaled = [f"x{j}" for j in CONTINUOUS[name]]
    train = table.loc[data.train.index, scaled]
    mean, spread = train.mean(), train.std(ddof=0)
    for part in (data.train, data.validation, data.test):
        original = table.loc[part.index]
        assert (part.drop(columns=scaled) == original.drop(columns=scaled)).all(axis=None)
        np.testing.assert_allclose(part[scaled], (original[scaled] - mean) / spread, atol=2e-6)
        assert (part[scaled].astype(np.float32) == part[scaled]).all(axis=None)
    np.testing.assert_allclose(data.train[scaled].std(ddof=0), 1.0, atol=1e-6)


@pytest.mark.data
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_a_cox_model_of_metabric_has_the_coefficients_of_r(ties, folder):
    loss = vif.losses.CoxLoss.from_frame(metabric(folder).train, duration_col="duration", event_col="event", ties=ties)
    expected = pd.read_csv(folder / "r_survival" / f"R_metabric_{ties}_coef.csv")["coef"].to_numpy()
    np.testing.assert_allclose(vif.minimize(loss, loss.zeros()), expected, rtol=0, atol=1e-12)


@pytest.mark.data
def test_data_are_found_through_the_environment_too(folder, monkeypatch):
    monkeypatch.setenv(files.FOLDER_VARIABLE, str(folder))
    assert len(metabric().test) == 381


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no metabric_IHC4_clinical_train_test\.h5"):
        metabric(tmp_path)


def test_another_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "support_train_test.h5").write_bytes(b"not it")
    with pytest.raises(ValueError, match=r"SHA-256 .* expected e398f49930e4"):
        support(tmp_path)


def deepsurv_file(path, **changes):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for part in ("train", "test"):
            values = {"x": np.ones((3, 2), "f4"), "t": np.arange(3, dtype="f4"), "e": np.ones(3, "i4")} | changes
            for name, value in values.items():
                if value is not None:
                    file[f"{part}/{name}"] = value
    return path


def test_a_file_of_the_format_is_read_train_first(tmp_path):
    frame = read_deepsurv(deepsurv_file(tmp_path / "a.h5"))
    assert list(frame.columns) == ["x0", "x1", "duration", "event"]
    assert frame["duration"].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": None}, r"a\.h5 has no dataset train/t\. It needs groups"),
        ({"e": np.ones(4, "i4")}, r"in group `train`, x is \(3, 2\), t \(3,\) and e \(4,\); rows must agree"),
    ],
)
def test_files_of_another_format_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_deepsurv(deepsurv_file(tmp_path / "a.h5", **changes))


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "b.h5").write_text("x0,x1")
    with pytest.raises(ValueError, match=r"b\.h5 is not an HDF5 file"):
        read_deepsurv(tmp_path / "b.h5")


def test_the_simulated_trial_has_ties_censoring_sites_and_named_patients():
    trial = simulated_trial()
    assert trial.index[[0, -1]].tolist() == ["P001", "P400"]
    assert 0.3 < trial["died"].mean() < 0.6
    assert trial.loc[trial["died"] == 1, "months"].duplicated().sum() > 10
    assert set(trial["site"]) == {"Aarhus", "Basel", "Cork"}
    pd.testing.assert_frame_equal(trial, simulated_trial())
    assert not trial.equals(simulated_trial(seed=1))


def test_a_large_simulated_trial_gives_back_the_effects_it_was_drawn_with():
    trial = simulated_trial(20_000)
    loss = vif.losses.CoxLoss.from_frame(trial, duration_col="months", event_col="died", strata_cols="site")
    found = dict(zip(loss.parameter_names, vif.minimize(loss, loss.zeros()).tolist(), strict=True))
    assert found == pytest.approx(TRIAL_EFFECTS, abs=0.06)


def test_unit_errors_change_the_biomarker_of_the_patients_named_and_nothing_else():
    right, wrong = simulated_trial(), simulated_trial(unit_errors=3)
    names = wrong.attrs["unit_errors"]
    assert len(names) == 3
    np.testing.assert_allclose(wrong.loc[names, "biomarker"], 10 * right.loc[names, "biomarker"])
    wrong.loc[names, "biomarker"] = right.loc[names, "biomarker"]
    pd.testing.assert_frame_equal(wrong, right)


@pytest.mark.parametrize("censored", [0.0, 0.3, 0.9])
def test_simulated_survival_is_censored_as_asked_and_has_no_ties(censored):
    x, durations, events = simulated_survival(20_000, 4, seed=3, censored=censored)
    assert x.dtype == durations.dtype == events.dtype == torch.float64
    assert 1 - events.mean().item() == pytest.approx(censored, abs=0.02)
    assert len(durations.unique()) == 20_000
    assert torch.equal(simulated_survival(20_000, 4, seed=3, censored=censored)[1], durations)


def test_simulated_survival_follows_the_coefficients_given():
    truth = [0.5, -1.0, 0.0]
    loss = vif.losses.CoxLoss(*simulated_survival(20_000, 3, coefficients=truth))
    np.testing.assert_allclose(vif.minimize(loss, loss.zeros()), truth, atol=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: simulated_trial(1), "`n` must be a whole number, at least 2, got 1"),
        (lambda: simulated_trial(9, unit_errors=4), "`unit_errors` must be a whole number, 0 to 3, got 4"),
        (lambda: simulated_survival(0, 1), "`n` must be a whole number, at least 1, got 0"),
        (lambda: simulated_survival(5, 1, censored=1.0), "0 ≤ censored < 1, got 1.0"),
        (lambda: simulated_survival(5, 2, coefficients=[1.0]), r"`coefficients` must be of shape \(2\), got \(1,\)"),
    ],
)
def test_impossible_simulations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_million_patients_are_simulated_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, _, _ = simulated_survival(1_000_000, 2)
    assert x.shape == (1_000_000, 2)
