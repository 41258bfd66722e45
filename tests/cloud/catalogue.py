# SPDX-License-Identifier: Apache-2.0
"""What Keystone and Glance hold before anybody uses the cloud. All of it may be done twice."""

from collections.abc import Mapping
from typing import Any

from tests.cloud import client
from tests.cloud import settings

SERVICES = {
    # Type: name, port of, path.
    "compute": ("nova", "nova-api", "/v2.1"),
    "placement": ("placement", "placement", ""),
    "image": ("glance", "glance", ""),
    "network": ("neutron", "neutron", ""),
}
IMAGE = "test-image"
# The policy files below etc/ tell what it may do.
READER_ROLE = "nova-rebalancer-reader"
# An administrator's application credential that opens nothing but GET. Keystone's middleware in
# front of the services sees to that, so Nova hides nothing from it.
GET_ONLY = "get-only"
GET_ONLY_RULES = (
    {"service": "compute", "method": "GET", "path": "/v2.1/**"},
    {"service": "placement", "method": "GET", "path": "/**"},
    {"service": "image", "method": "GET", "path": "/v2/images"},
)


def fill(cloud: settings.Settings) -> None:
    """Accounts, services and endpoints. Keystone runs and is bootstrapped."""
    admin = client.Client(cloud)
    for kind, (name, port, path) in SERVICES.items():
        register(cloud, kind, name, cloud.url(port) + path)
    project = _ensure(admin, "project", "admin", domain_id="default")
    for name, roles in (
        ("reader", ("reader",)),
        ("rebalancer-reader", ("reader", READER_ROLE)),
    ):
        user = _ensure(admin, "user", name, password=cloud.password, domain_id="default")
        _grant(admin, project, user, *roles)
    path = f"/users/{admin.session.get_user_id()}/application_credentials"
    if not admin.list(admin.identity, f"{path}?name={GET_ONLY}", "application_credentials"):
        credential = {
            "name": GET_ONLY,
            "secret": cloud.password,
            "access_rules": list(GET_ONLY_RULES),
        }
        admin.identity.post(path, json={"application_credential": credential})


def register(cloud: settings.Settings, kind: str, name: str, url: str) -> None:
    """The account of a service, the service and its endpoints."""
    admin = client.Client(cloud)
    project = _ensure(admin, "project", "service", domain_id="default")
    user = _ensure(admin, "user", name, password=cloud.password, domain_id="default")
    _grant(admin, project, user, "admin", "service")
    identifier = _ensure(admin, "service", name, type=kind)
    if admin.list(admin.identity, f"/endpoints?service_id={identifier}", "endpoints"):
        return
    for interface in ("public", "internal"):
        endpoint = {
            "service_id": identifier,
            "interface": interface,
            "region_id": settings.REGION,
            "url": url,
        }
        admin.identity.post("/endpoints", json={"endpoint": endpoint})


def image(
    cloud: settings.Settings, name: str = IMAGE, properties: Mapping[str, str] | None = None
) -> str:
    """The id of an image of a few bytes: no fake hypervisor ever reads it."""
    admin = client.Client(cloud)
    found = admin.list(admin.image, f"/v2/images?name={name}&status=active", "images")
    if not found:
        values = {
            "name": name,
            "disk_format": "raw",
            "container_format": "bare",
            "visibility": "public",
            **(properties or {}),
        }
        found = [admin.image.post("/v2/images", json=values).json()]
        admin.image.put(
            f"/v2/images/{found[0]['id']}/file",
            data=b"\0" * 512,
            headers={"Content-Type": "application/octet-stream"},
        )
    identifier: str = found[0]["id"]
    return identifier


def _ensure(admin: client.Client, kind: str, name: str, **values: Any) -> str:
    """The id of the one with this name, made if needed."""
    plural = f"{kind}s"
    found = admin.list(admin.identity, f"/{plural}?name={name}", plural)
    if not found:
        body = {kind: {"name": name, **values}}
        found = [admin.identity.post(f"/{plural}", json=body).json()[kind]]
    identifier: str = found[0]["id"]
    return identifier


def _grant(admin: client.Client, project: str, user: str, *names: str) -> None:
    for name in names:
        role = _ensure(admin, "role", name)
        admin.identity.put(f"/projects/{project}/users/{user}/roles/{role}")
