# SPDX-License-Identifier: Apache-2.0
"""The independent checker: does this plan, or this path, do safely what it says it does?

It reads the two documents by itself and states every rule again, so that a mistake in a planner,
the path-finder or their model of the cloud does not hide itself here.  With the rest of the
program it shares the two published schemas and nothing else.

The first violated rule is reported.  Rules that concern the document come first, in the order
of this list down to ``project_budget`` and then ``order`` by list, wave and clock; the others
follow, each in the order of ``migrations``: what one migration may do at all, then the chain of
hops, then what may be in flight together, then the objective and whether it is worth it.

``format``
    The plan is not JSON, breaks the schema, or is of another version; its options ignore a rule
    that is none or must not be ignored, or have a scope that is none or a check with a value that
    is none.
``snapshot_mismatch``
    ``snapshot_sha256``, ``cloud``, ``region``, ``snapshot_taken_at`` or ``numa_choice`` is not
    the snapshot's.
``snapshot_incomplete``
    Something is missing from the snapshot that matters for all hosts: no plan is safe on it.
``duplicate_id``
    Two migrations have one id.
``unknown_instance``
    A migration, or an entry of ``unreachable`` or ``excluded``, names an instance that is on no
    host of the snapshot.
``unknown_host``
    ``source`` or ``dest`` is no service host of the snapshot, or ``dest_provider`` is not the
    provider of ``dest``.
``unknown_dependency``
    ``depends_on`` names no migration of the plan.
``dependency_cycle``
    Migrations wait for each other, or one for itself.
``too_many``
    There are more migrations, bypasses included, than ``max_migrations``, or they copy more memory
    than ``options.max_gib``.
``project_budget``
    The instances of one project have more migrations than ``options.project_migrations``, or are of
    more memory than ``options.project_gib``; bypasses included.
``order``
    A migration stands before one it depends on, has no greater wave than it, starts before its
    end or ends before its own start; hops of one instance do not wait for each other; ``role``
    is not ``direct`` for the last hop of an instance and ``bypass`` for the others.  Where Nova
    chooses NUMA cells: a migration of an instance with a topology does not wait for an earlier
    one that brings such an instance to its destination or takes one from there, or that brings
    one to its source.
``same_host``
    ``source`` and ``dest`` are one.
``not_migratable``
    The instance is listed in ``excluded``, is on or off and ``method`` is for what is not, is
    migrated cold though it is on no host that ``options.cold`` is for, or stays for one of these
    reasons, which the detail begins with: ``out_of_scope``, ``opted_out``, ``not_opted_in``,
    ``cooldown``, ``host_not_usable``, ``migrating``, ``task_state``, ``status``, ``power_state``,
    ``locked``, ``no_allocations``, ``encrypted_memory``, ``vtpm``, ``accelerator``,
    ``persistent_memory``, ``pci_devices``*, ``special_ports``*, ``nested_resources``*,
    ``scheduler_hints``*, ``numa_unknown``; ``check``: one of the checks that the options name.
``wrong_source``
    ``source`` (or ``source_provider``) is not where the snapshot or the instance's previous hop
    leaves it.
``not_allowed``
    ``dest`` is refused by a rule, which the detail begins with.  Against where the instance was
    at the start: ``usable``, ``scope``, ``allowed_hosts``, ``banned_hosts``, ``pinned_zone``,
    ``keep_zone``*, ``units``, ``tenant_isolation``*, ``aggregate_extra_specs``*,
    ``image_isolation``*, ``flavor_isolation``*, ``isolated_traits``*, ``traits``,
    ``image_traits``*, ``image_properties``*, ``capabilities``*, ``provider_tree``.  Against
    ``source``: ``cell``*, ``hypervisor``, ``cpu``*.
``numa``
    ``source_numa`` is not where the guest cells are; ``dest_numa`` is null for an instance with
    a NUMA topology or not null for one without, does not name as many different cells of the
    destination as there are guest cells, or the destination's cells are unknown or no more than
    inferred; a host cell would be charged above its capacity (where the planner chooses cells),
    or Nova would take others than ``dest_numa``, none, or another page size, or what its choice
    depends on is not known (where Nova does).
``affinity``
    A member of an affinity group of two or more goes where no member is that stays.
``capacity``
    A host, a shared pool or the nested providers of a host together would be charged above
    their Placement capacity, or what the checks that the options name leave of it.
``anti_affinity``
    More members of an anti-affinity group than ``max_server_per_host``, or two instances in
    conflict (or kept apart by a check), on one host.
``objective``
    ``before`` or ``after`` is not what replaying gives (within 1e-9), ``bound`` is above one of
    them, ``gap`` is not (after - bound) / \\|after\\|, ``status`` contradicts the numbers, or the
    objective is one that this checker cannot compute.
``not_worth``
    The migrations gain less than ``options.min_gain`` for each and ``options.cost_per_gib`` for
    each GiB of memory.

A path is checked against its question, a case of a file or a target on a snapshot, for the same
rules but for ``too_many`` and ``objective``, and for these:

``cases``
    The paths are not one for each case of the file in its order, or the one is for no case.
``verdict``
    ``reachable`` does not fit ``migrations``, ``cost``, ``optimal``, ``certificate`` or
    ``unreachable``, or what the file of cases says is proved; instances are stopped or started
    without ``allow_stop``.
``makespan``
    A migration takes no time, or in a case not one second, which its wave counts; more migrations
    than the limits of the path allow leave one host, arrive on one, go over one link or run at all
    at a time; ``makespan_s`` is not the last end; ``makespan_bound_s`` is above it or above what
    the file has proved.
``cost``
    ``cost`` is not the sum over the migrations, or is called optimal and the file knows less.
``target``
    ``reachable`` is true, and the migrations do not lead to the target.
``certificate``
    The certificate does not prove that the target cannot be reached, or the placements that it
    counts are more than the million that are gone through here.

The options of a plan may name those with a * as ``ignored_rules``: an operator takes the risk.

``capacity``, ``numa`` for cells that the planner chooses, and ``anti_affinity`` hold for *every*
set of confirmed migrations closed under dependencies and *every* set in flight whose dependencies
are confirmed, with an instance in flight charged on both hosts, and beside what Placement holds
for anything but the instances.  What the snapshot itself overfills is no violation until
something arrives there.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import pathlib

from nova_rebalancer import exceptions
from nova_rebalancer.checker import aims
from nova_rebalancer.checker import broken
from nova_rebalancer.checker import cases
from nova_rebalancer.checker import checks
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import goal
from nova_rebalancer.checker import moments
from nova_rebalancer.checker import options
from nova_rebalancer.checker import paths
from nova_rebalancer.checker import question
from nova_rebalancer.checker import rules
from nova_rebalancer.checker import worth

KINDS = (
    "format",
    "snapshot_mismatch",
    "snapshot_incomplete",
    "duplicate_id",
    "unknown_instance",
    "unknown_host",
    "unknown_dependency",
    "dependency_cycle",
    "too_many",
    "project_budget",
    "order",
    "same_host",
    "not_migratable",
    "wrong_source",
    "not_allowed",
    "numa",
    "affinity",
    "capacity",
    "anti_affinity",
    "objective",
    "not_worth",
    "cases",
    "verdict",
    "makespan",
    "cost",
    "target",
    "certificate",
)
"""Every kind of violation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    Attributes
    ----------
    ok
        Whether no rule is violated.
    kind
        One of KINDS, None when ok.
    migration
        Id of the migration that violates it, None when ok or when the whole document does.
    detail
        One line for people, with names and numbers.
    """

    ok: bool
    kind: str | None
    migration: str | None
    detail: str


def check_files(snapshot: str, plan: str) -> Verdict:
    """Check the plan document in the file ``plan`` on the snapshot in the file ``snapshot``.

    Raises
    ------
    InputError
        If a file cannot be read, or the snapshot is not a sound snapshot document.
    """
    return check(read(snapshot), read(plan), snapshot_name=snapshot)


def check(snapshot: bytes, plan: bytes, *, snapshot_name: str = "snapshot") -> Verdict:
    """Check a plan document on a snapshot document, either of them gzipped or not.

    Parameters
    ----------
    snapshot, plan
        The documents.
    snapshot_name
        What errors call the snapshot.

    Raises
    ------
    InputError
        If the snapshot is not a sound snapshot document.
    """
    cloud = facts.read(snapshot, snapshot_name)
    try:
        return Verdict(True, None, None, _replay(cloud, plan))
    except broken.Broken as violation:
        return Verdict(False, violation.kind, violation.migration, violation.detail)


def check_cases(problem: bytes, path: bytes, *, problem_name: str = "problem") -> Verdict:
    """Check the paths of a document, one or a list, on the cases of a file, gzipped or not.

    Parameters
    ----------
    problem, path
        The documents.
    problem_name
        What errors call the file of cases.

    Raises
    ------
    InputError
        If the file of cases is not sound.
    """
    asked = {one.id: one for one in cases.read(problem, problem_name)}
    return _verdict_of(path, lambda answers: _paired(answers, asked))


def check_target(
    snapshot: bytes,
    target: bytes,
    path: bytes,
    *,
    snapshot_name: str = "snapshot",
    target_name: str = "target",
) -> Verdict:
    """Check a path on a target file for a snapshot, all gzipped or not.

    Raises
    ------
    InputError
        If the snapshot or the target is not sound.
    """
    asked = aims.read(snapshot, snapshot_name, target, target_name)

    def paired(answers: list[documents.Document]) -> list[question.Question]:
        if len(answers) != 1:
            raise broken.Broken("format", None, f"{len(answers)} paths for one target")
        rules.whole(asked.cloud)
        return [asked]

    return _verdict_of(path, paired)


def _paired(
    answers: list[documents.Document], asked: Mapping[str | None, question.Question]
) -> list[question.Question]:
    """Return the question of each answer."""
    names = [answer["id"] for answer in answers]
    for name in names:
        if name not in asked:
            raise broken.Broken("cases", None, f'there is no case "{name}"')
    if len(names) != 1 and names != list(asked):
        wrong = next(
            (k for k, (a, b) in enumerate(zip(names, asked, strict=False)) if a != b),
            min(len(names), len(asked)),
        )
        raise broken.Broken(
            "cases",
            None,
            f"{len(names)} paths for {len(asked)} cases; from number {wrong + 1} on they are not "
            "in the order of the file",
        )
    return [asked[name] for name in names]


def _verdict_of(
    path: bytes, pair: Callable[[list[documents.Document]], list[question.Question]]
) -> Verdict:
    """Check each path of a document on the question that ``pair`` finds for it."""
    where = ""
    try:
        answers = paths.read(path)
        for asked, answer in zip(pair(answers), answers, strict=True):
            where = "" if asked.id is None else f'case "{asked.id}": '
            paths.check(asked, answer)
    except broken.Broken as violation:
        return Verdict(False, violation.kind, violation.migration, where + violation.detail)
    verdicts = [answer["reachable"] for answer in answers]
    migrations = sum(len(answer["migrations"]) for answer in answers)
    return Verdict(
        True,
        None,
        None,
        f"{verdicts.count(True)} reachable, {verdicts.count(False)} proved not to be, "
        f"{verdicts.count('unknown')} unknown; {migrations} migrations are safe in every order "
        "their dependencies allow",
    )


def _replay(cloud: facts.Cloud, data: bytes) -> str:
    """Raise Broken at the first violation, else return one line on what was checked."""
    plan = documents.read_plan(data)
    given = options.read(plan)
    rules.same_snapshot(cloud, plan)
    rules.whole(cloud)
    kept = checks.read(cloud, plan)
    cloud = facts.keeping_apart(cloud, kept.apart)
    rules.names(cloud, plan)
    depends_on = rules.dependencies(plan)
    rules.limit(plan)
    worth.budgets(cloud, plan, given)
    rules.stated_order(plan, depends_on)
    hops = rules.hops(cloud, plan, given, kept.stay)
    rules.chains(plan, depends_on)
    rules.numa_order(cloud, plan, hops, depends_on)
    load = facts.load(cloud, cloud.placement)
    moments.check(cloud, plan, hops, depends_on, load, kept)
    final = dict(cloud.placement)
    final.update({hop.instance: hop.dest for hop in hops})
    before, after = goal.check(cloud, plan, load, final)
    worth.gain(cloud, plan, given, before - after)
    # Last: who changes a destination by hand mostly leaves its provider behind, and wants to
    # hear what is wrong with the new destination.
    rules.providers(cloud, plan)
    waves = len({migration["wave"] for migration in plan["migrations"]})
    return (
        f"{len(hops)} migrations in {waves} waves are safe in every order their dependencies "
        f"allow; {plan['goal']} {before:.6f} -> {after:.6f}"
        + (f"; checks that cannot be judged here: {', '.join(kept.unknown)}" * bool(kept.unknown))
    )


def read(path: str) -> bytes:
    """Return the content of a file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise exceptions.InputError(f"{path}: cannot be read: {error.strerror}") from error
