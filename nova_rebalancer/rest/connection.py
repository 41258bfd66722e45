# SPDX-License-Identifier: Apache-2.0
"""Who we are to a cloud, and where its services are: clouds.yaml, OS_* or our own section."""

import dataclasses
import importlib.metadata
import os
from typing import Any

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa
from keystoneauth1 import loading
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import base as identity_base
from openstack import config as sdk_config
from openstack import exceptions as sdk
from oslo_config import cfg

from nova_rebalancer import exceptions

APP = "nova-rebalancer"

SERVICES = ("compute", "placement", "network", "image")

MISSHAPEN = (AttributeError, KeyError, TypeError, ValueError)
"""What openstacksdk raises for a clouds.yaml of another shape than it expects."""


@dataclasses.dataclass(frozen=True)
class Account:
    """Whom a token is for: ids, and the names of the roles, none when it does not tell."""

    user: str
    project: str | None
    roles: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Connection:
    """A logged-in view on one region of a cloud."""

    name: str
    """What the operator calls it: its name in clouds.yaml, or "envvars"."""
    region: str | None
    auth_url: str
    session: ksa_session.Session
    adapters: dict[str, adapter.Adapter]
    """By service type, those of SERVICES."""

    def account(self) -> Account:
        """Return whom the token is for; asks Keystone when there is none, or it has ended.

        Raises
        ------
        ClientException
            Of keystoneauth, if Keystone does not answer; ``client.Client`` has patience.
        """
        session = self.session
        roles: tuple[str, ...] = ()
        if isinstance(session.auth, identity_base.BaseIdentityPlugin):
            roles = tuple(sorted(session.auth.get_access(session).role_names or ()))
        return Account(str(session.get_user_id()), session.get_project_id(), roles)


def connect(name: str | None, timeout_s: float, conf: Any = None) -> Connection:
    """Open a cloud: ``name`` of clouds.yaml, else what ``conf`` says, else the OS_* variables.

    Nothing is asked yet: wrong passwords and dead endpoints show with the first request.
    ``timeout_s`` is how long one answer may take; ``conf`` are the oslo.config options of ours.

    Raises
    ------
    UsageError
        If there is no such cloud, or its description is not complete.
    """
    if name is None and conf is not None:
        name = conf.cloud.os_cloud
        if name is None:
            loading.register_auth_conf_options(conf, "cloud")
            if conf.cloud.auth_type:
                return _from_section(conf, timeout_s)
    if name is None and not os.environ.get("OS_CLOUD") and not os.environ.get("OS_AUTH_URL"):
        raise exceptions.UsageError(
            "no cloud is named: give --os-cloud NAME, set OS_CLOUD or the variables of an openrc "
            f"file, or fill the section [cloud] of a configuration file{_hint()}"
        )
    try:
        region = sdk_config.OpenStackConfig(
            app_name=APP, app_version=importlib.metadata.version(APP)
        ).get_one(cloud=name, api_timeout=timeout_s)
        session = region.get_session()
    except (sdk.ConfigException, ksa.ClientException, *MISSHAPEN) as error:
        what = f"cloud {name!r}" if name else "the cloud of the OS_* variables"
        raise exceptions.UsageError(f"{what}: {_line(error)}{_hint()}") from None
    adapters = {
        kind: _adapter(
            session,
            kind,
            region.get_region_name(kind),
            region.get_interface(kind),
            region.get_endpoint(kind),
        )
        for kind in SERVICES
    }
    auth_url = str(region.config.get("auth", {}).get("auth_url"))
    return Connection(region.name or "envvars", region.region_name, auth_url, session, adapters)


def _from_section(conf: Any, timeout_s: float) -> Connection:
    loading.register_session_conf_options(conf, "cloud")
    try:
        auth = loading.load_auth_from_conf_options(conf, "cloud")
        session = loading.load_session_from_conf_options(
            conf, "cloud", auth=auth, timeout=timeout_s
        )
    except (ksa.ClientException, cfg.Error) as error:
        raise exceptions.UsageError(f"section [cloud]: {_line(error)}") from None
    region, interface = conf.cloud.region_name, conf.cloud.interface
    adapters = {kind: _adapter(session, kind, region, interface, None) for kind in SERVICES}
    return Connection("cloud", region, str(conf.cloud.auth_url), session, adapters)


def _adapter(
    session: ksa_session.Session,
    kind: str,
    region: str | None,
    interface: Any,
    endpoint: str | None,
) -> adapter.Adapter:
    # We count attempts and wait ourselves, so that all workers slow down together.
    return adapter.Adapter(
        session,
        service_type=kind,
        region_name=region,
        interface=interface,
        endpoint_override=endpoint,
        connect_retries=0,
        status_code_retries=0,
    )


def refused(connection: Connection, error: Exception) -> exceptions.CloudError:
    """Say what a failed login means."""
    if isinstance(error, ksa.Unauthorized):
        what = "the credentials are not accepted; check user, password and project"
    elif isinstance(error, ksa.ConnectFailure | ksa.DiscoveryFailure):
        what = f"no Keystone answers at {connection.auth_url}; check auth_url and the network"
    elif isinstance(error, ksa.EndpointNotFound):
        what = f"its catalogue has no compute service in region {connection.region}"
    else:
        what = f"cannot log in at {connection.auth_url}"
    return exceptions.CloudError(f"cloud {connection.name}: {what} ({_line(error)})")


def _hint() -> str:
    """Name the clouds there are."""
    try:
        config = sdk_config.OpenStackConfig()
        # Without a file it makes up a cloud called defaults.
        known = sorted(config.get_cloud_names()) if config.config_filename else []
    except (sdk.ConfigException, OSError, *MISSHAPEN):
        return "; clouds.yaml cannot be understood"
    return f"; clouds.yaml has: {', '.join(known)}" if known else "; no clouds.yaml was found"


def _line(error: Any) -> str:
    return " ".join(str(error).split())[:300]
