"""The whole story on a simulated trial, offline: fit, attribute, hold against exact refitting, look.

In the trial, six patients' biomarkers were recorded in a wrong unit, ten times too large. Whoever fits a Cox model
to it sees a weak biomarker. Who made the model say so?

    python examples/demo.py                   # writes demo-output/{scores.csv,trial.csv,influence.png}
"""

import time
from pathlib import Path

import matplotlib as mpl
import torch

import versatile_influence as vif
from versatile_influence import plots
from versatile_influence.datasets import simulated_trial
from versatile_influence.losses import CoxLoss

OUT = Path("demo-output")


def main() -> None:
    """Run the demo."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    trial = simulated_trial(unit_errors=6)
    wrong = set(trial.attrs["unit_errors"])
    print(f"A simulated trial: {len(trial)} patients, {int(trial['died'].sum())} deaths, three sites as strata.")
    print(f"{len(wrong)} of them have their biomarker recorded ten times too large.\n")

    loss = CoxLoss.from_frame(trial, duration_col="months", event_col="died", strata_cols="site")
    theta = vif.minimize(loss, loss.zeros())
    for name, coefficient in zip(loss.columns, theta.tolist(), strict=True):
        print(f"  {name:10} log hazard ratio {coefficient:+.3f}")

    target = loss.coefficients()
    # A process's first derivatives load a good deal of PyTorch, which takes about a second.
    vif.attribute(loss, theta, target, objects=[0])
    start = time.perf_counter()
    estimate = vif.attribute(loss, theta, target)
    predicted = time.perf_counter() - start
    start = time.perf_counter()
    truth = vif.refit(loss, theta, target)
    refitted = time.perf_counter() - start

    biomarker = loss.columns.index("biomarker")
    frame, measured = estimate.to_frame(), truth.to_frame()
    print("\nWithout which patient would the biomarker's coefficient change most?\n")
    print("  patient   predicted   refitted   biomarker  months  died")
    for number in estimate.top(8, target=biomarker).tolist():
        name = estimate.names()[number]
        row, mark = trial.loc[name], "   <- wrong unit" if name in wrong else ""
        print(
            f"  {name}      {frame.loc[name, 'biomarker']:+.4f}    {measured.loc[name, 'biomarker']:+.4f}"
            f"  {row['biomarker']:10.1f}  {row['months']:6.1f}     {int(row['died'])}{mark}"
        )
    found = {estimate.names()[number] for number in estimate.top(len(wrong), target=biomarker).tolist()}
    print(f"\nOf the {len(wrong)} most influential patients, {len(found & wrong)} are the wrongly recorded ones.")

    everyone_wrong = [[trial.index.get_loc(name) for name in sorted(wrong)]]
    together = vif.refit(loss, theta, target, objects=everyone_wrong).scores[0, biomarker].item()
    print(f"Without all of them the coefficient is {theta[biomarker].item() + together:+.3f}.\n")
    print(vif.agreement(estimate, truth))
    print(f"predicted in {1e3 * predicted:.0f} ms, refitted {len(trial)} times in {1e3 * refitted:.0f} ms")

    OUT.mkdir(exist_ok=True)
    frame.to_csv(OUT / "scores.csv")
    trial.to_csv(OUT / "trial.csv", index_label="patient")
    _, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    plots.scatter(estimate, truth, target=biomarker, ax=left)
    plots.top(estimate, target=biomarker, k=12, ax=right)
    plt.savefig(OUT / "influence.png", dpi=110)
    print(f"\nSee {OUT / 'influence.png'} and {OUT / 'scores.csv'}. The same from the shell:")
    print(
        f"  vif cox {OUT / 'trial.csv'} --duration-col months --event-col died --id-col patient --strata site --top 8"
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
