# SPDX-License-Identifier: Apache-2.0
"""The comparisons that an extra spec may ask for, as ``<in> x`` or ``s== y``.

Nova: ``filters/extra_specs_ops.py``.  What is no number where one is needed makes Nova's filter
fail; here it does not match.
"""

import operator

_NUMBERS = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_TEXTS = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s<": operator.lt,
    "s<=": operator.le,
    "s>": operator.gt,
    "s>=": operator.ge,
}


def match(value: str, wish: str) -> bool:
    """Whether ``value`` is what ``wish`` asks for."""
    first, *rest = wish.split() or [""]
    if first == "<or>":
        # Each alternative stands behind an <or> of its own.
        return value in rest[::2]
    if first not in _NUMBERS and first not in _TEXTS and first not in ("<in>", "<all-in>"):
        return value == wish
    if not rest:
        return False
    if first == "<in>":
        return rest[0] in value
    if first == "<all-in>":
        return all(part in value for part in rest)
    if first in _TEXTS:
        return bool(_TEXTS[first](value, rest[0]))
    try:
        return bool(_NUMBERS[first](float(value), float(rest[0])))
    except ValueError:
        return False
