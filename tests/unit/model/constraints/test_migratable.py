# SPDX-License-Identifier: Apache-2.0
"""What Nova's API and conductor refuse to migrate live is known before."""

import datetime
from typing import Any

import hypothesis.strategies as st
from nova import context
from nova import exception
from nova import objects
from nova.api.openstack import common
from nova.compute import api
from nova.conductor.tasks import live_migrate
from nova.network import model as network

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import migratable
from tests.unit.model.constraints import nova_objects

SPECS = st.fixed_dictionaries(
    {},
    optional={
        "hw:mem_encryption": st.sampled_from(["true", "false", "yes", "no"]),
        "hw:tpm_version": st.just("2.0"),
        "hw:tpm_secret_security": st.sampled_from(["user", "host", "host", "deployment"]),
        "accel:device_profile": st.sampled_from(["fpga", ""]),
        "hw:pmem": st.sampled_from(["4GB", ""]),
    },
)
PROPERTIES = st.fixed_dictionaries(
    {"hw_firmware_type": st.just("uefi"), "hw_machine_type": st.just("q35")},
    optional={
        "hw_mem_encryption": st.sampled_from(["true", "false"]),
        "hw_tpm_version": st.just("2.0"),
    },
)


NOTHING_ODD = {
    "specs": {},
    "properties": {},
    "vm_state": "active",
    "task_state": None,
    "power_state": 1,
    "ports": [],
    "locked": False,
}
ODD = {
    "specs": SPECS,
    "properties": PROPERTIES,
    "vm_state": st.sampled_from(["paused", "stopped", "suspended", "error", "shelved"]),
    "task_state": st.sampled_from(["migrating", "rebooting", "powering-off"]),
    "power_state": st.sampled_from([0, 3, 4, 6, 7]),
    "ports": st.lists(
        st.sampled_from(["direct", "accelerator-direct", "accelerator-direct-physical"]),
        max_size=2,
    ),
    "locked": st.booleans(),
}


@st.composite
def instances(draw: st.DrawFn) -> dict[str, Any]:
    """An instance of which a thing or two are not as usual."""
    odd = draw(st.lists(st.sampled_from(sorted(ODD)), max_size=3))
    return {**NOTHING_ODD, **{name: draw(ODD[name]) for name in odd}}


class _Api:
    """Nova's compute API with what stands before its live_migrate."""

    def live_migrate(self, admin: context.RequestContext, instance: objects.Instance) -> None:
        """Would go on to the conductor."""


REFUSALS = {
    # By the codes of ours that answer to each.
    ("encrypted_memory",): api.reject_mem_enc_instances("live-migration"),
    ("vtpm",): api.reject_legacy_vtpm_live_migration,
    ("accelerator",): api.block_accelerators(),
    ("special_ports",): api.block_port_accelerators(),
    ("status", "task_state"): api.check_instance_state(vm_state=["active", "paused"]),
}


def refused(instance: objects.Instance, admin: context.RequestContext) -> set[tuple[str, ...]]:
    """What of Nova refuses an instance."""
    found = set()
    for codes, decorator in REFUSALS.items():
        try:
            decorator(_Api.live_migrate)(_Api(), admin, instance)
        except exception.InstanceMappingNotFound:
            # It went on to ask how old the hosts of its cell are.
            pass
        except exception.NovaException:
            found.add(codes)
    task = live_migrate.LiveMigrationTask.__new__(live_migrate.LiveMigrationTask)
    task.instance, task.context = instance, admin
    try:
        task._check_instance_is_active()
    except exception.InstanceInvalidState:
        found.add(("power_state", "status"))
    return found


@nova_objects.judged(made=instances())
def test_as_nova(made: dict[str, Any]) -> bool:
    """Each refusal of Nova's has its code; all other obstacles to live migration are our own.

    Stricter on purpose: Nova's administrators may move what is locked; whether other special ports
    go along depends on drivers that the API does not show, and whether persistent memory does on
    the releases of all hosts.
    """
    specs, properties, ports = made["specs"], made["properties"], made["ports"]
    states = {name: made[name] for name in ("vm_state", "task_state", "power_state", "locked")}
    one = nova_objects.instance(
        "a",
        extra_specs=specs,
        image=nova_objects.image(properties),
        status=common.status_from_state(made["vm_state"], made["task_state"] or "default"),
        vnic_types=tuple(sorted(set(ports))),
        **states,
    )
    vifs = [network.VIF(id=str(n), vnic_type=kind) for n, kind in enumerate(["normal", *ports])]
    theirs = objects.Instance(
        uuid=one.id,
        flavor=nova_objects.flavor(one),
        system_metadata={f"image_{name}": value for name, value in properties.items()},
        image_ref="",
        launched_at=datetime.datetime.now(datetime.UTC),
        info_cache=objects.InstanceInfoCache(network_info=network.NetworkInfo(vifs)),
        **states,
    )
    source = nova_objects.host("a")
    view = nova_objects.view([source, nova_objects.host("b")], [one])
    codes = [
        found.reason.code
        for found in migratable.obstacles(view, one, source, False, None)
        if migratable.LIVE in found.methods
    ]
    with nova_objects.stored(()) as admin:
        expected = refused(theirs, admin)
    for answers in expected:
        assert set(answers).intersection(codes), (answers, codes)
    known = {code for answers in expected for code in answers}
    more = set(codes) - known
    assert more <= {"locked", "persistent_memory", "special_ports"}, more
    if "special_ports" in more:
        assert ports and not set(ports).intersection(migratable.NEVER_PORTS)
    return not codes


@nova_objects.judged(
    hints=st.dictionaries(
        st.sampled_from(["same_host", "different_host", "query", "build_near_host_ip", "group"]),
        st.sampled_from([[], ["x"], ""]),
        max_size=2,
    ),
    nested=st.sampled_from([{}, {}, {"p": {"VGPU": 1}}, {"p": {"VGPU": 2}}]),
    alias=st.sampled_from([None, None, "gpu:1"]),
    allow=st.sampled_from([True, True, True, False]),
    migrating=st.sampled_from([False, False, False, True]),
    scoped=st.sampled_from([True, True, True, False]),
    charged=st.sampled_from([True, True, True, False]),
)
def test_laws(
    hints: dict[str, Any],
    nested: dict[str, dict[str, int]],
    alias: str | None,
    allow: bool,
    migrating: bool,
    scoped: bool,
    charged: bool,
) -> bool:
    """What is ours alone: each wish and each thing that the API does not tell enough of."""
    facts: dict[str, Any] = {} if charged else {"allocations": {}}
    one = nova_objects.instance(
        "a",
        scheduler_hints=hints,
        nested=nested,
        allow_migration=allow,
        in_scope=scoped,
        extra_specs={} if alias is None else {"pci_passthrough:alias": alias},
        **facts,
    )
    source = nova_objects.host("a", providers=(cloud.Provider("p", "p", "a", {}),))
    view = nova_objects.view([source], [one])
    codes = {
        found.reason.code for found in migratable.obstacles(view, one, source, migrating, None)
    }
    placing = any(hints.get(name) for name in hints if name != "group")
    assert codes == {
        code
        for code, there in {
            "scheduler_hints": placing,
            "nested_resources": bool(nested),
            "pci_devices": alias is not None,
            "opted_out": not allow,
            "migrating": migrating,
            "out_of_scope": not scoped,
            "no_allocations": not charged,
        }.items()
        if there
    }
    return not codes
