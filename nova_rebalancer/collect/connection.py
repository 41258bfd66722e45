# SPDX-License-Identifier: Apache-2.0
"""Who we are to a cloud, and where its services are: clouds.yaml, OS_* or our own section."""

import dataclasses
import importlib.metadata
from typing import Any

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import base as identity_base
from openstack import config as sdk_config
from openstack import exceptions as sdk

from nova_rebalancer import exceptions

APP = "nova-rebalancer"

SERVICES = ("compute", "placement", "network")


@dataclasses.dataclass(frozen=True)
class Connection:
    """A logged-in view on one region of a cloud."""

    name: str
    """What the operator calls it: its name in clouds.yaml, or "envvars"."""
    region: str | None
    auth_url: str
    session: ksa_session.Session
    adapters: dict[str, adapter.Adapter]
    """By service type: compute, placement, network."""

    def identity(self) -> str:
        """Name the cloud, region and account, so that caches of others are never taken."""
        try:
            account = f"{self.session.get_user_id()} {self.session.get_project_id()}"
        except ksa.ClientException as error:
            raise refused(self, error) from None
        endpoint = self.session.get_endpoint(
            service_type="compute", region_name=self.region, interface="public"
        )
        return f"{self.auth_url} {self.region} {endpoint} {account}"

    def roles(self) -> list[str]:
        """Names of the roles the token gives; none when it does not tell."""
        plugin = self.session.auth
        if not isinstance(plugin, identity_base.BaseIdentityPlugin):
            return []
        return sorted(str(name) for name in plugin.get_access(self.session).role_names)


def connect(name: str | None, timeout_s: float) -> Connection:
    """Open the cloud ``name`` of clouds.yaml; None takes what the OS_* variables say.

    Nothing is asked yet: wrong passwords and dead endpoints show with the first request.
    ``timeout_s`` is how long one answer may take.

    Raises
    ------
    UsageError
        If there is no such cloud, or its description is not complete.
    """
    try:
        region = sdk_config.OpenStackConfig(
            app_name=APP, app_version=importlib.metadata.version(APP)
        ).get_one(cloud=name, api_timeout=timeout_s)
        session = region.get_session()
    except (sdk.ConfigException, ksa.ClientException) as error:
        known = _known()
        hint = f"; clouds.yaml has: {', '.join(known)}" if known else "; no clouds.yaml was found"
        what = f"cloud {name!r}" if name else "the cloud of the OS_* variables"
        raise exceptions.UsageError(f"{what}: {_line(error)}{hint}") from None
    auth_url = str(region.config.get("auth", {}).get("auth_url"))
    adapters = {
        kind: adapter.Adapter(
            session,
            service_type=kind,
            region_name=region.get_region_name(kind),
            interface=region.get_interface(kind),
            endpoint_override=region.get_endpoint(kind),
            # We count attempts and wait ourselves, so that all workers slow down together.
            connect_retries=0,
            status_code_retries=0,
        )
        for kind in SERVICES
    }
    return Connection(region.name or "envvars", region.region_name, auth_url, session, adapters)


def refused(connection: Connection, error: Exception) -> exceptions.CloudError:
    """Say what a failed login means."""
    if isinstance(error, ksa.Unauthorized):
        what = "the credentials are not accepted; check user, password and project"
    elif isinstance(error, ksa.ConnectFailure | ksa.DiscoveryFailure):
        what = f"no Keystone answers at {connection.auth_url}; check auth_url and the network"
    else:
        what = "cannot log in"
    return exceptions.CloudError(f"cloud {connection.name}: {what} ({_line(error)})")


def _known() -> list[str]:
    try:
        return sorted(sdk_config.OpenStackConfig().get_cloud_names())
    except (sdk.ConfigException, OSError):
        return []


def _line(error: Any) -> str:
    return " ".join(str(error).split())[:300]
