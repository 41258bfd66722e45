# SPDX-License-Identifier: Apache-2.0
"""Every rule on one instance and one destination: a plan that keeps it, and one that breaks it."""

from typing import Any

import pytest

from nova_rebalancer.checker import options
from nova_rebalancer.checker import placing
from tests.unit.checker import documents
from tests.unit.checker.documents import verdict

CPU = {"arch": "x86_64", "vendor": "Intel", "model": "Icelake", "features": ["avx", "sse"]}


def moved(
    a: Any = (), b: Any = (), x: Any = (), cloud: Any = (), given: Any = ()
) -> tuple[documents.Document, documents.Document]:
    """Return a cloud of two hosts and the plan that moves x from a to b.

    Each has 16 cores and x takes 4 of them: 12 of the 28 free cores are fragments, always.
    """
    made = documents.snapshot(
        [documents.host("a", **dict(a)), documents.host("b", **dict(b))],
        [documents.instance("x", "a", **dict(x))],
        **dict(cloud),
    )
    wanted = {"fragment_cores": 16, **dict(given)}
    moves = [documents.migration("1", "x", "a", "b")]
    return made, documents.plan(made, moves, 12 / 28, 12 / 28, options=wanted)


def aggregate(*hosts: str, **metadata: str) -> documents.Document:
    """Return aggregates of one with these hosts."""
    names = {key.replace("__", ":"): value for key, value in metadata.items()}
    return {"aggregates": [{"name": "g", "hosts": list(hosts), "metadata": names}]}


def image(**properties: str) -> documents.Document:
    """Return an instance's image."""
    return {"image": {"id": "i", "properties": properties}}


def specs(*pairs: str, **more: Any) -> documents.Document:
    """Return an instance's extra specs: key, value, key, value."""
    return {"extra_specs": dict(zip(pairs[::2], pairs[1::2], strict=True)), **more}


def gpu(host: str, count: int = 1, traits: tuple[str, ...] = (), **more: Any) -> documents.Document:
    """Return a host's nested provider with ``count`` VGPU."""
    provider = {
        "id": f"{host}-gpu",
        "name": f"{host}_gpu",
        "parent": host,
        "inventories": {"VGPU": {"total": count, **more}},
        "traits": list(traits),
    }
    return {"providers": [provider]}


NESTED = {"nested": {"a-gpu": {"VGPU": 1}}}
RISK = {"ignored_rules": ["nested_resources"]}
FLAVOR = "aggregate_instance_extra_specs:ssd"

# Rule, what keeps it, what breaks it.
PLACING: list[tuple[str, documents.Document, documents.Document]] = [
    ("usable", {"b": {"traits": ["HW_X"]}}, {"b": {"traits": ["COMPUTE_STATUS_DISABLED"]}}),
    ("usable", {"b": {"forced_down": False}}, {"b": {"forced_down": True}}),
    (
        "scope",
        {"given": {"scope": ["host=a", "host=b"]}},
        {"given": {"scope": ["host=a"]}},
    ),
    (
        "scope",
        {"given": {"scope": ["aggregate=g"]}, "cloud": aggregate("a", "b")},
        {"given": {"scope": ["aggregate=g"]}, "cloud": aggregate("a")},
    ),
    (
        "scope",
        {
            "given": {"scope": ["az=z", "cell=1"]},
            **{
                key: {"az": "z", "cell": {"provenance": "operator", "value": "1"}}
                for key in ("a", "b")
            },
        },
        {"given": {"scope": ["az=z"]}, "a": {"az": "z"}, "b": {"az": "y"}},
    ),
    ("allowed_hosts", {"x": {"allowed_hosts": ["b"]}}, {"x": {"allowed_hosts": ["a"]}}),
    (
        "allowed_hosts",
        {"given": {"pins": {"x": ["a", "b"], "y": ["c"]}}},
        {"given": {"pins": {"x": ["a"]}}},
    ),
    (
        "allowed_hosts",
        {"x": {"metadata": {placing.PIN: " b , ,c"}}},
        {"x": {"metadata": {placing.PIN: "a"}}},
    ),
    ("allowed_hosts", {"x": {"metadata": {placing.PIN: " ,"}}}, {"given": {"pins": {"x": ["c"]}}}),
    ("banned_hosts", {"given": {"banned_hosts": ["a"]}}, {"given": {"banned_hosts": ["b"]}}),
    (
        "banned_hosts",
        {"given": {"bans": {"y": ["b"], "x": ["a"]}}},
        {"given": {"bans": {"x": ["b"]}, "pins": {"x": ["b"]}}},
    ),
    (
        "banned_hosts",
        {"x": {"metadata": {placing.BAN: "a"}}},
        {"x": {"metadata": {placing.BAN: "a, b"}}},
    ),
    (
        "pinned_zone",
        {"x": {"pinned_az": "z"}, "a": {"az": "y"}, "b": {"az": "z"}},
        {"x": {"pinned_az": "z"}},
    ),
    ("keep_zone", {"a": {"az": "z"}, "b": {"az": "z"}}, {"a": {"az": "z"}}),
    (
        "units",
        {"b": {"inventories": {"VCPU": {"total": 16}, "MEMORY_MB": {"total": 2048}}}},
        {"b": {"inventories": {"VCPU": {"total": 16, "step_size": 3}}}},
    ),
    (
        "tenant_isolation",
        {"x": {"project": "p"}, "cloud": aggregate("b", filter_tenant_id_2="o, p")},
        {"x": {"project": "q"}, "cloud": aggregate("b", filter_tenant_id="o,p")},
    ),
    (
        "tenant_isolation",
        # A list is no value that require_tenant_aggregate finds.
        {"x": {"project": "p"}, "cloud": aggregate("a", filter_tenant_id="p,q")},
        {"x": {"project": "p"}, "cloud": aggregate("a", filter_tenant_id="p")},
    ),
    (
        "aggregate_extra_specs",
        {"x": specs(FLAVOR, "true", "hw:other", "1"), "cloud": aggregate("b", ssd="no, true")},
        {"x": specs(FLAVOR, "true"), "cloud": aggregate("a", ssd="true")},
    ),
    (
        "aggregate_extra_specs",
        {"x": specs("disks", ">= 3"), "cloud": aggregate("b", disks="4")},
        {"x": specs("disks", ">= 3"), "cloud": aggregate("b", disks="2")},
    ),
    (
        "image_isolation",
        {"x": image(os_distro="bsd"), "cloud": aggregate("b", os_distro="linux,bsd", os_type="y")},
        {"x": image(os_distro="bsd"), "cloud": aggregate("b", os_distro="linux")},
    ),
    (
        "flavor_isolation",
        {"x": {"flavor": "small"}, "cloud": aggregate("b", instance_type="big, small")},
        {"x": {"flavor": "tiny"}, "cloud": aggregate("b", instance_type="big, small")},
    ),
    (
        "isolated_traits",
        {
            "x": specs("trait:CUSTOM_W", "required"),
            "cloud": aggregate("b", trait__CUSTOM_W="required", trait__CUSTOM_V="no"),
            "b": {"traits": ["CUSTOM_W"]},
        },
        {"cloud": aggregate("b", trait__CUSTOM_W="required")},
    ),
    (
        "isolated_traits",
        {
            "x": image(traits_required="['HW_A']"),
            "cloud": aggregate("b", trait__HW_A="required"),
            "b": {"traits": ["HW_A"]},
        },
        {"x": image(traits_required="['HW_B']"), "cloud": aggregate("b", trait__HW_A="required")}
        | {"b": {"traits": ["HW_B"]}},
    ),
    *(
        ("traits", {"x": asked, "b": {"traits": there}}, {"x": asked, "b": {"traits": there[1:]}})
        for asked, there in (
            (specs("trait:HW_A", "required"), ["HW_A"]),
            (specs("trait1:HW_A", "required"), ["HW_A"]),
            (specs("trait_disk:HW_A", "required"), ["HW_A"]),
            (image(traits_required="HW_A,HW_B"), ["HW_A", "HW_B"]),
            (image(**{"trait:HW_A": "required"}), ["HW_A"]),
            (specs("hw:cpu_thread_policy", "require"), ["HW_CPU_HYPERTHREADING"]),
            (specs("os:secure_boot", "required"), ["COMPUTE_SECURITY_UEFI_SECURE_BOOT"]),
            (image(os_secure_boot="required"), ["COMPUTE_SECURITY_UEFI_SECURE_BOOT"]),
            (specs("hw:maxphysaddr_mode", "emulate"), ["COMPUTE_ADDRESS_SPACE_EMULATED"]),
            (image(hw_maxphysaddr_mode="passthrough"), ["COMPUTE_ADDRESS_SPACE_PASSTHROUGH"]),
            (image(hw_virtio_packed_ring="true"), ["COMPUTE_NET_VIRTIO_PACKED"]),
            (
                image(hw_firmware_type="uefi", hw_firmware_stateless="True"),
                ["COMPUTE_SECURITY_STATELESS_FIRMWARE"],
            ),
            (specs("hw:pci_numa_affinity_policy", "socket"), ["COMPUTE_SOCKET_PCI_NUMA_AFFINITY"]),
            (
                specs("hw:tpm_version", "2.0", "hw:tpm_secret_security", "host"),
                [
                    "COMPUTE_SECURITY_TPM_2_0",
                    "COMPUTE_SECURITY_TPM_TIS",
                    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST",
                ],
            ),
            (
                image(hw_ephemeral_encryption="yes", hw_ephemeral_encryption_format="luks"),
                ["COMPUTE_EPHEMERAL_ENCRYPTION", "COMPUTE_EPHEMERAL_ENCRYPTION_LUKS"],
            ),
            (specs("hw:sound_model", "virtio"), ["COMPUTE_SOUND_MODEL_VIRTIO"]),
        )
    ),
    (
        "traits",
        {"x": specs("trait:HW_A", "forbidden"), "b": {"traits": ["HW_B"]}},
        {"x": specs("trait:HW_A", "forbidden"), "b": {"traits": ["HW_A"]}},
    ),
    (
        "traits",
        {"x": specs("hw:cpu_thread_policy", "isolate"), "b": {"traits": ["HW_B"]}},
        {
            "x": specs("hw:cpu_thread_policy", "isolate"),
            "b": {"traits": ["HW_CPU_HYPERTHREADING"]},
        },
    ),
    (
        "image_traits",
        # That a lacks the trait shows that this Nova does not ask for it.
        {"x": image(hw_disk_bus="lxc", hw_vif_model="virtio"), "a": {"traits": ["HW_B"]}},
        {"x": image(hw_vif_model="e1000-x"), "a": {"traits": ["COMPUTE_NET_VIF_MODEL_E1000_X"]}},
    ),
    (
        "image_properties",
        {
            "x": image(img_hv_requested_version=">=6.2,<7"),
            **{k: {"hypervisor_version": 6002001} for k in "ab"},
        },
        {
            "x": image(hypervisor_version_requires="<6.2.1"),
            **{k: {"hypervisor_version": 6002001} for k in "ab"},
        },
    ),
    (
        "image_properties",
        {"x": image(hw_maxphysaddr_bits="40"), **{k: {"cpu_info": CPU} for k in "ab"}},
        {
            "x": image(hw_maxphysaddr_bits="40"),
            **{k: {"cpu_info": {**CPU, "maxphysaddr": {"bits": 39}}} for k in "ab"},
        },
    ),
    (
        "image_properties",
        {"x": image(hw_vm_mode="hvm"), **{k: {"hypervisor_type": "QEMU"} for k in "ab"}},
        {
            "x": image(architecture="x86_64"),
            "a": {"cpu_info": CPU},
            "given": {"ignored_rules": ["cpu"]},
        },
    ),
    *(
        (
            "capabilities",
            {"x": specs(key, good), "b": there, "a": there},
            {"x": specs(key, bad), "b": there, "a": there},
        )
        for key, good, bad, there in (
            ("capabilities:cpu_info:vendor", "Intel", "AMD", {"cpu_info": CPU}),
            ("capabilities:cpu_info:features", "<in> avx", "<in> avx512", {"cpu_info": CPU}),
            (
                "capabilities:cpu_info:vendor",
                "<or> AMD <or> Intel",
                "<or> Intel2",
                {"cpu_info": CPU},
            ),
            (
                "capabilities:hypervisor_version",
                "s== 1000",
                ">= 1001",
                {"hypervisor_version": 1000},
            ),
            ("capabilities:host", "<all-in> b", "<all-in> b c", {}),
            (
                "hw:maxphysaddr_bits",
                "40",
                "42",
                {"cpu_info": {**CPU, "maxphysaddr": {"bits": 41}}},
            ),
        )
    ),
    (
        "capabilities",
        {"x": specs("other:free_ram_mb", "5")},
        {"x": specs("capabilities:free_ram_mb", "5")},
    ),
    (
        "provider_tree",
        {"x": NESTED, "a": gpu("a"), "b": gpu("b", traits=("HW_A",)), "given": RISK},
        {"x": NESTED, "a": gpu("a"), "given": RISK},
    ),
    (
        "provider_tree",
        {"x": NESTED, "a": gpu("a", traits=("HW_A",)), "b": gpu("b", traits=("HW_A",))}
        | {"given": RISK},
        {"x": NESTED, "a": gpu("a", traits=("HW_A",)), "b": gpu("b"), "given": RISK},
    ),
    (
        "provider_tree",
        {"x": NESTED, "a": gpu("a"), "b": gpu("b", 2), "given": RISK},
        {"x": NESTED, "a": gpu("a"), "b": gpu("b", 2, min_unit=2), "given": RISK},
    ),
    (
        "cell",
        {key: {"cell": {"provenance": "operator", "value": "1"}} for key in "ab"},
        {
            "a": {"cell": {"provenance": "operator", "value": "1"}},
            "b": {"cell": {"provenance": "operator", "value": "2"}},
        },
    ),
    (
        "cell",
        {"a": {"cell": {"provenance": "unknown", "value": None}}},
        {"a": {"cell": {"provenance": "operator", "value": "1"}}},
    ),
    ("cell", {"cloud": {"several_cells": False}}, {"cloud": {"several_cells": True}}),
    (
        "hypervisor",
        {key: {"hypervisor_type": "QEMU"} for key in "ab"},
        {"a": {"hypervisor_type": "QEMU"}},
    ),
    (
        "hypervisor",
        {"a": {"hypervisor_version": 5}, "b": {"hypervisor_version": 6}},
        {"a": {"hypervisor_version": 6}, "b": {"hypervisor_version": 5}},
    ),
    ("hypervisor", {}, {"b": {"hypervisor_version": 5}}),
    ("cpu", {"a": {"cpu_info": CPU}, "b": {"cpu_info": CPU}}, {"a": {"cpu_info": CPU}}),
    (
        "cpu",
        {"a": {"cpu_info": CPU}, "b": {"cpu_info": {**CPU, "features": ["sse", "avx", "x"]}}},
        {"a": {"cpu_info": CPU}, "b": {"cpu_info": {**CPU, "features": ["sse"]}}},
    ),
    (
        "cpu",
        {"a": {"cpu_info": {"arch": "x"}}, "b": {"cpu_info": {"arch": "x", "topology": 2}}},
        {"a": {"cpu_info": CPU}, "b": {"cpu_info": {**CPU, "model": "Haswell"}}},
    ),
]


@pytest.mark.parametrize(("rule", "kept", "broken"), PLACING)
def test_placing(rule, kept, broken):
    """The destination is accepted, refused by just that rule, and accepted if it is ignored."""
    found = verdict(*moved(**kept))
    assert found.ok, found
    found = verdict(*moved(**broken))
    assert (found.kind, found.migration) == ("not_allowed", "1"), found
    assert found.detail.startswith(f'{rule}: instance "x": ')
    given = broken.get("given", {})
    ignored = {**given, "ignored_rules": [*given.get("ignored_rules", ()), rule]}
    found = verdict(*moved(**{**broken, "given": ignored}))
    # Where the rule is about the resources there is no inventory to charge either.
    expected = None if rule in options.IGNORABLE else "format"
    assert found.kind == expected, found


def test_every_placing_rule_has_a_case():
    """No rule is without a plan that breaks it."""
    assert {rule for rule, _, _ in PLACING} == {*placing.HOST_RULES, *placing.RELATIONS}


# Code, what keeps it, what breaks it.
MIGRATABLE: list[tuple[str, documents.Document, documents.Document]] = [
    (
        "out_of_scope",
        {"x": {"project": "p"}, "given": {"scope": ["project=p", "project=q"]}},
        {"x": {"project": "o"}, "given": {"scope": ["project=p"]}},
    ),
    ("out_of_scope", {"given": {"scope": ["host=a", "host=b"]}}, {"given": {"scope": ["host=b"]}}),
    ("opted_out", {"x": {"allow_migration": True}}, {"x": {"allow_migration": False}}),
    (
        "opted_out",
        {"x": {"metadata": {"nova-rebalancer:allow-migration": " TRUE"}}},
        {"x": {"metadata": {"nova-rebalancer:allow-migration": "no"}}},
    ),
    ("opted_out", {"x": {"tags": ["other"]}}, {"x": {"tags": ["nova-rebalancer:stay"]}}),
    (
        "not_opted_in",
        {"given": {"opt_in": True}, "x": {"tags": ["nova-rebalancer:move"]}},
        {"given": {"opt_in": True}},
    ),
    (
        "not_opted_in",
        {
            "given": {"opt_in": True},
            "x": {"metadata": {"nova-rebalancer:allow-migration": "true"}},
        },
        {"given": {"opt_in": True}, "x": {"metadata": {"allow-migration": "true"}}},
    ),
    (
        "cooldown",
        {"given": {"cooldown_h": 24, "last_moved": {"x": "2025-12-31T00:00:00Z"}}},
        {"given": {"cooldown_h": 24, "last_moved": {"x": "2025-12-31T00:00:01Z"}}},
    ),
    ("host_not_usable", {}, {"a": {"forced_down": True}}),
    ("host_not_usable", {}, {"a": {"traits": ["COMPUTE_STATUS_DISABLED"]}}),
    (
        "migrating",
        {},
        {"cloud": {"running_migrations": [{"instance": "x", "source": "a", "dest": None}]}},
    ),
    ("task_state", {}, {"x": {"task_state": "rebooting"}}),
    ("status", {"x": {"status": "PAUSED"}}, {"x": {"status": "ERROR"}}),
    ("power_state", {"x": {"power_state": 3}}, {"x": {"power_state": 4}}),
    ("locked", {}, {"x": {"locked": True}}),
    ("no_allocations", {}, {"x": {"allocations": {}}}),
    (
        "encrypted_memory",
        {"x": specs("hw:mem_encryption", "no")},
        {"x": specs("hw:mem_encryption", "On")},
    ),
    ("encrypted_memory", {}, {"x": image(hw_mem_encryption="True")}),
    (
        "encrypted_memory",
        {},
        {"x": {"allocations": {"VCPU": 4, "MEMORY_MB": 1024, "MEM_ENCRYPTION_CONTEXT": 1}}},
    ),
    (
        "encrypted_memory",
        {},
        {"x": {"nested": {"a-sev": {"MEM_ENCRYPTION_CONTEXT": 1}}}, "given": RISK},
    ),
    ("vtpm", {}, {"x": specs("hw:tpm_version", "1.2")}),
    ("vtpm", {}, {"x": specs("hw:tpm_secret_security", "user", **image(hw_tpm_version="2.0"))}),
    ("accelerator", {}, {"x": specs("accel:device_profile", "fpga")}),
    ("persistent_memory", {"x": specs("hw:pmem", " , ")}, {"x": specs("hw:pmem", "6GB")}),
    ("pci_devices", {}, {"x": specs("pci_passthrough:alias", "nic:1")}),
    ("special_ports", {"x": {"vnic_types": []}}, {"x": {"vnic_types": ["direct"]}}),
    (
        "nested_resources",
        {"x": {"nested": {}}},
        {"x": NESTED, "a": gpu("a"), "b": gpu("b")},
    ),
    *(
        ("scheduler_hints", {"x": {"scheduler_hints": {name: []}}}, {"x": hinted})
        for name in ("same_host", "different_host", "build_near_host_ip", "query")
        for hinted in [{"scheduler_hints": {"group": "g", name: "y"}}]
    ),
]


@pytest.mark.parametrize(("code", "kept", "broken"), MIGRATABLE)
def test_migratable(code, kept, broken):
    """The instance is moved, stays for just that reason, and is moved if that is ignored."""
    found = verdict(*moved(**kept))
    assert found.ok, found
    found = verdict(*moved(**broken))
    assert (found.kind, found.migration) == ("not_migratable", "1"), found
    assert found.detail.startswith(f'{code}: instance "x": ')
    given = broken.get("given", {})
    ignored = {**given, "ignored_rules": [*given.get("ignored_rules", ()), code]}
    found = verdict(*moved(**{**broken, "given": ignored}))
    assert found.kind == (None if code in options.IGNORABLE else "format"), found


@pytest.mark.parametrize(
    ("x", "code"),
    [
        ({"vnic_types": ["direct", "accelerator-direct"]}, "special_ports"),
        ({"vnic_types": ["accelerator-direct-physical"]}, "special_ports"),
        ({"nested": {"a-gpu": {"VGPU": 2}}}, "nested_resources"),
    ],
)
def test_risks_that_nobody_may_take(x, code):
    """Accelerators on ports are refused by Nova; more than one unit may find no one provider."""
    given = {"ignored_rules": ["special_ports", "nested_resources"]}
    found = verdict(*moved(x=x, a=gpu("a", 2), b=gpu("b", 2), given=given))
    assert found.kind == "not_migratable"
    assert found.detail.startswith(f"{code}: ")


def test_nested_providers_are_filled_up_to_their_sum():
    """b has two VGPU in all: y has one, x finds the other; with z there is none left."""
    for others, kind in ((["y"], None), (["y", "z"], "capacity")):
        made, plan = moved(
            x=NESTED,
            a=gpu("a"),
            b=gpu("b", 2),
            given={"ignored_rules": ["nested_resources"]},
        )
        for name in others:
            entry = documents.instance(name, "b", 0, nested={"b-gpu": {"VGPU": 1}})
            made["instances"].append(entry)
        plan = documents.plan(made, plan["migrations"], 12 / 28, 12 / 28, options=plan["options"])
        found = verdict(made, plan)
        assert found.kind == kind, found
        if kind:
            assert 'host "b" VGPU of nested providers would be charged 3 of 2' in found.detail


@pytest.mark.parametrize(
    "given",
    [
        {"ignored_rules": ["gravity"]},
        {"ignored_rules": ["keep_zone", "capacity"]},
        {"scope": ["rack=r7"]},
        {"scope": ["host="]},
        {"scope": {"host": "a"}},
        {"scope": [7]},
    ],
)
def test_options_that_make_no_sense(given):
    """Only rules that can be ignored are; a scope that cannot be read is not taken as none."""
    found = verdict(*moved(given=given))
    assert (found.kind, found.migration) == ("format", None), found


def test_relations_hold_for_each_hop():
    """x may go from a (version 5) to c (6) and on to no older one, though b is no older than a."""
    made = documents.snapshot(
        [
            documents.host("a", hypervisor_version=5),
            documents.host("b", hypervisor_version=5),
            documents.host("c", hypervisor_version=6),
        ],
        [documents.instance("x", "a")],
    )
    moves = [
        documents.migration("1", "x", "a", "c", role="bypass"),
        documents.migration("2", "x", "c", "b", ("1",)),
    ]
    found = verdict(made, documents.plan(made, moves, 12 / 44, 12 / 44))
    assert (found.kind, found.migration) == ("not_allowed", "2")
    assert found.detail.startswith("hypervisor: ")
