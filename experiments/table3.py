"""Table 3: do the most influential training patients fit the paper's two patterns? Counted, on METABRIC.

The paper reads off two test patients that removing (1) training patients of similar features who lived long, and
(2) training patients of dissimilar features who lived briefly, raises a test patient's predicted relative risk most.
Here ten test patients are drawn, and the five training patients whose removal raises each one's risk most are held
against declared thresholds: *similar* is a cosine similarity of the standardised features above its median over the
training patients, *long* an observed time above its median; dissimilar and brief are the rest. Beside the count stands
what five patients drawn at random would give, and the chance that they reach the count (hypergeometric, exact).
Removals that lower the risk are read in the mirror: similar and brief, or dissimilar and long. Writes
`experiments/results/table3.json`.

    python experiments/table3.py
"""

import numpy as np
import scipy.stats
import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets
from versatile_influence.losses import CoxLoss

TEST_PATIENTS, TOP = 10, 5
# Table 3: feature similarity, observed time and event of the five patients listed for each of two test patients.
PAPER = (
    ((0.84, 322.83, False), (-0.34, 9.13, True), (0.77, 258.17, True), (0.23, 131.27, False), (0.81, 183.43, False)),
    ((-0.49, 16.57, True), (-0.22, 30.97, True), (-0.39, 15.07, True), (-0.65, 4.43, True), (0.72, 307.63, False)),
)


def cosines(test, train):
    """Return the cosine similarity of every test with every training patient, (m, n)."""
    unit_test, unit_train = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (test, train))
    return unit_test @ unit_train.T


def chance(fitting, n, observed):
    """Return how many of the top patients would fit if drawn at random, and the chance of at least `observed`."""
    counts = np.ones(1)
    for number in fitting:
        counts = np.convolve(counts, scipy.stats.hypergeom(n, number, TOP).pmf(range(TOP + 1)))
    return TOP * sum(fitting) / n, float(counts[observed:].sum())


def counted(first, fits):
    """Return how many of the first patients (m, TOP) fit, and how many would by chance."""
    observed = int(np.take_along_axis(fits, first, axis=1).sum())
    expected, probability = chance(fits.sum(axis=1).tolist(), fits.shape[1], observed)
    return {"of": first.size, "fit a pattern": observed, "expected of random patients": expected, "chance": probability}


def fits_alone(row, times):
    """Return whether a row of the paper's table fits a pattern: similar where its cosine is positive."""
    similarity, time, _ = row
    return (similarity > 0) == bool(time > np.median(times))


def main():
    """Count and write."""
    run = Run.of(__file__, __doc__)
    data = datasets.metabric()
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties="breslow")
    params = vif.minimize(loss, loss.zeros())
    scores = vif.attribute(loss, params, loss.relative_risk(data.test)).scores.T.numpy()
    times, events = data.train["duration"].to_numpy(), data.train["event"].to_numpy().astype(bool)
    similarity = cosines(data.test[loss.columns].to_numpy(), data.train[loss.columns].to_numpy())
    similar = similarity > np.median(similarity, axis=1, keepdims=True)
    long = times > np.median(times)
    raising, lowering = np.argsort(-scores, axis=1)[:, :TOP], np.argsort(scores, axis=1)[:, :TOP]
    drawn = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(run.seed))[:TEST_PATIENTS].numpy()
    raises, lowers = similar == long, similar != long
    numbers = {
        "ground truth": "none: predictions at the minimum",
        "similar": "cosine of standardised features above its median over the training patients",
        "long": f"observed time above its median over the training patients, {np.median(times):.1f} months",
        "test patients": data.test.index[drawn].tolist(),
        "paper, two test patients": {
            "of": 10,
            "fit a pattern": [fits_alone(row, times) for five in PAPER for row in five].count(True),
        },
        "raise the risk most, similar and long, or dissimilar and brief": counted(raising[drawn], raises[drawn]),
        "lower it most, similar and brief, or dissimilar and long": counted(lowering[drawn], lowers[drawn]),
        "the same, of all test patients, raise": counted(raising, raises),
        "the same, of all test patients, lower": counted(lowering, lowers),
    }
    listed = [
        [(round(float(similarity[patient, row]), 2), round(float(times[row]), 2), bool(events[row])) for row in five]
        for patient, five in enumerate(raising)
    ]
    for number, five in enumerate(PAPER):
        # The test patient most of whose five are those of the paper's.
        patient = max(range(len(listed)), key=lambda one: len(set(listed[one]) & set(five)))
        numbers[f"the paper's test sample {number} is test patient {data.test.index[patient]}"] = {
            "rows the same as the paper's": len(set(listed[patient]) & set(five)),
            "in the same order": listed[patient] == list(five),
            "paper": five,
            "here": listed[patient],
        }
    run.record(numbers)
    for name, value in numbers.items():
        print(name, value, sep=": ")


if __name__ == "__main__":
    main()
