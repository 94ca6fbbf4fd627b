"""Attributions on disk, in frames and in order."""

import json
import os
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import versatile_influence as vif
from versatile_influence import Attribution
from versatile_influence.core.files import write_arrays
from versatile_influence.core.made import made_by


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


def resaved(path, arrays=None, **header):
    """Write a file of ours again, checksum and all, with something changed in it."""
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    about = json.loads(bytes(parts.pop("header"))) | header
    write_arrays(path, about, parts | (arrays or {}))


def bomb(path):
    """Write a file whose scores say that they are a terabyte."""
    header = json.dumps({"format": "versatile-influence attribution 1"}).encode()
    np.savez(path, header=np.frombuffer(header, dtype=np.uint8))
    with zipfile.ZipFile(path, "a") as archive, archive.open("scores.npy", "w") as part:
        shape = {"descr": "<f8", "fortran_order": False, "shape": (10**11, 1)}
        np.lib.format.write_array_header_1_0(part, shape)


DAMAGE = {
    "cut": lambda path: os.truncate(path, 700),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "no checksum": lambda path: os.truncate(path, path.stat().st_size - 72),
    "another archive": lambda path: np.savez(path, x=np.zeros(3)),
    "compressed": lambda path: np.savez_compressed(path, header=np.zeros(10**6)),
    "a bomb": bomb,
    "objects": lambda path: np.savez(path, header=np.array([{}], dtype=object)),
    "no format": lambda path: resaved(path, n_objects="5"),
    "a number too few": lambda path: resaved(path, {"objects": np.zeros(2, dtype=np.int64)}),
    "an object beyond": lambda path: resaved(path, {"objects": np.array([0, 1, 5])}),
    "scores flat": lambda path: resaved(path, {"scores": np.zeros(3)}),
    "labels of others": lambda path: resaved(path, labels="abcde"),
    "a failure beyond": lambda path: resaved(path, failed={"9": "why"}),
    "groups of words": lambda path: resaved(path, groups=[["a"], ["b"], ["c"]]),
    "what made it is no record": lambda path: resaved(path, made=[1]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_damaged_in_any_way_is_refused_by_one_error(tmp_path, damage):
    path = tmp_path / "scores.npz"
    example().save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"scores\.npz is damaged, or is not a file written by Attribution\.save"):
        Attribution.load(path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="`targets` must hold one name a target: 2, got 1"):
        example(targets=["one"]).save(tmp_path / "scores.npz")
    assert not list(tmp_path.iterdir())


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "scores.npz"
    example().save(path)
    data = path.read_bytes()
    # The flips of the seal's own words among them.
    for place in [*range(0, len(data), 11), *range(len(data) - 80, len(data))]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            Attribution.load(path)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        Attribution.load("none.npz")


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "scores.npz"
    example().save(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"scores\.npz could not be written .*make room"):
            Attribution(torch.zeros(2000, 1), torch.arange(2000), n_objects=2000).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(Attribution.load(path).objects, example().objects)
    assert [found.name for found in tmp_path.iterdir()] == ["scores.npz"]


def test_a_link_leads_to_the_file_that_is_replaced_and_its_owner_keeps_it(tmp_path):
    example().save(tmp_path / "private.npz")
    (tmp_path / "private.npz").chmod(0o600)
    (tmp_path / "link").symlink_to("private.npz")
    example(targets=None).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert Attribution.load(tmp_path / "private.npz").targets is None
    assert (tmp_path / "private.npz").stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_written_to_and_not_replaced():
    example().save("/dev/null")
    assert not Path("/dev/null").is_file()


def test_a_saved_result_says_what_made_it(tmp_path):
    x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    given = {"n_objects": 3}

    def loss(theta, presence):
        return (presence * (x - theta) ** 2).sum() / 2

    def fit(presence, *, seed):
        return (presence @ x / presence.sum())[None]

    theta = torch.tensor(3.0).double()
    made = {
        "attribute": vif.attribute(loss, theta, lambda p: p, solver=vif.CG(rtol=1e-4), damping=0.5, **given),
        "newton_step": vif.newton_step(loss, theta, lambda p: p, **given),
        "descend": vif.descend(loss, theta, lambda p: p, **given),
        "refit": vif.refit(loss, theta, lambda p: p, gtol=1e-9, **given),
        "leave_one_out": vif.leave_one_out(fit, lambda p: p, seeds=[3, 5], progress=False, **given),
        "write_scores": vif.write_scores(loss, theta, lambda p: p, tmp_path / "folder", **given),
    }
    for verb, result in made.items():
        result.save(tmp_path / "scores.npz")
        found = Attribution.load(tmp_path / "scores.npz").made
        assert found == result.made
        assert found["by"] == verb
        assert {"version", "date"} < set(found)
        assert "made" not in repr(result)
    assert made["attribute"].made["solver"].startswith("CG(rtol=0.0001")
    assert made["attribute"].made["damping"] == 0.5
    assert made["attribute"].made["curvature"] == "Hessian"
    assert made["attribute"].made["tolerated"] == vif.CG(rtol=1e-4).tolerated
    assert made["refit"].made["gtol"] == 1e-9
    assert made["leave_one_out"].made["seeds"] == [3, 5]
    assert Attribution.load(tmp_path / "folder").made == made["write_scores"].made
    assert made_by("x", y=torch.zeros(10**4))["y"].startswith("tensor")
    assert [member["by"] for member in vif.ensemble([made["refit"]] * 2).made["members"]] == ["refit"] * 2


def test_a_group_is_the_sum_of_its_members_for_a_sum_over_objects_and_for_no_other():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(12, 2, generator=draw, dtype=torch.float64)
    y = x.sum(dim=1) + torch.randn(12, generator=draw, dtype=torch.float64)
    groups = [[0, 1, 2], [5, 9]]

    def squares(theta, presence):
        return (presence * (y - x @ theta) ** 2).sum() / 2

    cox = vif.losses.CoxLoss(x, y.exp(), torch.ones(12))
    differences = []
    for loss in (squares, cox):
        theta = vif.minimize(loss, torch.zeros(2).double(), n_objects=12)
        single = vif.attribute(loss, theta, lambda p: p, n_objects=12)
        grouped = vif.attribute(loss, theta, lambda p: p, n_objects=12, objects=groups)
        sums = vif.evaluation.summed(single, grouped).scores
        differences.append(((grouped.scores - sums).abs().max() / sums.abs().max()).item())
        refitted = vif.refit(loss, theta, lambda p: p, n_objects=12, objects=groups).scores
        assert (refitted - sums).abs().max() > 0.01 * refitted.abs().max()
    assert differences[0] < 1e-12
    assert differences[1] > 0.01
