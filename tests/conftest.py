"""What every test file may ask for."""

import pytest
from jaxtyping import config


@pytest.fixture
def plain_types():
    """Switch off the checks of annotated types, which users do not have, so that our own errors are seen."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
