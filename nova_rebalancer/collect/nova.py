# SPDX-License-Identifier: Apache-2.0
"""What is asked of Nova, at which microversion, and what is kept of the answers."""

from collections.abc import Callable
import datetime
from typing import Any
from urllib import parse

from nova_rebalancer import exceptions
from nova_rebalancer.rest import client

VERSION = (2, 100)
"""From it on a listing has the scheduler hints and (2.98) the properties of images, which tell NUMA
topologies.  2025.1, the oldest release that is supported, has it."""

HYPERVISORS = (2, 87)
"""From 2.88 on Nova asks each compute for its uptime, one after the other (bug 2122036)."""

PAGE = 1000
"""Nova's own limit unless configured lower."""

MARKERS_TRIED = 20
"""Servers that may vanish at the end of one page."""

IN_PROGRESS = (
    "accepted",
    "queued",
    "preparing",
    "running",
    "running (post-copy)",
    "pre-migrating",
    "migrating",
    "post-migrating",
    "finished",
    "confirming",
    "reverting",
)
"""Statuses of migrations that still hold two hosts; nova ``objects/migration.py``, and
``virt/libvirt/migration.py`` for the one after the guest was switched over first."""

Json = dict[str, Any]


class Nova:
    """The compute API of one cloud."""

    def __init__(self, ask: client.Client) -> None:
        self._ask = ask
        self.version = ask.version("compute", VERSION, VERSION)
        self._old = ask.version("compute", HYPERVISORS)

    def unreachable(self) -> list[str]:
        """Return ids of servers whose cell does not answer, as far as Nova gives them.

        Only a listing without paging and filters has them, as stubs of status UNKNOWN that come
        first; any other leaves them out without a word (nova ``compute/servers.py``,
        ``_is_cell_down_supported``).  With a thousand other servers it has none of them, so
        ``services`` is what tells whether there is such a cell.
        """
        found = self._get("/servers?all_tenants=1")["servers"]
        return [server["id"] for server in found if server.get("status") == "UNKNOWN"]

    def servers(self, done: Callable[[int], None]) -> dict[str, Json]:
        """Return all servers of all projects by id, reduced to what a snapshot needs."""
        # Soft-deleted ones keep place and allocations until they are reclaimed or restored.
        parameters = {"all_tenants": "1", "sort_key": "uuid", "soft_deleted": "1"}
        found = self._pages("/servers/detail", "servers", parameters, done, keep=reduced)
        if found and not any(server["host_shown"] for server in found):
            raise client.Refused(
                403,
                "Nova does not show on which hosts servers are to this account: it needs the "
                "role admin, or the policy os_compute_api:os-extended-server-attributes",
            )
        return {server["id"]: server for server in found}

    def on_host(self, host: str) -> dict[str, Json]:
        """Return the servers on a service host by id, as ``servers`` does.

        A page that is not full is taken for the last one, which can leave some out: who needs all
        of them looks at what Placement charges there.
        """
        parameters = {"all_tenants": "1", "sort_key": "uuid", "soft_deleted": "1", "host": host}
        found = self._pages("/servers/detail", "servers", parameters, keep=reduced, linked=True)
        return {server["id"]: server for server in found}

    def server(self, name: str) -> Json | None:
        """Return one server, None when it is gone; others' are shown to administrators only."""
        found = self._get(f"/servers/{name}", (404,))
        return None if found is None else reduced(found["server"])

    def changed(self, since: float) -> tuple[dict[str, Json], list[str]]:
        """Return what changed since a moment of the cloud's time, and the ids of what is gone.

        Changes of tags are not among them: unlike those of metadata they leave ``updated_at``
        alone (nova ``db/main/api.py``, ``instance_tag_add``).
        """
        parameters = {
            "all_tenants": "1",
            "sort_key": "uuid",
            "changes-since": moment(since),
        }
        found = self._pages("/servers/detail", "servers", parameters, keep=reduced)
        gone = [server["id"] for server in found if server["status"] == "DELETED"]
        return {one["id"]: one for one in found if one["status"] != "DELETED"}, gone

    def topology(self, name: str) -> Json | None:
        """Return the NUMA topology of a server, None when the server is gone."""
        found: Json | None = self._get(f"/servers/{name}/topology", (404,))
        return found

    def hypervisors(self) -> list[Json]:
        """Return all hypervisors with their service hosts."""
        return self._pages("/os-hypervisors/detail", "hypervisors", version=self._old)

    def services(self) -> list[Json]:
        """Return the nova-compute services; those of a down cell have status UNKNOWN, no id."""
        found = self._get("/os-services?binary=nova-compute")["services"]
        return [service for service in found if service.get("binary") == "nova-compute"]

    def aggregates(self) -> list[Json]:
        """Return all host aggregates."""
        found: list[Json] = self._get("/os-aggregates")["aggregates"]
        return found

    def flavors(self) -> list[Json]:
        """Return all flavors, private ones too."""
        return self._pages("/flavors/detail", "flavors", {"is_public": "None"})

    def groups(self) -> list[Json]:
        """Return the server groups the account sees; no administrator sees only its project's.

        The listing has offsets, no markers, so a group that goes away shifts the rest: each page
        begins with the last group of the page before.
        """
        for _ in range(3):
            found, shifted = self._groups()
            if not shifted:
                return found
        raise exceptions.CloudError(
            "the server groups change faster than their pages can be read; try again"
        )

    def group(self, name: str) -> Json | None:
        """Return a server group, None when it is gone."""
        found = self._get(f"/os-server-groups/{name}", (404,))
        return None if found is None else dict(found["server_group"])

    def begun(self) -> list[Json]:
        """Return migrations that have just begun, which no change tells of yet."""
        return self._pages("/os-migrations", "migrations", {"status": IN_PROGRESS[0]})

    def changed_on(self, host: str, since: float) -> list[Json]:
        """Return migrations from and to a service host that changed since a moment."""
        parameters = {"host": host, "changes-since": moment(since)}
        return self._pages("/os-migrations", "migrations", parameters)

    def migrations(self, since: float | None) -> list[Json]:
        """Return migrations: those in progress, or all that changed since a moment."""
        found = []
        if since is not None:
            found = self._pages("/os-migrations", "migrations", {"changes-since": moment(since)})
        # A new one counts as changed only when it gets its next status.
        for status in IN_PROGRESS if since is None else IN_PROGRESS[:1]:
            found += self._pages("/os-migrations", "migrations", {"status": status})
        return found

    def _groups(self) -> tuple[list[Json], bool]:
        found: list[Json] = []
        while True:
            offset = max(0, len(found) - 1)
            page = self._get(f"/os-server-groups?all_projects=True&limit={PAGE}&offset={offset}")
            groups = page["server_groups"]
            if found:
                if not groups or groups[0]["id"] != found[-1]["id"]:
                    return [], True
                groups = groups[1:]
            found += groups
            # Nova may be configured to give fewer than asked for, so a short page ends nothing.
            if not groups:
                return found, False

    def _pages(
        self,
        path: str,
        key: str,
        parameters: dict[str, str] | None = None,
        done: Callable[[int], None] | None = None,
        version: str | None = None,
        keep: Callable[[Json], Json] = dict,
        linked: bool = False,
    ) -> list[Json]:
        """Read all pages, each item once, in the order of the listing.

        ``keep`` says what stays of an item; a page of servers is 3 MB.
        Only an empty page is the end: Nova drops some items after it has cut the page, and links
        to the next page from full ones only.  With ``linked`` a page without a link is the end.
        """
        found: dict[str, Json] = {}
        markers: list[str] = []
        vanished = 0
        while True:
            query = {**(parameters or {}), "limit": str(PAGE)}
            if markers:
                query["marker"] = markers[-1]
            # A marker that was deleted meanwhile is refused: the one before it does as well.
            gone = (400,) if markers and vanished < MARKERS_TRIED else ()
            url = f"{path}?{parse.urlencode(query)}"
            answer = self._ask.get("compute", url, version or self.version, gone)
            if answer is None:
                vanished += 1
                markers.pop()
                continue
            names = [str(item.get("uuid") or item["id"]) for item in answer[key]]
            found.update(zip(names, map(keep, answer[key]), strict=True))
            markers += names
            if done is not None:
                done(len(found))
            if not names or (linked and not answer.get(f"{key}_links")):
                return list(found.values())

    def _get(self, path: str, accept: tuple[int, ...] = ()) -> Any:
        return self._ask.get("compute", path, self.version, accept)


def reduced(server: Json) -> Json:
    """Keep of a server what a snapshot needs; anything in it may be missing or null."""
    flavor = server.get("flavor") or {}
    image = server.get("image") or {}
    return {
        "id": server["id"],
        "name": server.get("name"),
        "label": server.get("OS-EXT-SRV-ATTR:instance_name"),
        "project": server.get("tenant_id"),
        "status": server.get("status"),
        "task_state": server.get("OS-EXT-STS:task_state"),
        "vm_state": server.get("OS-EXT-STS:vm_state"),
        "power_state": server.get("OS-EXT-STS:power_state"),
        "host": server.get("OS-EXT-SRV-ATTR:host"),
        "host_shown": "OS-EXT-SRV-ATTR:host" in server,
        "updated": server.get("updated"),
        "launched": server.get("OS-SRV-USG:launched_at"),
        "locked": server.get("locked"),
        "locked_reason": server.get("locked_reason"),
        "metadata": server.get("metadata") or {},
        "tags": server.get("tags") or [],
        "flavor": flavor.get("original_name"),
        # Left out for who may not see them; nothing is not the same.
        "extra_specs": flavor.get("extra_specs") or {},
        "specs_shown": "extra_specs" in flavor,
        "image": {"id": image.get("id"), "properties": image.get("properties") or {}},
        "pinned_az": server.get("pinned_availability_zone"),
        "hints": server.get("scheduler_hints") or {},
        "volumes": [
            volume["id"] for volume in server.get("os-extended-volumes:volumes_attached") or ()
        ],
        "addresses": bool(server.get("addresses")),
    }


def service_host(node: Json) -> str | None:
    """Return the host of a hypervisor's compute service, None if Nova names none."""
    return (node.get("service") or {}).get("host")


def moment(seconds: float) -> str:
    """Return seconds since 1970 as UTC in Nova's form, whole seconds, rounded down."""
    when = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
