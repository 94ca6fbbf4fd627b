"""What every test file may ask for."""

import pytest
import torch
from jaxtyping import config


def pytest_collectstart():
    """Let what a test file draws as it is imported be the same in every run and on every machine."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _the_same_draws_in_every_run():
    torch.manual_seed(0)


@pytest.fixture
def plain_types():
    """Switch off the checks of annotated types, which users do not have, so that our own errors are seen."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def refused(capsys):
    """Return what `vif` says of a call whose words are wrong: its status must be 2, and nothing be printed."""

    def said(*words):
        # Here, since what this file imports at its top is imported before types are checked.
        from versatile_influence.cli import main

        with pytest.raises(SystemExit) as left:
            main([*map(str, words)])
        told = capsys.readouterr()
        assert (left.value.code, told.out) == (2, "")
        return told.err

    return said
