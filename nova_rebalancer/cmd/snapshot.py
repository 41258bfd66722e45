# SPDX-License-Identifier: Apache-2.0
"""Commands on snapshots: save, validate, show, convert, anonymise.

The modules that need numpy or a validator are imported when a command runs, so that ``--help``
and the completion of other commands stay fast.
"""

import argparse
import collections
from collections.abc import Mapping
from collections.abc import Sequence
import logging
from typing import Any

from cliff import columns
from cliff import command
from cliff import show

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import cloud
from nova_rebalancer.cmd import numbers

LOG = logging.getLogger(__name__)

_PROBLEMS_SHOWN = 10


class Save(command.Command):
    """Read a live cloud and write what it says into a snapshot.

    Nothing is changed. The first time everything is read; what is large and seldom changes is
    kept in the user's cache folder, so that the next time takes a few requests. What could not
    be read is listed in the snapshot; "nova-rebalance doctor" says how to mend it.
    """

    _epilog = (
        "Example: nova-rebalance snapshot save --os-cloud mycloud cloud.json.gz && "
        "nova-rebalance plan --snapshot cloud.json.gz"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the cloud and the file to the options of every command."""
        parser = super().get_parser(prog_name)
        cloud.add_options(parser)
        cloud.add_scope(parser, "keep only the hosts of this part of the cloud")
        parser.add_argument(
            "output",
            metavar="OUT",
            help="file to write, gzipped if its name ends in .gz; - is standard output",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the snapshot; what is missing and the summary go to stderr."""
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.collect import files
        from nova_rebalancer.model import scope

        part = scope.parse(parsed_args.scope)
        if "project" in part.names:
            raise exceptions.UsageError(
                "--scope project: a snapshot of some projects' instances would show hosts "
                "emptier than they are; give it to nova-rebalance plan"
            )
        conf = settings.load(self.app_args.config_file)
        found = cloud.read(conf, parsed_args, self.app.stderr, part)
        files.write_bytes(parsed_args.output, found.data)
        for lack in found.snapshot.missing:
            LOG.warning("%s is missing: %s", lack.what, lack.reason)


class Validate(command.Command):
    """Check that a file is a sound snapshot.

    Says "ok" with the numbers of hosts and instances, or exits with 1 and what is wrong, at
    most ten problems, one on a line: the file, the place in it, the reason. Checked are the
    JSON Schema and what a schema cannot say: ids that occur twice, instances on unknown hosts
    or cells, reservations above the total.
    """

    _epilog = "Example: nova-rebalance snapshot validate cloud.json.gz"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the file to the options of every command."""
        parser = super().get_parser(prog_name)
        _add_input(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Print the verdict; 0 for a sound snapshot, else 1."""
        from nova_rebalancer.collect import document
        from nova_rebalancer.collect import files

        name = parsed_args.file
        content = files.parse_json(files.read_bytes(name), name)
        problems = document.problems(content, _PROBLEMS_SHOWN)
        for problem in problems:
            print(f"nova-rebalance: error: {name}: {problem}", file=self.app.stderr)
        if problems:
            return 1
        hosts, instances = len(content["hosts"]), len(content["instances"])
        print(f"ok: {name}: {hosts} hosts, {instances} instances", file=self.app.stdout)
        return 0


class Show(show.ShowOne):
    """Show what a snapshot holds: hosts, instances, capacity, use and the fragment rate.

    Usable hosts are enabled, up and read whole; only they receive instances and count in the
    fragment rate. Instances that cannot be migrated are counted by the reason. Use above capacity
    is possible in a real cloud; such rows are counted as overfull and are never made worse by a
    plan.
    """

    _epilog = (
        "Examples: nova-rebalance snapshot show cloud.json.gz; the fragment rate alone, for "
        "8-core instances: nova-rebalance snapshot show --fragment-cores 8 -f value "
        "-c fragment_rate cloud.json.gz"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add file and fragment size to the options of every command."""
        parser = super().get_parser(prog_name)
        _add_input(parser)
        parser.add_argument(
            "--fragment-cores",
            type=numbers.sizes,
            default=(16,),
            metavar="X",
            help="size in cores that free space should be a multiple of: that of the largest "
            "flavor that must always find room; or several sizes, as 32,16,8,4 (default: 16)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Return the names and values to show."""
        from nova_rebalancer.collect import document
        from nova_rebalancer.model import state
        from nova_rebalancer.model.objectives import fragmentation

        snapshot, sha256 = document.load(parsed_args.file)
        placement = state.build(snapshot)
        capacity, used = placement.capacity.sum(axis=0), placement.used().sum(axis=0)
        rate = fragmentation.Fragmentation(*parsed_args.fragment_cores).evaluate(placement)
        why = collections.Counter(found.reason.code for found in placement.excluded.values())
        rows: dict[str, Any] = {
            "cloud": snapshot.cloud,
            "region": snapshot.region,
            "taken_at": snapshot.taken_at,
            "sha256": sha256,
            "hosts": len(snapshot.hosts),
            "hosts_usable": sum(host.usable for host in snapshot.hosts),
            "hosts_disabled": sum(host.status == "disabled" for host in snapshot.hosts),
            "hosts_down": sum(host.state == "down" for host in snapshot.hosts),
            "instances": len(snapshot.instances),
            "not_migratable": _Counts(dict(sorted(why.items()))),
            "server_groups": len(snapshot.server_groups),
            "conflicts": len(snapshot.conflicts),
            "resources": _Resources(
                {
                    resource: {"capacity": int(capacity[r]), "used": int(used[r])}
                    for r, resource in enumerate(placement.resources)
                }
            ),
            "overfull": len(placement.overfull()),
            "fragment_cores": _Sizes(parsed_args.fragment_cores),
            "fragment_rate": round(rate.value, 6),
            "outside": len(snapshot.outside),
            "refused": len(snapshot.refused),
            "missing": len(snapshot.missing),
        }
        return tuple(rows), tuple(rows.values())


class Convert(command.Command):
    """Make a snapshot of a file in another format.

    vmr2l: the data sets of VMR2L (EuroSys 2025), clusters of hosts with NUMA nodes. Ids stay;
    all clusters of a file become one cloud; DISABLED hosts stay as disabled; "host" deployment
    sets become anti-affinity server groups; "rack" sets are left out with a warning. A core
    becomes one VCPU.
    """

    _epilog = "Example: nova-rebalance snapshot convert --from vmr2l flex_vm_0.json cloud.json.gz"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add format and files to the options of every command."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--from", dest="source", required=True, choices=("vmr2l",), help="format of IN"
        )
        _add_files(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the snapshot; warnings and the summary go to stderr."""
        from nova_rebalancer.collect import document
        from nova_rebalancer.collect import files
        from nova_rebalancer.collect import vmr2l

        name = parsed_args.input
        content = files.parse_json(files.read_bytes(name), name)
        snapshot, warnings = vmr2l.convert(content, name)
        for warning in warnings:
            print(f"nova-rebalance: warning: {warning}", file=self.app.stderr)
        problems = document.problems(snapshot, 1)
        if problems:
            raise exceptions.InputError(f"{name}: gives no sound snapshot: {problems[0]}")
        _write(self, parsed_args.output, snapshot)


class Anonymise(command.Command):
    """Replace the names in a snapshot, to show it to others.

    Ids and names of the cloud, hosts, instances, projects, server groups, zones, aggregates,
    racks, flavors, custom traits and custom resource classes become pseudonyms like host-0001;
    names of instances, metadata, tags, comments and most extra specs are dropped. Sizes,
    capacities, NUMA layout, measured use, states and times stay, so plans come out as good as
    on the original; someone who knows the cloud may recognise it by them. The map from names to
    pseudonyms is not stored.
    """

    _epilog = "Example: nova-rebalance snapshot anonymise cloud.json.gz public.json.gz"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add files and key to the options of every command."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--key-file",
            metavar="FILE",
            help="make pseudonyms by HMAC with the secret in FILE, so that they are the same in "
            "several snapshots of one cloud (default: names are numbered in each snapshot)",
        )
        _add_files(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the snapshot without names; the summary goes to stderr."""
        from nova_rebalancer.collect import anonymise
        from nova_rebalancer.collect import document
        from nova_rebalancer.collect import files

        name = parsed_args.input
        content = files.parse_json(files.read_bytes(name), name)
        problems = document.problems(content, 1)
        if problems:
            raise exceptions.InputError(f"{name}: {problems[0]}")
        key = None
        if parsed_args.key_file is not None:
            key = files.read_bytes(parsed_args.key_file)
            if not key.strip():
                raise exceptions.UsageError(f"{parsed_args.key_file}: the key is empty")
        _write(self, parsed_args.output, anonymise.anonymise(content, key))


class _Counts(columns.FormattableColumn[Mapping[str, int]]):
    """Counts by code: a mapping for programs, ``locked 3, status 1`` for people."""

    def human_readable(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self._value.items()) or "none"


class _Sizes(columns.FormattableColumn[Sequence[int]]):
    """Sizes: a list for programs, ``32, 16`` for people."""

    def human_readable(self) -> str:
        return ", ".join(map(str, self._value))


class _Resources(columns.FormattableColumn[Mapping[str, Mapping[str, int]]]):
    """Capacity and use by class: mappings for programs, one line each for people."""

    def human_readable(self) -> str:
        return "\n".join(_share(name, **amounts) for name, amounts in self._value.items())


def _share(name: str, capacity: int, used: int) -> str:
    share = f" ({used / capacity:.1%})" if capacity else ""
    return f"{name} {used} of {capacity}{share}"


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="snapshot document, gzipped or not; - is standard input"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="IN", help="file to read, gzipped or not; - is standard input"
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        help="file to write, gzipped if its name ends in .gz; - is standard output",
    )


def _write(caller: command.Command, output: str, snapshot: dict[str, Any]) -> None:
    from nova_rebalancer.collect import files

    files.write_bytes(output, files.to_json(snapshot))
    hosts, instances = len(snapshot["hosts"]), len(snapshot["instances"])
    print(f"{output}: {hosts} hosts, {instances} instances", file=caller.app.stderr)
