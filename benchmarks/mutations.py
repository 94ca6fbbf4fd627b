"""Faults planted in the core, one at a time, each of which the tests must catch.

A fault is a line of the library written wrong: a sign, a penalty that is forgotten, an item too many. It is planted in
a copy of the checkout, and the tests named beside it are run there until the first fails; without any fault all of
them must pass. With `--all` the whole suite is run in their place, which takes an hour or so.

    python benchmarks/mutations.py [--quick] [--all]     # quick: the first three
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from experiments.run import Run

ROOT = Path(__file__).parents[1]
COPIED = ("versatile_influence", "tests", "experiments", "benchmarks", "pyproject.toml", "README.md")
PASSED, FAILED = 0, 1
AT_ONCE = 4


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        fault: What is wrong, in words.
        file: In which file of the library.
        old, new: What stands there, exactly once, and what is put in its place.
        tests: The words for pytest that show it, separated by spaces.
    """

    fault: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(
        "a sign: ΔL of a plain function",
        "core/loss.py",
        "return self(params, self.everyone(params)) - without",
        "return without - self(params, self.everyone(params))",
        "tests/test_check_loss.py::test_a_loss_written_as_a_class_is_what_it_says versatile_influence/core/loss.py",
    ),
    Mutation(
        "a factor: half a Newton step",
        "verbs/newton_step.py",
        "moved = part.theta - solve(before, 1e-5)",
        "moved = part.theta - 0.5 * solve(before, 1e-5)",
        "tests/test_attribution.py::test_newton_steps_and_refits_of_a_quadratic_are_exact_and_chunks_change_nothing",
    ),
    Mutation(
        "a sign: retrained scores",
        "verbs/retrained.py",
        "after - before[:, None]",
        "before[:, None] - after",
        "tests/test_retraining.py::test_the_mean_without_each_number_is_its_closed_form",
    ),
    Mutation(
        "a forgotten penalty: the gradient",
        "core/composed.py",
        "return pull(self.outer.gradient(outputs, presence)) + self.ridge * flat(params)",
        "return pull(self.outer.gradient(outputs, presence))",
        "tests/test_check_loss.py::test_every_ready_loss_is_what_it_says",
    ),
    Mutation(
        "a forgotten penalty: of some parameters",
        "core/given.py",
        "super().__init__(outputs, outer, penalty=ridge,",
        "super().__init__(outputs, outer, penalty=0.0,",
        "tests/test_subset.py",
    ),
    Mutation(
        "the whole penalty in every batch",
        "core/composed.py",
        "return self.with_parts(outputs, outer, ridge=some * self.ridge,",
        "return self.with_parts(outputs, outer, ridge=self.ridge,",
        "tests/test_check_loss.py::test_every_ready_loss_of_some_terms_and_of_one_presence_is_what_it_says"
        " tests/test_gauss_newton.py::test_a_sample_is_the_chosen_terms_scaled_up"
        " tests/test_gauss_newton.py::test_terms_add_up_and_a_sample_of_each_once_is_the_whole",
    ),
    Mutation(
        "off by one: what an item owns",
        "losses/softmax/linear_items.py",
        "return torch.arange(width) + i * width if",
        "return torch.arange(width - 1) + i * width if",
        "tests/test_ranking.py::test_owned_parameters_fall_to_zero_and_plain_targets_agree_with_parameter_changes",
    ),
    Mutation(
        "what is owned enters the solve",
        "core/owned.py",
        "torch.where(mask, -theta, solve(differences.masked_fill(mask, 0.0).T).T)",
        "torch.where(mask, -theta, solve(differences.T).T)",
        "tests/test_ranking.py::test_the_default_treatment_of_owned_parameters_is_nearest_to_refits",
    ),
    Mutation(
        "what is owned does not fall to zero, on the side of the targets",
        "verbs/sides.py",
        "return scores - (mask * problem.theta) @ gradients.T, value[:, -1]",
        "return scores, value[:, -1]",
        "tests/test_walk_embedding.py::test_scores_solved_for_targets_are_those_solved_for_removals",
    ),
    Mutation(
        "a wrong tie method: Efron's fraction, with someone absent",
        "losses/cox/outer.py",
        "fraction = (counted - pick(counted, first)) / pick(number, times)",
        "fraction = (counted - pick(counted, first)) / (pick(number, times) + 1)",
        "tests/test_cox.py::test_fast_differences_of_heavily_tied_rows_are_the_generic_ones",
    ),
    Mutation(
        "a wrong tie method: the terms that stay without a tied event",
        "losses/cox/risk_sets.py",
        "self.reduced_fraction = tensor(reduced_place / left[reduced_time])",
        "self.reduced_fraction = tensor(reduced_place / each[reduced_time])",
        "tests/test_cox.py::test_fast_differences_of_heavily_tied_rows_are_the_generic_ones",
    ),
    Mutation(
        "a wrong risk set: at risk at the time of entry",
        "losses/cox/risk_sets.py",
        'entered = np.searchsorted(times, rows.start[order], side="right") - 1',
        'entered = np.searchsorted(times, rows.start[order], side="left") - 1',
        "tests/test_cox.py::test_coefficients_dfbeta_and_refits_are_those_of_r",
    ),
    Mutation(
        "a wrong risk set: an event is at risk of its own time twice",
        "losses/cox/risk_sets.py",
        'end = np.searchsorted(keys, key, side="right") - event',
        'end = np.searchsorted(keys, key, side="right")',
        "tests/test_cox.py::test_fast_differences_of_heavily_tied_rows_are_the_generic_ones",
    ),
    Mutation(
        "a wrong scale: n − 1 in place of n",
        "core/result.py",
        "return -self.n_objects * (self.scores",
        "return -(self.n_objects - 1) * (self.scores",
        "tests/test_attribution.py::test_theorem_3_1_the_vif_of_an_m_estimator_is_the_classical_influence_function",
    ),
    Mutation(
        "damping dropped from products",
        "core/hessian.py",
        "self._there.hessian_products(self.params, self.presence, vectors) + self.damping * vectors",
        "self._there.hessian_products(self.params, self.presence, vectors)",
        "tests/test_solvers.py::test_solutions_are_the_dense_ones_also_for_more_columns_than_parameters",
    ),
    Mutation(
        "damping dropped from the matrix",
        "core/hessian.py",
        "matrix.diagonal().add_(self.damping)",
        "matrix.diagonal().add_(0.0)",
        "tests/test_solvers.py::test_solutions_are_the_dense_ones_also_for_more_columns_than_parameters",
    ),
    Mutation(
        "a term that two members of a group share is taken away twice",
        "losses/terms/outer.py",
        "return torch.stack([(self._of(group) * terms).sum() for group in removals.groups()])",
        "return torch.stack([self._by_object(terms)[group].sum() for group in removals.groups()])",
        "tests/test_check_loss.py::test_every_ready_loss_is_what_it_says",
    ),
    Mutation(
        "the direct effect of a target that depends on who is present is missing",
        "verbs/attribute.py",
        "result = finished(problem, direct + parameter,",
        "result = finished(problem, parameter,",
        "tests/test_attribution.py::test_direct_and_parameter_effects_add_up"
        " tests/test_ranking.py::test_direct_and_parameter_effects_of_ranking_targets_stand_apart",
    ),
    Mutation(
        "refitted together with everybody present",
        "verbs/refit.py",
        "presences = part.presences(problem.theta)",
        "presences = torch.ones_like(part.presences(problem.theta))",
        "tests/test_attribution.py::test_newton_steps_and_refits_of_a_quadratic_are_exact_and_chunks_change_nothing",
    ),
    Mutation(
        "refitted one by one with everybody present",
        "verbs/refit.py",
        "refitted = minimize(loss, best, problem.presence_without(row),",
        "refitted = minimize(loss, best, problem.everyone(),",
        "tests/test_attribution.py::test_many_parameters_take_the_same_answers_by_conjugate_gradients",
    ),
    Mutation(
        "an edge stays when one of its ends goes, in a large graph",
        "losses/graphs/walk_embedding.py",
        "return presence, presence[self.graph.ends[:, 0]] * presence[self.graph.ends[:, 1]]",
        "return presence, presence[self.graph.ends[:, 0]]",
        "tests/test_walk_embedding.py::test_the_large_graph_path_gives_the_same_loss",
    ),
    Mutation(
        "Spearman's correlation is Pearson's",
        "reading/metrics.py",
        "return _told(pair := Pair.of(a, b), _rank_correlation(pair))",
        "return _told(pair := Pair.of(a, b), pair.moments().correlation)",
        "tests/test_metrics.py::test_every_measure_equals_scipy_target_by_target",
    ),
]


def planted(mutation: Mutation, place: Path) -> Path:
    """Return a copy of the checkout with the fault in it."""
    return written(mutation.file, mutation.old, mutation.new, copied(place))


def copied(place: Path) -> Path:
    """Return a copy of what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(source, place / name)
    return place


def written(name: str, old: str, new: str, place: Path) -> Path:
    """Write the fault into a file of the copy.

    Raises:
        ValueError: If what it replaces does not stand there exactly once.
    """
    path = place / "versatile_influence" / name
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{name} has {text.count(old)} times what a fault would replace: {old}")
    path.write_text(text.replace(old, new), encoding="utf-8")
    return place


def tested(place: Path, words: list[str]) -> tuple[int, str]:
    """Return pytest's status in that copy, and the first test that failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words]
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(place), *([before] if before else [])])
    done = subprocess.run(
        command, cwd=place, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return done.returncode, failed[1] if failed else ""


def outcome(mutation: Mutation | None, words: list[str]) -> tuple[int, str, float]:
    """Return pytest's status with the fault, or with none, the first test that failed, and seconds."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = copied(Path(folder)) if mutation is None else planted(mutation, Path(folder))
        status, failed = tested(place, words)
    return status, failed, round(time.perf_counter() - started, 1)


def main() -> None:
    """Plant each fault, run its tests, and write the record; the exit status is 1 where one is not caught."""
    everything = "--all" in sys.argv
    run = Run.of(__file__, __doc__, argv=[word for word in sys.argv[1:] if word != "--all"])
    chosen = MUTATIONS[:3] if run.quick else MUTATIONS
    words = {mutation: [] if everything else mutation.tests.split() for mutation in chosen}
    every, found = sorted({word for some in words.values() for word in some}), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        without = pool.submit(outcome, None, every)
        for mutation, (status, failed, seconds) in zip(chosen, pool.map(outcome, chosen, words.values()), strict=True):
            caught = status == FAILED
            print(f"{'caught' if caught else 'MISSED'} {seconds:6.1f} s  {mutation.fault}  {failed}", flush=True)
            found.append({"fault": mutation.fault, "file": mutation.file, "caught": caught, "by": failed, "s": seconds})
        status, failed, _ = without.result()
    if status != PASSED:
        sys.exit(f"The tests do not pass without a fault (status {status}): {failed}")
    caught = sum(row["caught"] for row in found)
    run.record({"faults": len(found), "caught": caught, "whole suite": everything, "by fault": found})
    print(f"{caught} of {len(found)} caught")
    sys.exit(0 if caught == len(found) else 1)


if __name__ == "__main__":
    main()
