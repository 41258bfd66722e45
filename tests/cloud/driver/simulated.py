# SPDX-License-Identifier: Apache-2.0
"""A Nova driver for hosts that do not exist, with sizes, NUMA cells and migrations that take time.

It adds to Nova's own fake driver, loads as ``compute_driver = simulated.SimulatedDriver`` and reads
two files below ``$CLOUD_DRIVER`` again whenever they change.

``hosts/HOST.json`` is the host; every field may be left out:

``vcpus``, ``memory_mb``, ``disk_gb``
    For all cells together; ``vcpus`` are those for guests that are not pinned.
``numa``
    ``cells``, and for each cell ``pcpus_per_cell``, ``hugepages_2m_per_cell`` and
    ``hugepages_1g_per_cell``. Without it Nova hears of no topology.
``threads``
    Of each core: so many CPUs of a cell that follow one another are siblings. 1 if left out.
``hypervisor_type``, ``hypervisor_version``
    ``QEMU`` and 8002000, which is 8.2.0.
``cpu``
    ``arch``, ``model``, ``vendor`` and ``features``, of which those that are left out are as
    everywhere. A guest migrates only to the same architecture and vendor with all the features.
``traits``
    Names of traits for the resource provider.
``resources``
    Further inventories of the resource provider: by resource class ``total`` and whatever else an
    inventory of Placement has.
``nested``
    Providers below it: ``name``, ``resources`` and ``traits``. One that is taken out of the file
    stays.
``pci_devices``
    Read when its compute starts: ``vendor_id`` and ``product_id``, and how many ``per_cell``.
``migration``
    ``mib_per_s`` and ``overhead_s`` of the migrations away from here, or ``seconds`` for all alike.
``cell``
    Into which cell of Nova it comes; read when its compute starts.
``cpu_share``
    How busy its CPUs look, 0 to 1.
``spawn_s``
    How long a guest takes to start.

``faults.json`` is a list of rules. A rule has ``fault``, one of FAULTS, and may be bound to a
``server`` (name or id), a ``source`` and a ``dest``. ``at`` says at which part of the copying it
strikes (0 to 1, 0.5 if left out), ``seconds`` how long the copying takes.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import json
import math
import os
import pathlib
import threading
import time
from typing import Any
from typing import ClassVar
import uuid

from nova import exception
from nova import objects
from nova.compute import power_state
import nova.conf
from nova.objects import diagnostics
from nova.virt import fake
import os_resource_classes as orc
from oslo_log import log as logging

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

FOLDER = pathlib.Path(os.environ["CLOUD_DRIVER"])
NODES = uuid.UUID("3f0ac0de-1d0f-4a7f-9d3c-0d5a3c9be6f1")

_SAVING = threading.Lock()

CPU = {
    "arch": "x86_64",
    "model": "Cascadelake-Server",
    "vendor": "Intel",
    "features": ["aes", "avx2", "avx512f", "pge"],
}

FAULTS = (
    "check-dest",  # the destination refuses
    "check-source",  # the source refuses
    "prepare",  # the destination fails before the copying
    "copy-rollback",  # the copying fails, the guest goes on at the source
    "copy-error",  # the copying fails and so does the way back
    "copy-hang",  # never ends by itself; can be aborted and forced
    "copy-kill",  # the source's compute dies
    "copy-slow",  # takes the rule's seconds
    "finish-error",  # the destination fails after the guest has arrived
    "finish-kill",  # the destination's compute dies then
)


def node_uuid(node: str) -> str:
    """A node's identity. Nova's fake driver has a new one after every start, which Nova refuses."""
    return str(uuid.uuid5(NODES, node))


def _inventories(described: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Whole ones, as Nova compares them with Placement's."""
    whole = {"reserved": 0, "min_unit": 1, "step_size": 1, "allocation_ratio": 1.0}
    return {
        name: {**whole, "max_unit": values["total"], **values} for name, values in described.items()
    }


def _pci_devices(described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As libvirt tells them; those of a host without a topology are near no CPUs."""
    numa = described.get("numa")
    for cell in range(numa["cells"] if numa else 1):
        for bus, product in enumerate(described.get("pci_devices", ())):
            for slot in range(product["per_cell"]):
                yield {
                    "address": f"0000:{16 * cell + bus:02x}:{slot:02x}.0",
                    "vendor_id": product["vendor_id"],
                    "product_id": product["product_id"],
                    "status": "available",
                    "dev_type": "type-PCI",
                    "parent_addr": None,
                    "numa_node": cell if numa else None,
                    "label": f"label_{product['vendor_id']}_{product['product_id']}",
                }


class JsonFile:
    """A file that somebody may replace at any time."""

    def __init__(self, path: pathlib.Path, default: Any):
        self._path = path
        self._default = default
        self._seen: tuple[int, int, int] | None = None
        self._value = default

    def read(self) -> Any:
        """Its content, the default without it, and the last good one while it is being written."""
        try:
            stat = self._path.stat()
            now = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if now != self._seen:
                self._value = json.loads(self._path.read_text())
                self._seen = now
        except FileNotFoundError:
            self._seen, self._value = None, self._default
        except ValueError:
            LOG.warning("not JSON, ignored for now: %s", self._path)
        return self._value


class SimulatedDriver(fake.FakeDriver):
    """One host."""

    capabilities: ClassVar = {**fake.FakeDriver.capabilities, "supports_pcpus": True}

    def __init__(self, virtapi: Any, read_only: bool = False):
        self._host_file = JsonFile(FOLDER / "hosts" / f"{CONF.host}.json", {})
        self._faults = JsonFile(FOLDER / "faults.json", [])
        self._guests = FOLDER / "guests" / f"{CONF.host}.json"
        self._started = time.time()
        self._orders: dict[str, str] = {}
        super().__init__(virtapi, read_only)
        self._load_guests()

    # Identity

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:
        return {node_uuid(node): node for node in self.get_available_nodes()}

    def get_host_uptime(self) -> str:
        minutes = int(time.time() - self._started) // 60
        days, minutes = divmod(minutes, 24 * 60)
        clock = f"{minutes // 60}:{minutes % 60:02}"
        return f" 00:00:00 up {days} days, {clock}, 0 users, load average: 0.1, 0.1, 0.1"

    # Guests, which outlive the compute service as they do on a hypervisor

    def _load_guests(self) -> None:
        guests = JsonFile(self._guests, {}).read()
        for guest, (name, state) in guests.items():
            self.instances[guest] = fake.FakeInstance(name, state, guest)

    def _save_guests(self) -> None:
        # Two instances of a host may end what they do at the same moment.
        with _SAVING:
            guests = {
                guest: (kept.name, kept.state) for guest, kept in list(self.instances.items())
            }
            self._guests.parent.mkdir(parents=True, exist_ok=True)
            new = self._guests.with_suffix(".new")
            new.write_text(json.dumps(guests))
            new.replace(self._guests)

    def spawn(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(self._host_file.read().get("spawn_s", 0))
        super().spawn(*args, **kwargs)
        self._save_guests()

    def destroy(self, *args: Any, **kwargs: Any) -> None:
        super().destroy(*args, **kwargs)
        self._save_guests()

    def power_off(self, *args: Any, **kwargs: Any) -> None:
        super().power_off(*args, **kwargs)
        self._save_guests()

    def power_on(self, *args: Any, **kwargs: Any) -> None:
        super().power_on(*args, **kwargs)
        self._save_guests()

    def _set_power(self, instance: Any, state: int) -> None:
        # Nova's fake driver leaves a paused guest running.
        self.instances[instance.uuid].state = state
        self._save_guests()

    def pause(self, instance: Any) -> None:
        self._set_power(instance, power_state.PAUSED)

    def unpause(self, instance: Any) -> None:
        self._set_power(instance, power_state.RUNNING)

    # Resources

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        described = self._read_sizes()
        resources: dict[str, Any] = super().get_available_resource(nodename)
        if not resources:
            return resources
        resources["uuid"] = node_uuid(nodename)
        resources["disk_available_least"] = self.local_gb
        # The conductor migrates guests with a NUMA topology between hypervisors of this type only.
        resources["hypervisor_type"] = described.get("hypervisor_type", "QEMU")
        resources["hypervisor_version"] = described.get("hypervisor_version", 8002000)
        cpu, threads = self._cpu(), described.get("threads", 1)
        cores = self.vcpus // threads
        topology = {"cells": 1, "sockets": 1, "cores": cores, "threads": threads}
        resources["cpu_info"] = json.dumps({**cpu, "topology": topology})
        resources["supported_instances"] = [(cpu["arch"], kind, "hvm") for kind in ("kvm", "qemu")]
        if described.get("numa"):
            resources["numa_topology"] = self._topology(described["numa"], threads)._to_json()
        resources["pci_passthrough_devices"] = json.dumps(list(_pci_devices(described)))
        return resources

    def _cpu(self) -> dict[str, Any]:
        return {**CPU, **self._host_file.read().get("cpu", {})}

    def _read_sizes(self) -> dict[str, Any]:
        described: dict[str, Any] = self._host_file.read()
        self.vcpus = self.resources.vcpus = described.get("vcpus", 16)
        self.memory_mb = self.resources.memory_mb = described.get("memory_mb", 65536)
        self.local_gb = self.resources.local_gb = described.get("disk_gb", 500)
        return described

    def _topology(self, numa: dict[str, Any], threads: int) -> objects.NUMATopology:
        count = numa["cells"]
        pinned = numa.get("pcpus_per_cell", 0)
        size = self.vcpus // count + pinned
        memory = self.memory_mb // count
        # KiB a page to pages a cell; what is in no hugepage is small pages.
        huge = {
            2048: numa.get("hugepages_2m_per_cell", 0),
            1048576: numa.get("hugepages_1g_per_cell", 0),
        }
        small = memory * 256 - sum(kib // 4 * pages for kib, pages in huge.items())
        cells = []
        for number in range(count):
            cpus = range(number * size, (number + 1) * size)
            cells.append(
                objects.NUMACell(
                    id=number,
                    socket=number,
                    cpuset=set(cpus[pinned:]),
                    pcpuset=set(cpus[:pinned]),
                    siblings=[set(cpus[i : i + threads]) for i in range(0, size, threads)],
                    pinned_cpus=set(),
                    cpu_usage=0,
                    memory=memory,
                    memory_usage=0,
                    mempages=[
                        objects.NUMAPagesTopology(size_kb=kib, total=pages, used=0, reserved=0)
                        for kib, pages in {4: small, **huge}.items()
                        if pages
                    ],
                    network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
                )
            )
        return objects.NUMATopology(cells=cells)

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        described = self._read_sizes()
        super().update_provider_tree(provider_tree, nodename, allocations=allocations)
        numa = described.get("numa") or {}
        more = dict(described.get("resources", {}))
        pinned = numa.get("cells", 0) * numa.get("pcpus_per_cell", 0)
        if pinned:
            more[orc.PCPU] = {"total": pinned}
        inventory = provider_tree.data(nodename).inventory
        provider_tree.update_inventory(nodename, {**inventory, **_inventories(more)})
        traits = {*described.get("traits", ()), f"HW_ARCH_{self._cpu()['arch'].upper()}"}
        if described.get("threads", 1) > 1:
            traits.add("HW_CPU_HYPERTHREADING")
        provider_tree.add_traits(nodename, *traits)
        for below in described.get("nested", ()):
            name = f"{nodename}_{below['name']}"
            if not provider_tree.exists(name):
                provider_tree.new_child(name, nodename)
            provider_tree.update_inventory(name, _inventories(below["resources"]))
            provider_tree.update_traits(name, below.get("traits", ()))

    # Load

    def get_host_cpu_stats(self) -> dict[str, int]:
        elapsed = int((time.time() - self._started) * 1e9)
        busy = int(elapsed * self._host_file.read().get("cpu_share", 0.3))
        return {"kernel": 0, "user": busy, "idle": elapsed - busy, "iowait": 0, "frequency": 2400}

    def get_instance_diagnostics(self, instance: Any) -> diagnostics.Diagnostics:
        if instance.uuid not in self.instances:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        share = self._host_file.read().get("cpu_share", 0.3)
        uptime = int(time.time() - self._started)
        told = diagnostics.Diagnostics(
            state="running",
            driver="libvirt",
            hypervisor="kvm",
            hypervisor_os="linux",
            uptime=uptime,
            config_drive=False,
        )
        for cpu in range(instance.flavor.vcpus):
            told.add_cpu(id=cpu, time=int(uptime * share * 1e9), utilisation=int(share * 100))
        memory = instance.flavor.memory_mb
        told.memory_details = diagnostics.MemoryDiagnostics(maximum=memory, used=memory // 2)
        return told

    # Live migration, in the order in which it happens

    def _fault(self, instance: Any, source: str, dest: str, *kinds: str) -> dict[str, Any] | None:
        for rule in self._faults.read():
            if (
                rule.get("fault") in kinds
                and rule.get("server") in (None, instance.uuid, instance.display_name)
                and rule.get("source") in (None, source)
                and rule.get("dest") in (None, dest)
            ):
                LOG.info("fault %s: server=%s", rule["fault"], instance.uuid)
                found: dict[str, Any] = rule
                return found
        return None

    def check_can_live_migrate_destination(
        self, context: Any, instance: Any, src_compute_info: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if self._fault(instance, instance.host, CONF.host, "check-dest"):
            raise exception.MigrationPreCheckError(reason="simulated: the destination refuses")
        self._compare_cpus(json.loads(src_compute_info["cpu_info"]))
        data = super().check_can_live_migrate_destination(
            context, instance, src_compute_info, *args, **kwargs
        )
        data.dst_supports_numa_live_migration = True
        # Not a field of this object, but it comes along in the name of the file that is not there.
        data.filename = CONF.host
        return data

    def _compare_cpus(self, source: Mapping[str, Any]) -> None:
        """Refuse what has another CPU, as libvirt does for guests with the CPU of their host."""
        ours = self._cpu()
        other = [name for name in ("arch", "vendor") if source[name] != ours[name]]
        lacking = sorted({*source["features"]} - {*ours["features"]})
        if other or lacking:
            why = f"simulated: other {other}, lacking {lacking} of the source's CPU"
            raise exception.InvalidCPUInfo(reason=why)

    def check_can_live_migrate_source(
        self, context: Any, instance: Any, dest_check_data: Any, block_device_info: Any = None
    ) -> Any:
        dest = dest_check_data.filename
        if self._fault(instance, CONF.host, dest, "check-source"):
            raise exception.MigrationPreCheckError(reason="simulated: the source refuses")
        if instance.numa_topology:
            dest_check_data.src_supports_numa_live_migration = True
        return dest_check_data

    def post_claim_migrate_data(
        self, context: Any, instance: Any, migrate_data: Any, claim: Any
    ) -> Any:
        # libvirt would write the claimed CPUs into the guest's XML.
        return migrate_data

    def pre_live_migration(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        if self._fault(instance, instance.host, CONF.host, "prepare"):
            raise exception.NovaException("simulated: the destination could not prepare")
        return super().pre_live_migration(context, instance, *args, **kwargs)

    def live_migration(
        self,
        context: Any,
        instance: Any,
        dest: str,
        post_method: Any,
        recover_method: Any,
        block_migration: bool = False,
        migrate_data: Any = None,
    ) -> None:
        kinds = [kind for kind in FAULTS if kind.startswith("copy-")]
        rule = self._fault(instance, CONF.host, dest, *kinds) or {}
        fault = rule.get("fault")
        duration = self._duration(instance, rule)
        strikes = math.inf if fault in (None, "copy-hang", "copy-slow") else rule.get("at", 0.5)
        ends = math.inf if fault == "copy-hang" else 1.0
        LOG.info("copying server=%s dest=%s seconds=%.1f", instance.uuid, dest, duration)
        self._orders[instance.uuid] = "copy"
        began = told = time.monotonic()
        try:
            while True:
                done = (time.monotonic() - began) / duration
                order = self._orders[instance.uuid]
                if order == "abort":
                    recover_method(
                        context, instance, dest, migrate_data, migration_status="cancelled"
                    )
                    return
                if done >= strikes:
                    if fault == "copy-kill":
                        os._exit(9)
                    if fault == "copy-error":
                        raise exception.NovaException("simulated: the copying broke off")
                    recover_method(context, instance, dest, migrate_data)
                    return
                if done >= ends or order == "complete":
                    break
                if time.monotonic() - told >= 1:
                    told = time.monotonic()
                    self._tell_progress(instance, migrate_data, min(done, 0.99))
                time.sleep(0.1)
            post_method(context, instance, dest, block_migration, migrate_data)
        finally:
            del self._orders[instance.uuid]

    def _duration(self, instance: Any, rule: dict[str, Any]) -> float:
        """Seconds, more than 0."""
        speed = self._host_file.read().get("migration", {})
        seconds = rule.get("seconds", speed.get("seconds"))
        if seconds is None:
            copying = instance.flavor.memory_mb / speed.get("mib_per_s", 1024)
            seconds = speed.get("overhead_s", 0.5) + copying
        return max(0.01, float(seconds))

    def _tell_progress(self, instance: Any, migrate_data: Any, done: float) -> None:
        migration = migrate_data.migration if "migration" in migrate_data else None
        if migration is None:
            return
        migration.memory_total = instance.flavor.memory_mb * 1024 * 1024
        migration.memory_processed = int(migration.memory_total * done)
        migration.memory_remaining = migration.memory_total - migration.memory_processed
        migration.disk_total = migration.disk_processed = migration.disk_remaining = 0
        migration.save()
        instance.progress = int(done * 100)
        instance.save()

    def live_migration_abort(self, instance: Any) -> None:
        if instance.uuid in self._orders:
            self._orders[instance.uuid] = "abort"

    def live_migration_force_complete(self, instance: Any) -> None:
        if instance.uuid in self._orders:
            self._orders[instance.uuid] = "complete"

    def post_live_migration(
        self, context: Any, instance: Any, block_device_info: Any, migrate_data: Any = None
    ) -> None:
        # At the source. Nova's fake driver would keep the guest.
        self.destroy(context, instance, None, block_device_info)

    def post_live_migration_at_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        if self._fault(instance, instance.host, CONF.host, "finish-kill"):
            os._exit(9)
        if self._fault(instance, instance.host, CONF.host, "finish-error"):
            raise exception.NovaException("simulated: the destination could not finish")
        super().post_live_migration_at_destination(context, instance, *args, **kwargs)
