"""Attributions on disk, in frames and in order."""

from pathlib import Path

import pytest
import torch

from versatile_influence import Attribution


def example(**changes):
    scores = torch.tensor([[0.1, 1.0], [-0.5, 2.0], [float("nan"), float("nan")]], dtype=torch.float64)
    given = {
        "n_objects": 5,
        "labels": ["a", "b", 3, 4.5, "e"],
        "targets": ["S(1)", "S(2)"],
        "failed": {2: "no minimum"},
    }
    return Attribution(scores, torch.tensor([4, 0, 2]), **given | changes)


def test_what_is_saved_is_loaded(tmp_path):
    from versatile_influence.solvers import Solution

    solution = Solution(torch.ones(2, 2), torch.zeros(2), num_steps=3, smallest_curvature=0.5)
    saved = example(solution=solution, direct=torch.ones(3, 2).double())
    saved.save(tmp_path / "scores.vif")
    loaded = Attribution.load(tmp_path / "scores.vif")
    assert (loaded.labels, loaded.targets, loaded.failed, loaded.n_objects) == (
        saved.labels,
        saved.targets,
        saved.failed,
        5,
    )
    torch.testing.assert_close(loaded.scores, saved.scores, equal_nan=True)
    torch.testing.assert_close(loaded.direct, saved.direct)
    assert loaded.solution is not None
    assert loaded.solution.num_steps == 3
    groups = Attribution(torch.zeros(2, 1), ((0, 1), (2,)), n_objects=3)
    groups.save(tmp_path / "groups.npz")
    assert Attribution.load(tmp_path / "groups.npz").objects == ((0, 1), (2,))


def test_a_file_that_is_none_of_ours_is_refused(tmp_path):
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a file written by"):
        Attribution.load(tmp_path / "other.npz")


def test_the_largest_changes_come_first_by_object_and_the_failed_last():
    assert example().top(2).tolist() == [0, 4]
    assert example().top(9, target=1).tolist() == [0, 4, 2]
    with pytest.raises(IndexError, match="no target 2"):
        example().top(target=2)
    groups = Attribution(torch.tensor([[1.0], [-3.0]]), ((0, 1), (2,)), n_objects=3, labels=["x", "y", "z"])
    assert groups.top(1).tolist() == [1]
    assert groups.names() == ["x+y", "z"]


def test_frames_carry_the_users_names():
    frame = example().to_frame()
    assert list(frame.index) == ["e", "a", 3]
    assert frame.loc["a", "S(2)"] == 2.0


def test_a_result_saved_by_0_1_is_read():
    saved = Attribution.load(Path(__file__).parent / "saved_by_0_1.npz")
    assert saved.objects == ((0, 1), (2,))
    assert saved.targets == ["mean"]
    torch.testing.assert_close(saved.scores, saved.direct + saved.parameter)
    assert saved.scores.flatten().tolist() == pytest.approx([0.0, -3.0])
