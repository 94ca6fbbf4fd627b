"""METABRIC and SUPPORT, as the paper splits and standardises them (§4.1, Appendix B).

The files are those of Katzman et al. (2018), "DeepSurv", fetched once and checked. Test patients are a fifth of all,
validation patients a fifth of the others, drawn by pandas with one `RandomState(0)`; continuous covariates are
standardised by mean and standard deviation of the training patients, in float32 as the published benchmarks do.
"""

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.tables import file
from versatile_influence.core.words import missing
from versatile_influence.datasets.files import find

if TYPE_CHECKING:
    import pandas as pd

_DEEPSURV = "https://raw.githubusercontent.com/jaredleekatzman/DeepSurv/41eed003e5b892c81e7855e400861fa7a2d9da4f/experiments/data"
SPLIT_SEED = 0


@dataclass(frozen=True)
class SurvivalData:
    """Patients in three frames: covariates x0, x1, …, then `duration` and `event` (1 died, 0 censored).

    The index is the patient's row in the published file (its training part, then its test part), so that a patient
    has the same name everywhere.

    Attributes:
        train: To fit and attribute; standardised by itself.
        validation: Unused by a linear model.
        test: To predict for.
    """

    train: "pd.DataFrame"
    validation: "pd.DataFrame"
    test: "pd.DataFrame"


def metabric(folder: str | PathLike | None = None) -> SurvivalData:
    """Return METABRIC: 1,904 women with breast cancer, 9 covariates, 1,103 deaths; 1,218 / 305 / 381 patients.

    Args:
        folder: A folder with `metabric_IHC4_clinical_train_test.h5`; by default the one VIF_DATA names, or the cache.

    Raises:
        FileNotFoundError: If the file can be neither found nor fetched.
        ValueError: If it is not the published file.
        ImportError: If pandas or h5py is missing.

    References:
        Curtis et al. (2012), the cohort; Katzman et al. (2018), the file.

    Example:
        >>> len(metabric().train)  # doctest: +SKIP
        1218
    """
    return _load(
        "metabric/metabric_IHC4_clinical_train_test.h5",
        sha256="e959131973c906c7e8b1e662c81160914768156a6da145a9bfed9b9ee8bf3e72",
        standardised=(0, 1, 2, 3, 8),
        folder=folder,
    )


def support(folder: str | PathLike | None = None) -> SurvivalData:
    """Return SUPPORT: 8,873 seriously ill adults, 14 covariates, 6,036 deaths; 5,678 / 1,420 / 1,775 patients.

    Durations are whole days, so 5,632 of the deaths are tied. Arguments and errors are those of `metabric`; the file
    is `support_train_test.h5`.

    References:
        Knaus et al. (1995), the study; Katzman et al. (2018), the file.

    Example:
        >>> len(support().train)  # doctest: +SKIP
        5678
    """
    return _load(
        "support/support_train_test.h5",
        sha256="e398f49930e4efc4ecd675a72ac547f0d1ae25ccf13f6a1024cded12ea88a83e",
        standardised=(0, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13),
        folder=folder,
    )


def read_deepsurv(path: str | PathLike) -> "pd.DataFrame":
    """Return all patients of an HDF5 file with groups `train` and `test` of `x`, `t` and `e`: train first.

    Raises:
        ValueError: If the file is no such file, with what is wrong in it.
        ImportError: If pandas or h5py is missing.

    Example:
        >>> read_deepsurv("support_train_test.h5").shape  # doctest: +SKIP
        (8873, 16)
    """
    path = file(path)
    try:
        import h5py
        import pandas as pd
    except ImportError as error:
        raise missing(error, "this data set is an HDF5 file", "data") from error
    try:
        with h5py.File(path, "r") as held:
            names = {part: [f"{part}/{name}" for name in ("x", "t", "e")] for part in ("train", "test")}
            if absent := [name for part in names.values() for name in part if name not in held]:
                raise ValueError(
                    f"{path} has no dataset {absent[0]}. It needs groups `train` and `test`, each with x, t and e."
                )
            parts = {part: [np.asarray(held[name]) for name in own] for part, own in names.items()}
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file: {error}.") from error
    for part, (x, t, e) in parts.items():
        if x.ndim != 2 or t.shape != (len(x),) or e.shape != (len(x),):
            raise ValueError(
                f"{path}: in group `{part}`, x is {x.shape}, t {t.shape} and e {e.shape}; rows must agree."
            )
    widths = {part: x.shape[1] for part, (x, _, _) in parts.items()}
    if widths["train"] != widths["test"]:
        raise ValueError(f"{path}: train has {widths['train']} covariates and test {widths['test']}.")
    x, t, e = (np.concatenate(columns) for columns in zip(*parts.values(), strict=True))
    frame = pd.DataFrame(x.astype(np.float64), columns=pd.Index([f"x{j}" for j in range(x.shape[1])]))
    return frame.assign(duration=t.astype(np.float64), event=e.astype(np.int64))


def _load(published: str, *, sha256: str, standardised: tuple[int, ...], folder: str | PathLike | None) -> SurvivalData:
    url = f"{_DEEPSURV}/{published}"
    frame = read_deepsurv(find(published.rpartition("/")[2], url=url, sha256=sha256, folder=folder))
    state = np.random.RandomState(SPLIT_SEED)
    test = frame.sample(frac=0.2, random_state=state)
    rest = frame.loc[~frame.index.isin(test.index)]
    validation = rest.sample(frac=0.2, random_state=state)
    train = rest.loc[~rest.index.isin(validation.index)]
    columns = [f"x{j}" for j in standardised]
    values = train[columns].to_numpy()
    mean, spread = (number.astype(np.float32) for number in (values.mean(axis=0), values.std(axis=0)))
    parts = []
    for part in (train, validation, test):
        # In float32 arithmetic, held in float64.
        standard = ((part[columns].to_numpy(dtype=np.float32) - mean) / spread).astype(np.float64)
        parts.append(part.assign(**dict(zip(columns, standard.T, strict=True))))
    return SurvivalData(*parts)
