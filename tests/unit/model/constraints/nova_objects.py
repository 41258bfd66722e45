# SPDX-License-Identifier: Apache-2.0
"""Nova's own objects, made of the facts that our rules are given, and how both are compared."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import datetime
import functools
import json
from typing import Any
import uuid

import hypothesis
import hypothesis.strategies as st
from nova import context
from nova import objects
import nova.conf
from nova.db.api import api as api_db
from nova.db.api import models
from nova.scheduler import host_manager

from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base

objects.register_all()

PLACEMENTS = 250
"""Placements that are generated for each rule; at least 200 must be judged."""


def judged(
    least: int = 20, placements: int = PLACEMENTS, **values: st.SearchStrategy[Any]
) -> Callable[..., Callable[[], None]]:
    """Run a test on generated placements; it returns whether the placement is allowed.

    Each of both answers must be given ``least`` times, so that nobody agrees by always saying the
    same.
    """

    def outer(judge: Callable[..., bool]) -> Callable[[], None]:
        answers: collections.Counter[bool] = collections.Counter()

        @hypothesis.settings(
            max_examples=placements,
            deadline=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        )
        @hypothesis.given(**values)
        def one(**made: Any) -> None:
            answers[bool(judge(**made))] += 1

        def test() -> None:
            answers.clear()
            one()
            assert answers.total() >= 200, answers
            assert min(answers[True], answers[False]) >= least, answers

        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(test, name, getattr(judge, name))
        return test

    return outer


def allows(rule: str, view: base.View, dest: cloud.Host) -> bool:
    """Whether our rule lets the first instance of the snapshot be on ``dest``.

    The planners' mask must be what all rules together leave at the last look.
    """
    instance, source = view.snapshot.instances[0], view.hosts[0]
    text = constraints.HOST_RULES[rule].refuses(view, instance, source, dest)
    assert text is None or (text and "\n" not in text)
    built = state.build(view.snapshot, view.settings)
    mask = built.allowed[built.eligibility_of[0]]
    for h, host in enumerate(view.hosts):
        refusals = list(constraints.violations(view, instance, source, host))
        assert mask[h] == (not refusals)
        if host is dest:
            assert (rule in [refusal.rule for refusal in refusals]) == (text is not None)
    return text is None


@contextlib.contextmanager
def options(group: str | None, **values: Any) -> Iterator[None]:
    """Nova's configuration with these options of one group."""
    for name, value in values.items():
        nova.conf.CONF.set_override(name, value, group)
    try:
        yield
    finally:
        for name in values:
            nova.conf.CONF.clear_override(name, group)


def named(text: str) -> str:
    """A UUID for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, text))


def host(name: str, **facts: Any) -> cloud.Host:
    """A host with room for everything."""
    inventories = {
        "VCPU": cloud.Inventory(1000),
        "PCPU": cloud.Inventory(1000),
        "MEMORY_MB": cloud.Inventory(1 << 20),
    }
    values = {"inventories": inventories, "hypervisor_hostname": f"node-{name}", **facts}
    return cloud.Host(id=named(name), service_host=name, **values)


def instance(on: str, name: str = "i", **facts: Any) -> cloud.Instance:
    """An instance that takes one core."""
    values = {
        "allocations": {"VCPU": 1, "MEMORY_MB": 512},
        "project": "project",
        "flavor": "flavor",
        "vm_state": "active",
        "power_state": 1,
        **facts,
    }
    return cloud.Instance(id=named(name), host=named(on), **values)


def image(properties: Mapping[str, str]) -> cloud.Image:
    """An image with properties as Nova's API shows them."""
    return cloud.Image("image", dict(properties))


def view(
    hosts: Iterable[cloud.Host],
    instances: Iterable[cloud.Instance],
    settings: base.Settings = base.DEFAULTS,
    **facts: Any,
) -> base.View:
    """What our rules judge by."""
    there = tuple(hosts)
    snapshot = cloud.Snapshot(
        cloud="small",
        taken_at="2026-01-01T00:00:00Z",
        numa_choice=facts.pop("numa_choice", "nova"),
        hosts=there,
        instances=tuple(instances),
        **facts,
    )
    return base.View(snapshot, there, settings)


def aggregates(
    metadata: st.SearchStrategy[dict[str, str]],
) -> st.SearchStrategy[list[cloud.Aggregate]]:
    """Some aggregates of the hosts a and b, most of them with b."""

    def numbered(made: list[tuple[dict[str, str], str]]) -> list[cloud.Aggregate]:
        return [
            cloud.Aggregate(f"aggregate {n}", tuple(named(one) for one in there), said, str(n))
            for n, (said, there) in enumerate(made)
        ]

    there = st.sampled_from(["b", "b", "ab", "a", ""])
    return st.lists(st.tuples(metadata, there), max_size=4).map(numbered)


def flavor(one: cloud.Instance, vcpus: int = 4) -> objects.Flavor:
    """The flavor of an instance."""
    return objects.Flavor(
        name=one.flavor,
        flavorid=one.flavor,
        vcpus=vcpus,
        memory_mb=4096,
        root_gb=0,
        ephemeral_gb=0,
        swap=0,
        extra_specs=dict(one.extra_specs),
    )


def image_meta(one: cloud.Instance) -> objects.ImageMeta:
    """The image of an instance."""
    properties = {} if one.image is None else dict(one.image.properties)
    return objects.ImageMeta.from_dict(
        {"id": named("image"), "name": "image", "properties": properties}
    )


def request_spec(one: cloud.Instance, **facts: Any) -> objects.RequestSpec:
    """What Nova's scheduler is asked for to migrate an instance."""
    values = {
        "context": context.get_admin_context(),
        "instance_uuid": one.id,
        "project_id": one.project,
        "flavor": flavor(one),
        "image": image_meta(one),
        "availability_zone": one.pinned_az,
        "instance_group": None,
        "numa_topology": None,
        "pci_requests": None,
        "scheduler_hints": {},
        "requested_resources": [],
        "request_level_params": objects.RequestLevelParams(),
        "is_bfv": False,
        **facts,
    }
    return objects.RequestSpec(**values)


def aggregate(one: cloud.Aggregate) -> objects.Aggregate:
    """An aggregate."""
    return objects.Aggregate(
        uuid=named(one.name), name=one.name, hosts=list(one.hosts), metadata=dict(one.metadata)
    )


def host_state(seen: base.View, host: cloud.Host) -> host_manager.HostState:
    """A host as the scheduler's filters see it."""
    made = host_manager.HostState(host.service_host, host.hypervisor_hostname, named("cell"))
    made.uuid = host.id
    made.hypervisor_hostname = host.hypervisor_hostname
    made.hypervisor_type = host.hypervisor_type
    made.hypervisor_version = host.hypervisor_version
    made.cpu_info = json.dumps(host.cpu_info)
    made.stats = {}
    made.aggregates = [aggregate(one) for one in seen.snapshot.aggregates if host.id in one.hosts]
    made.instances = {one.id: one for one in seen.snapshot.instances if one.host == host.id}
    made.service = host_manager.ReadOnlyDict(service(host))
    made.allocation_candidates = [{"mappings": {}}]
    return made


def bare_host_state() -> host_manager.HostState:
    """A host of which nothing is known."""
    return host_manager.HostState("b", "node-b", named("cell"))


def service(host: cloud.Host) -> dict[str, Any]:
    """The compute service of a host; one that is down was last seen yesterday."""
    now = datetime.datetime.now(datetime.UTC)
    seen = now - datetime.timedelta(days=0 if host.state == "up" else 1)
    return dict(
        objects.Service(
            binary="nova-compute",
            topic="compute",
            host=host.service_host,
            disabled=host.status == "disabled",
            disabled_reason=host.disabled_reason,
            forced_down=host.forced_down,
            created_at=seen,
            updated_at=seen,
            last_seen_up=seen,
        )
    )


@functools.cache
def _database() -> None:
    nova.conf.CONF.set_override("connection", "sqlite://", "api_database")
    api_db.configure(nova.conf.CONF)
    models.BASE.metadata.create_all(api_db.get_engine())


@contextlib.contextmanager
def stored(made: Iterable[cloud.Aggregate]) -> Iterator[context.RequestContext]:
    """Nova's database with these aggregates in it; asked by its own queries."""
    _database()
    admin = context.get_admin_context()
    with api_db.context_manager.writer.using(admin):
        for n, one in enumerate(made, start=1):
            admin.session.add(models.Aggregate(id=n, name=one.name, uuid=named(one.name)))
            for key, value in one.metadata.items():
                admin.session.add(models.AggregateMetadata(aggregate_id=n, key=key, value=value))
    try:
        yield admin
    finally:
        with api_db.context_manager.writer.using(admin):
            admin.session.query(models.AggregateMetadata).delete()
            admin.session.query(models.Aggregate).delete()


def passes(spec: objects.RequestSpec, made: Iterable[cloud.Aggregate], host: cloud.Host) -> bool:
    """Whether Placement keeps a host for a request: its aggregates and its traits.

    As placement's ``objects/research_context.py`` reads ``member_of`` and ``required``: a host is
    in one of each list of required aggregates and in no forbidden one.
    """
    there = {named(one.name) for one in made if host.id in one.hosts}
    traits = set(host.traits)
    if "requested_destination" in spec and spec.requested_destination is not None:
        destination = spec.requested_destination
        if "aggregates" in destination:
            for text in destination.aggregates or ():
                if not there.intersection(text.split(",")):
                    return False
        if "forbidden_aggregates" in destination:
            if there.intersection(destination.forbidden_aggregates or ()):
                return False
    return spec.root_required <= traits and not spec.root_forbidden & traits
