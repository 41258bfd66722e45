# SPDX-License-Identifier: Apache-2.0
"""Where an option's value comes from: the command line, else configuration files, else us."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

from oslo_config import cfg

from nova_rebalancer import conf as our_conf
from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.cmd import goals
from nova_rebalancer.cmd import numbers
from nova_rebalancer.model import scope
from nova_rebalancer.model.objectives import fragmentation


def load(files: Sequence[str] | None) -> Any:
    """Read configuration files and return the options.

    Raises
    ------
    InputError
        If a file is missing or cannot be understood.
    """
    conf = cfg.ConfigOpts()
    our_conf.register(conf)
    try:
        # Only what is named: a dry run from a laptop must not change with what lies in /etc.
        conf(args=[], project="nova-rebalancer", default_config_files=list(files or []))
        for group in our_conf.GROUPS:
            for option in group.OPTIONS:
                value = conf[group.GROUP.name][option.dest]
                if isinstance(value, float) and not math.isfinite(value):
                    name = f"[{group.GROUP.name}] {option.dest}"
                    raise ValueError(f"{name}: {value} is not a finite number")
    except (cfg.Error, ValueError) as error:
        text = " ".join(str(error).split())
        raise exceptions.InputError(f"configuration: {text}") from None
    return conf


def fragment_cores(given: argparse.Namespace, conf: Any) -> tuple[int, ...]:
    """Return each X of the fragment rate.

    Raises
    ------
    InputError
        If the configuration says what is no size.
    """
    if given.fragment_cores is not None:
        said: tuple[int, ...] = given.fragment_cores
        return said
    try:
        return fragmentation.Fragmentation(*conf.fragmentation.cores).cores
    except ValueError as error:
        raise exceptions.InputError(f"configuration: [fragmentation] cores: {error}") from None


def options(conf: Any, given: argparse.Namespace) -> controller.Options:
    """Merge what was ``given`` on the command line over ``conf``.

    Raises
    ------
    UsageError
        If something is given that shapes no goal that is asked for.
    InputError
        If the configuration says what cannot be.
    """

    def pick(value: Any, default: Any) -> Any:
        return default if value is None else value

    if given.time_limit is None and given.work_limit is not None:
        time_limit_s = None
    else:
        time_limit_s = pick(given.time_limit, conf.planner.time_limit_s)
    goal = pick(given.goal, "drain" if given.drain else "fragmentation")
    goals.check(given, goal)
    headroom = dict(given.headroom)
    return controller.Options(
        goal=goal,
        flavors=tuple(given.flavor or conf.goals.flavors),
        drain=tuple(sorted(set(given.drain))),
        cold=given.cold,
        balance_resources=tuple(given.balance_resource or conf.goals.balance_resources),
        balance_on=pick(given.balance_on, conf.goals.balance_on),
        headroom=headroom.pop("", conf.goals.headroom),
        headroom_of=headroom or _shares(conf.goals.headroom_of),
        spare_hosts=pick(given.spare_hosts, conf.goals.spare_hosts),
        idle_w=conf.goals.idle_w,
        busy_w=conf.goals.busy_w,
        inlet_limit_c=conf.goals.inlet_limit_c,
        locality_key=conf.goals.locality_key,
        fragment_cores=fragment_cores(given, conf),
        planner=pick(given.planner, conf.planner.planner),
        max_migrations=pick(given.max_migrations, conf.planner.max_migrations),
        max_gib=pick(given.max_gib, conf.planner.max_gib),
        time_limit_s=time_limit_s,
        work_limit=given.work_limit,
        seed=pick(given.seed, conf.planner.seed),
        cost_per_gib=pick(given.cost_per_gib, conf.worth.cost_per_gib),
        min_gain=pick(given.min_gain, conf.worth.min_gain),
        cooldown_h=pick(given.cooldown, conf.worth.cooldown_h),
        project_migrations=pick(given.project_migrations, conf.worth.project_migrations),
        project_gib=pick(given.project_gib, conf.worth.project_gib),
        demo={"seed": given.demo_seed, "hosts": given.demo_hosts} if given.demo else None,
        scope=tuple(scope.parse(given.scope).texts()),
        **rules(conf, given),
        **paths(conf, given),
    )


def _shares(given: Mapping[str, str]) -> dict[str, float]:
    """Read the shares of ``[goals] headroom_of``."""
    try:
        return {name: numbers.share(share) for name, share in sorted(given.items())}
    except argparse.ArgumentTypeError as error:
        raise exceptions.InputError(f"configuration: [goals] headroom_of: {error}") from None


def paths(conf: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are about what migrations cost, and how many run at once."""
    return {
        "cost": conf.path.cost if given.cost is None else given.cost,
        "migration_rate_mibps": conf.path.migration_rate_mibps,
        "dirty_rate_mibps": conf.path.dirty_rate_mibps,
        "migration_downtime_s": conf.path.migration_downtime_s,
        "migration_timeout_s": conf.path.migration_timeout_s,
        "host_outgoing": conf.path.host_outgoing,
        "host_incoming": conf.path.host_incoming,
        "total": conf.execute.total if given.concurrent is None else given.concurrent,
        "links": (*conf.path.links, *given.link),
        "prefer": conf.path.prefer if given.prefer is None else given.prefer,
    }


def rules(conf: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are about rules: ``conf`` and what was ``given``, together."""
    return {
        "ignored_rules": tuple(sorted({*conf.constraints.ignored_rules, *given.ignore_rule})),
        "opt_in": conf.constraints.opt_in or given.opt_in,
        "banned_hosts": tuple(sorted({*conf.constraints.banned_hosts, *given.ban_host})),
        "checks": tuple(dict.fromkeys((*conf.constraints.checks, *given.check))),
        "pins": _hosts_of("--pin", given.pin),
        "bans": _hosts_of("--ban", given.ban),
        "numa_packing": conf.constraints.numa_packing,
        "soft_group_cost": conf.constraints.soft_group_cost,
    }


def _hosts_of(option: str, texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read INSTANCE=HOST[,HOST] texts; hosts given at several times count together."""
    found: dict[str, set[str]] = {}
    for text in texts:
        # An instance's id has no equals sign, a host may have one.
        instance, _, names = text.partition("=")
        hosts = {name.strip() for name in names.split(",")} - {""}
        if not instance or not hosts:
            raise exceptions.UsageError(
                f"{option} {text}: write INSTANCE=HOST or INSTANCE=HOST,HOST"
            )
        found.setdefault(instance, set()).update(hosts)
    return {instance: tuple(sorted(hosts)) for instance, hosts in sorted(found.items())}
