# SPDX-License-Identifier: Apache-2.0
"""Extra specs are compared as Nova compares them."""

import hypothesis
import hypothesis.strategies as st
from nova.scheduler.filters import extra_specs_ops

from nova_rebalancer.model.constraints import extra_specs
from tests.unit.model.constraints import nova_objects

OPERATORS = [*extra_specs_ops.op_methods, "<or>", ""]
WORDS = ["1", "2", "2.0", "10", "a", "ab", "b", "true", "-1", "1e1", "nan", "", "<or>", "=", "s=="]
WISHES = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)


@nova_objects.judged(value=st.sampled_from(WORDS), operator=st.sampled_from(OPERATORS), wish=WISHES)
def test_as_nova(value: str, operator: str, wish: str) -> bool:
    """Where Nova's comparison fails, for want of a number or a word, nothing matches here."""
    asked = f"{operator} {wish}"
    try:
        expected = bool(extra_specs_ops.match(value, asked))
    except (ValueError, IndexError):
        expected = False
    assert extra_specs.match(value, asked) == expected
    return expected


@hypothesis.settings(max_examples=nova_objects.PLACEMENTS, deadline=None)
@hypothesis.given(st.text(max_size=4), st.text(max_size=6))
def test_any_text(value: str, asked: str) -> None:
    """No text of an owner's breaks it."""
    try:
        expected = bool(extra_specs_ops.match(value, asked))
    except (ValueError, IndexError):
        expected = False
    assert extra_specs.match(value, asked) == expected
