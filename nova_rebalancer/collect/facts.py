# SPDX-License-Identifier: Apache-2.0
"""The operator facts file: what Nova's API does not tell of the hosts.

It is YAML, ``nova-rebalancer-facts/1``; ``model/schemas/facts-1.json`` is its schema.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import fnmatch
import math
import re
from typing import Any

import yaml

from nova_rebalancer import exceptions
from nova_rebalancer.collect import files
from nova_rebalancer.model import cloud
from nova_rebalancer.model import schema

FACTS = "facts-1"

MEMORY_TOLERANCE = 0.05
"""Share by which the cells' memory may differ from Placement's total before it is worth a word:
kernels and libvirt count what the firmware keeps for itself differently."""

COMMON_PAGES_KIB = (2048, 1048576)
"""Page sizes that a cell without such pages is said to have none of, even if no file names them."""

SMALL_PAGE_KIB = 4
"""Size of the pages that are no hugepages."""

# libyaml, where PyYAML was built with it, reads a file of 1,000 hosts in a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TEXT = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp"))
_VALUES = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null"))
_TREES = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq"))


@dataclasses.dataclass(frozen=True, slots=True)
class NumaCell:
    """A NUMA cell of a host: CPU numbers, and pages by page size in KiB."""

    cell: int
    memory_mib: int
    shared_cpus: frozenset[int]
    dedicated_cpus: frozenset[int]
    hugepages: Mapping[int, int]
    siblings: tuple[frozenset[int], ...] = ()
    pci_devices: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What the file says of a host, of a pattern's hosts or by default; None is left open."""

    cell: str | None = None
    rack: str | None = None
    power_zone: str | None = None
    migration_link: str | None = None
    migration_mibps: int | None = None
    watts: tuple[float, ...] | None = None
    inlet_c: float | None = None
    numa: tuple[NumaCell, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """A facts file; ``name`` stands for it in messages, hosts are keyed by service host."""

    name: str
    hosts: Mapping[str, Host]
    patterns: Mapping[str, Host]
    defaults: Host

    def of(self, host: str) -> Host:
        """Return the facts of a service host.

        Each fact is the host's own, else that of the first pattern that fits and has it, else the
        default. A host's NUMA cells are one fact: they are never put together from two places.
        """
        found = [self.hosts.get(host, Host())]
        found += [facts for name, facts in self.patterns.items() if fnmatch.fnmatchcase(host, name)]
        found.append(self.defaults)
        return Host(
            **{
                field.name: next(
                    (value for facts in found if (value := getattr(facts, field.name)) is not None),
                    None,
                )
                for field in dataclasses.fields(Host)
            }
        )


def load(path: str) -> Facts:
    """Read the facts file ``path``.

    Raises
    ------
    exceptions.InputError
        If the file cannot be read, is not YAML or does not say what a facts file says.
    """
    return loads(files.read_bytes(path), path)


def loads(data: bytes, name: str) -> Facts:
    """Read a facts file from ``data``; ``name`` stands for it in messages."""
    document = _read_yaml(data, name)
    found = schema.problems(FACTS, document, 1)
    if found:
        # YAML makes a number of what looks like one, also where a name is meant.
        hint = ", put it in quotes" if found[0].endswith('is not of type "string"') else ""
        raise exceptions.InputError(f"{name}: {found[0]}{hint}")
    try:
        return Facts(
            name=name,
            hosts=_hosts(document, "hosts"),
            patterns=_hosts(document, "patterns"),
            defaults=_host(document.get("defaults", {}), "defaults"),
        )
    except ValueError as error:
        raise exceptions.InputError(f"{name}: {error}") from error


def parse_cpus(text: str) -> frozenset[int]:
    """CPU numbers of a list such as ``0-3,32-35``; of an empty one none.

    Raises
    ------
    ValueError
        If it is no such list. Exclusions (``^4``) are for Nova's configuration only.
    """
    cpus: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        if match is None:
            raise ValueError(f'"{part.strip()}" is neither a CPU number nor a range like 4-15')
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f'the range "{part.strip()}" ends before it begins')
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def apply(document: dict[str, Any], facts: Facts) -> list[str]:
    """Write the facts into a snapshot document, with the provenance ``operator``.

    What the file leaves open stays as it was, inferred or unknown. So do the NUMA cells of a host
    that has instances on cells the file does not know: the file must be of another host then.

    Parameters
    ----------
    document
        A snapshot document; its hosts are changed in place.
    facts
        What to write.

    Returns
    -------
    list
        Warnings, one line each: where the file and the cloud do not go together.
    """
    hosts = {host.get("service_host") or host["id"]: host for host in document["hosts"]}
    told = {name: facts.of(name) for name in hosts}
    guests = _guest_cells(document)
    pages = _page_sizes(document, told.values())
    speeds, warnings = _link_speeds(facts, told)
    warnings += _strangers(facts, hosts)
    for name, host in hosts.items():
        said = told[name]
        if said.migration_link in speeds:
            said = dataclasses.replace(said, migration_mibps=speeds[said.migration_link])
        for key in cloud.FACTS:
            value = getattr(said, key)
            if value is not None:
                host[key] = {"provenance": "operator", "value": str(value)}
        if said.watts is not None:
            host["watts"] = list(said.watts)
        if said.inlet_c is not None:
            host["inlet_c"] = said.inlet_c
        if said.numa is None:
            continue
        where = f'{facts.name}: host "{name}"'
        foreign = _foreign_cells(said.numa, guests[host["id"]])
        if foreign is not None:
            warnings.append(f"{where}: {foreign}; its NUMA cells are not taken from the file")
            continue
        warnings += [f"{where}: {text}" for text in _mismatches(said.numa, host["inventories"])]
        host["numa"] = {
            "provenance": "operator",
            "cells": [
                {
                    "id": cell.cell,
                    "capacity": _capacity(cell, host["inventories"], pages),
                    "detail": _detail(cell),
                }
                for cell in said.numa
            ],
        }
    return warnings


def _detail(cell: NumaCell) -> dict[str, Any]:
    """What Nova fits instances by; memory that is in no hugepage is in small pages."""
    small = cell.memory_mib * 1024 - sum(kib * count for kib, count in cell.hugepages.items())
    pages = {SMALL_PAGE_KIB: max(0, small // SMALL_PAGE_KIB), **cell.hugepages}
    return {
        "shared_cpus": sorted(cell.shared_cpus),
        "dedicated_cpus": sorted(cell.dedicated_cpus),
        "siblings": [sorted(core) for core in cell.siblings],
        "memory_mib": cell.memory_mib,
        "pages": {str(kib): count for kib, count in sorted(pages.items())},
        "pci_devices": cell.pci_devices,
    }


def _capacity(
    cell: NumaCell, inventories: Mapping[str, Mapping[str, Any]], pages: Iterable[int]
) -> dict[str, int]:
    """What instances may use of a cell, in Placement's units.

    A resource the host has no inventory of is left out, for no instance that needs it gets there.
    Pages are written for every size in use, 0 too: what a cell does not name is not limited.

    References
    ----------
    Nova 34.0, ``virt/hardware.py``, ``_numa_fit_instance_cell``: a cell's shared CPUs are limited
    to their number times ``NUMATopologyLimits.cpu_allocation_ratio`` and its memory to the total
    times ``ram_allocation_ratio``; pinned CPUs must be free; pages of an explicit size must be
    free (``NUMACell.can_fit_pagesize``), without overcommitment. Nothing that Placement holds as
    reserved is taken off a cell. ``scheduler/filters/numa_topology_filter.py`` takes the ratios
    from the compute node, which has those of the inventory unless somebody changed the inventory
    by Placement's API.
    """
    capacity = {}
    if "VCPU" in inventories:
        ratio = inventories["VCPU"].get("allocation_ratio", 1.0)
        capacity["VCPU"] = math.floor(len(cell.shared_cpus) * ratio)
    if "PCPU" in inventories:
        capacity["PCPU"] = len(cell.dedicated_cpus)
    if "MEMORY_MB" in inventories:
        # Nova does not hold pinned instances to a ratio below 1.
        ratio = max(1.0, inventories["MEMORY_MB"].get("allocation_ratio", 1.0))
        capacity["MEMORY_MB"] = math.floor(cell.memory_mib * ratio)
    for kib in pages:
        capacity[f"{cloud.PAGES}{kib}KB"] = cell.hugepages.get(kib, 0)
    return capacity


def _page_sizes(document: Mapping[str, Any], told: Iterable[Host]) -> list[int]:
    """Every size of hugepages in KiB that a host has or an instance uses."""
    sizes = set(COMMON_PAGES_KIB)
    for host in told:
        for cell in host.numa or ():
            sizes.update(cell.hugepages)
    for instance in document["instances"]:
        for guest in instance.get("numa") or ():
            for resource in guest["resources"]:
                if match := re.fullmatch(rf"{cloud.PAGES}([0-9]+)KB", resource):
                    sizes.add(int(match[1]))
    return sorted(sizes)


def _guest_cells(document: Mapping[str, Any]) -> dict[str, list[tuple[str, int]]]:
    """Instance and cell of each guest cell whose place is known, by host id."""
    found: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    for instance in document["instances"]:
        for guest in instance.get("numa") or ():
            if guest["cell"] is not None:
                found[instance["host"]].append((instance["id"], guest["cell"]))
    return found


def _foreign_cells(numa: Iterable[NumaCell], guests: Iterable[tuple[str, int]]) -> str | None:
    """Say which instance is on a cell that is not there."""
    known = sorted(cell.cell for cell in numa)
    for instance, cell in guests:
        if cell not in known:
            return f'instance "{instance}" is on NUMA cell {cell}, the file has cells {known}'
    return None


def _mismatches(
    numa: Iterable[NumaCell], inventories: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Compare the cells' sums with what the host told Placement."""
    numa = tuple(numa)
    total = {r: inventories.get(r, {}).get("total", 0) for r in ("VCPU", "PCPU", "MEMORY_MB")}
    again = "run host-facts there again"
    for resource, kind in (("VCPU", "shared"), ("PCPU", "dedicated")):
        count = sum(len(getattr(cell, f"{kind}_cpus")) for cell in numa)
        if count != total[resource]:
            yield f"{count} {kind} CPUs, its {resource} inventory has {total[resource]}; {again}"
    memory = sum(cell.memory_mib for cell in numa)
    if abs(memory - total["MEMORY_MB"]) > MEMORY_TOLERANCE * total["MEMORY_MB"]:
        yield (
            f"{memory} MiB in its NUMA cells, its MEMORY_MB inventory has "
            f"{total['MEMORY_MB']}; {again}"
        )


def _strangers(facts: Facts, hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Name the entries that fit no host."""
    service_host = {host.get("hypervisor_hostname"): name for name, host in hosts.items()}
    for name in facts.hosts:
        if name not in hosts:
            hint = (
                f'; write its service host "{service_host[name]}"' if name in service_host else ""
            )
            yield f'{facts.name}: host "{name}" is not in the cloud{hint}'
    for pattern in facts.patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in hosts):
            yield f'{facts.name}: pattern "{pattern}" fits no host of the cloud'


def _link_speeds(facts: Facts, told: Mapping[str, Host]) -> tuple[dict[str, int], list[str]]:
    """MiB/s of each named link: the lowest where its hosts do not agree, and a warning."""
    said: dict[str, set[int]] = collections.defaultdict(set)
    for host in told.values():
        if host.migration_link is not None and host.migration_mibps is not None:
            said[host.migration_link].add(host.migration_mibps)
    warnings = [
        f'{facts.name}: migration_link "{link}" has {len(speeds)} speeds, {sorted(speeds)} MiB/s; '
        "the lowest counts"
        for link, speeds in said.items()
        if len(speeds) > 1
    ]
    return {link: min(speeds) for link, speeds in said.items()}, warnings


def _hosts(document: Mapping[str, Any], key: str) -> dict[str, Host]:
    entries = document.get(key, {})
    return {name: _host(entry, f"{key}.{name}") for name, entry in entries.items()}


def _host(entry: Mapping[str, Any], where: str) -> Host:
    values = dict(entry)
    if "numa" in entry:
        values["numa"] = _numa(entry["numa"], f"{where}.numa")
    if "migration_mibps" in entry:
        values["migration_mibps"] = int(entry["migration_mibps"])
    if "watts" in entry:
        values["watts"] = tuple(float(one) for one in entry["watts"])
    return Host(**values)


def _numa(entries: Iterable[Mapping[str, Any]], where: str) -> tuple[NumaCell, ...]:
    """Build the cells; a number or a CPU that occurs twice is a ValueError."""
    place_of: dict[int, str] = {}
    cells: dict[int, NumaCell] = {}
    for i, entry in enumerate(entries):
        cpus = {}
        for key in ("shared_cpus", "dedicated_cpus"):
            place = f"{where}[{i}].{key}"
            try:
                cpus[key] = parse_cpus(entry.get(key, ""))
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from error
            for cpu in sorted(cpus[key]):
                if cpu in place_of:
                    raise ValueError(f"{place}: CPU {cpu} is in {place_of[cpu]} already")
                place_of[cpu] = place
        number = int(entry["cell"])
        if number in cells:
            raise ValueError(f"{where}[{i}].cell: there is a cell {number} already")
        cells[number] = NumaCell(
            cell=number,
            memory_mib=int(entry["memory_mib"]),
            siblings=_siblings(entry, cpus, f"{where}[{i}].siblings"),
            pci_devices=int(entry.get("pci_devices", 0)),
            hugepages={int(kib): int(n) for kib, n in entry.get("hugepages", {}).items()},
            **cpus,
        )
    return tuple(cells[number] for number in sorted(cells))


def _siblings(
    entry: Mapping[str, Any], cpus: Mapping[str, frozenset[int]], where: str
) -> tuple[frozenset[int], ...]:
    """Build the cores of a cell of its own CPUs; one in two cores is a ValueError."""
    own = cpus["shared_cpus"] | cpus["dedicated_cpus"]
    seen: set[int] = set()
    cores = []
    for text in entry.get("siblings", ()):
        try:
            core = parse_cpus(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        twice = sorted(core & seen)
        if twice:
            raise ValueError(f"{where}: CPU {twice[0]} is in two cores")
        seen |= core
        if core & own:
            cores.append(core & own)
    return tuple(sorted(cores, key=min))


def _read_yaml(data: bytes, name: str) -> Any:
    """Value of a YAML text, as JSON would have it: keys are text, just as they are written."""
    try:
        node = yaml.compose(data, Loader=_LOADER)
        return None if node is None else _value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise exceptions.InputError(f"{name}: {error.problem}{place}") from error
    except yaml.YAMLError as error:
        raise exceptions.InputError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise exceptions.InputError(f"{name}: nested too deeply for a facts file") from error


def _value(node: Any, above: tuple[Any, ...]) -> Any:
    """Value of a node; ``above`` are those it is part of.

    PyYAML's own way from nodes to values keeps the last of two equal keys and makes numbers of
    keys, of which ``010`` would become 8.
    """
    if any(node is other for other in above):
        raise _misplaced(node, "this is part of itself")
    above = (*above, node)
    if node.tag in _TEXT:
        return node.value
    if node.tag in _VALUES:
        try:
            return yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, LookupError) as error:
            raise _misplaced(node, f'"{node.value}" is not what it is said to be') from error
    if node.tag not in _TREES:
        raise _misplaced(node, f"{node.tag} has no meaning in a facts file")
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, above) for item in node.value]
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _misplaced(key, "a key must be a name or a number")
        if key.value in found:
            raise _misplaced(key, f'"{key.value}" occurs twice here')
        found[key.value] = _value(value, above)
    return found


def _misplaced(node: Any, text: str) -> Exception:
    error: Exception = yaml.constructor.ConstructorError(None, None, text, node.start_mark)
    return error
