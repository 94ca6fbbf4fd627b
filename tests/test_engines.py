"""Retraining on a Dask cluster gives the scores of one process."""

import joblib
import pytest
import torch

import versatile_influence as vif

X = torch.tensor([1.0, 2.0, 6.0, 3.0, 8.0], dtype=torch.float64)


# Dask warns of sockets that it closes later, and of deprecations of its own.
@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_with_two_workers_gives_the_same_scores(tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install distributed")

    # Inside the test, so that it is sent by value: workers cannot import this file.
    def mean(presence):
        if presence[3] == 0:
            raise ArithmeticError("no minimum")
        return (presence @ X / presence.sum())[None]

    given = {"n_objects": 5, "progress": False}
    with pytest.warns(UserWarning, match="1 of 5"):
        alone = vif.leave_one_out(mean, torch.exp, **given)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
        pytest.warns(UserWarning, match="1 of 5"),
    ):
        shared = vif.leave_one_out(mean, torch.exp, store=tmp_path, **given)
    torch.testing.assert_close(shared.scores, alone.scores, rtol=0, atol=0, equal_nan=True)
    assert shared.failed == alone.failed
