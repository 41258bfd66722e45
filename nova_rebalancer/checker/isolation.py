# SPDX-License-Identifier: Apache-2.0
"""Who is let into an aggregate; each rule returns why not, None if nothing forbids it.

References
----------
Nova 34.0, ``scheduler/filters`` (``utils.py`` for how metadata of several aggregates add up, and
the filters named below) and ``scheduler/request_filter.py``.
"""

import collections
from collections.abc import Callable
import contextlib
import operator
from typing import Any

from nova_rebalancer.checker import case
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import wants

TENANT = "filter_tenant_id"

_SCOPE = "aggregate_instance_extra_specs"

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}


def tenant_isolation(given: case.Case) -> str | None:
    """AggregateMultiTenancyIsolation, and require_tenant_aggregate."""
    project = given.instance.entry.get("project")
    tenants: set[str] = set()
    for key, values in _metadata(given).items():
        if key.startswith(TENANT):
            tenants |= values
    if tenants and project not in tenants:
        return f'is of project "{project}"; dest "{given.dest.name}" is for {_list(tenants)}'
    own = [
        aggregate
        for aggregate in given.cloud.document.get("aggregates", ())
        if any(
            key.startswith(TENANT) and value == project
            for key, value in aggregate.get("metadata", {}).items()
        )
    ]
    if own and not any(given.dest.id in aggregate["hosts"] for aggregate in own):
        named = _list({aggregate["name"] for aggregate in own})
        return f'dest "{given.dest.name}" is in none of its project\'s aggregates {named}'
    return None


def aggregate_extra_specs(given: case.Case) -> str | None:
    """AggregateInstanceExtraSpecsFilter."""
    metadata = _metadata(given)
    for key, wanted in wants.specs(given.instance.entry).items():
        scope, colon, name = key.partition(":")
        if colon and scope != _SCOPE:
            continue
        name = name if colon else key
        if not any(matches(value, wanted) for value in metadata.get(name, ())):
            return f'aggregates of dest "{given.dest.name}" have no {name} that is {wanted}'
    return None


def image_isolation(given: case.Case) -> str | None:
    """AggregateImagePropertiesIsolation."""
    properties = wants.properties(given.instance.entry)
    for key, values in _metadata(given).items():
        value = properties.get(key)
        if value and value not in values:
            return (
                f"its image has {key} {value}; aggregates of dest "
                f'"{given.dest.name}" want {_list(values)}'
            )
    return None


def flavor_isolation(given: case.Case) -> str | None:
    """AggregateTypeAffinityFilter."""
    flavors = _metadata(given).get("instance_type", set())
    flavor = given.instance.entry.get("flavor")
    if flavors and flavor not in flavors:
        return f'is of flavor "{flavor}"; dest "{given.dest.name}" is for {_list(flavors)}'
    return None


def isolated_traits(given: case.Case) -> str | None:
    """isolate_aggregates."""
    asked = wants.required_traits(given.instance.entry)
    for aggregate in _aggregates(given.cloud, given.dest):
        for key, value in aggregate.get("metadata", {}).items():
            trait = key.removeprefix("trait:")
            if trait != key and value == "required" and trait not in asked:
                return (
                    f'dest "{given.dest.name}" is in aggregate "{aggregate["name"]}" for those '
                    f"that ask for trait {trait}"
                )
    return None


def matches(value: str, wanted: str) -> bool:
    """Whether a value is what an extra spec wants: ``scheduler/filters/extra_specs_ops.py``.

    Where Nova fails, on words that are no numbers, nothing matches.
    """
    sign, *words = wanted.split() or [""]
    if sign == "<or>":
        # Values stand at every second place, between further <or>.
        return value in words[::2]
    if sign in _COMPARE:
        with contextlib.suppress(ValueError):
            return bool(words) and _COMPARE[sign](float(value), float(words[0]))
        return False
    if sign == "<in>":
        return bool(words) and words[0] in value
    if sign == "<all-in>":
        return bool(words) and all(word in value for word in words)
    texts: dict[str, Callable[[Any, Any], bool]] = {
        "s==": operator.eq,
        "s!=": operator.ne,
        "s<": operator.lt,
        "s<=": operator.le,
        "s>": operator.gt,
        "s>=": operator.ge,
    }
    if sign in texts:
        return bool(words) and texts[sign](value, words[0])
    return value == wanted


def _aggregates(cloud: facts.Cloud, host: facts.Host) -> list[dict[str, Any]]:
    return [one for one in cloud.document.get("aggregates", ()) if host.id in one["hosts"]]


def _metadata(given: case.Case) -> dict[str, set[str]]:
    """All metadata of the destination's aggregates, cut at commas."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for aggregate in _aggregates(given.cloud, given.dest):
        for key, value in aggregate.get("metadata", {}).items():
            found[key].update(part.strip() for part in value.split(","))
    return found


def _list(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
