"""The faults of `benchmarks/mutations.py` can still be planted, and the tests that must catch them are there."""

from pathlib import Path

import pytest

import versatile_influence
from benchmarks.mutations import MUTATIONS, ROOT

PACKAGE = Path(versatile_influence.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.fault)
def test_a_fault_has_its_one_place_in_the_code_and_its_tests_are_there(mutation):
    assert (PACKAGE / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.old != mutation.new
    for word in mutation.tests.split():
        file, _, name = word.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / file).read_text(encoding="utf-8")
