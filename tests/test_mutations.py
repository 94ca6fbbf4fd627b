"""The planted faults can still be planted: `benchmarks/mutations.py` plants them, and holds the tests to catching them."""

from pathlib import Path

import pytest

import versatile_influence
from benchmarks.mutations import MUTATIONS, ROOT

PACKAGE = Path(versatile_influence.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.fault)
def test_a_fault_has_its_one_place_in_the_code_and_its_tests_are_there(mutation):
    assert (PACKAGE / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.old != mutation.new
    assert all((ROOT / word).is_file() for word in mutation.tests.split())
