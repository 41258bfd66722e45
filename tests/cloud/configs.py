# SPDX-License-Identifier: Apache-2.0
"""The configuration files of every service, with the reasons for what is not the default."""

from collections.abc import Mapping
import getpass
import json
import os
import pathlib
import shutil

from tests.cloud import hosts
from tests.cloud import settings

Sections = Mapping[str, Mapping[str, object]]

POLICIES = pathlib.Path(__file__).parent.parent.parent / "etc/nova-rebalancer/policy"

# Where Nova keeps the servers that never had a host.
CELL_0 = "nova_cell0"
DATABASES = ("keystone", "placement", "glance", "neutron", "nova_api", CELL_0)

# Name in clouds.yaml: user.
USERS = {
    "test-cloud": "admin",
    "test-cloud-reader": "reader",
    "test-cloud-rebalancer": "rebalancer-reader",
}


def database(cloud: settings.Settings, name: str) -> str:
    """A SQLAlchemy URL."""
    address = f"{settings.ADDRESS}:{cloud.port('mariadb')}"
    return f"mysql+pymysql://cloud:{cloud.password}@{address}/{name}?charset=utf8"


def make_database(name: str) -> str:
    """The statement that makes a database unless it is there."""
    return f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3"


def cell_database(cell: str) -> str:
    """The name of a cell's database."""
    return "nova" if cell == "cell1" else f"nova_{cell}"


def cell_mapping(cloud: settings.Settings, cell: str) -> str:
    """How Nova's API and scheduler come into a cell's database: by a way that cells.py can cut."""
    way = f"unix_socket={cloud.cell_socket(cell)}&charset=utf8"
    return f"mysql+pymysql://{cell}:{cloud.password}@localhost/{cell_database(cell)}?{way}"


def rabbit_url(cloud: settings.Settings, cell: str = "cell1") -> str:
    """Of a cell's virtual host of the message queue; all other services use the first cell's."""
    host = "" if cell == "cell1" else cell
    return f"rabbit://cloud:{cloud.password}@{settings.ADDRESS}:{cloud.port('rabbitmq')}/{host}"


def conductor(cloud: settings.Settings, cell: str) -> pathlib.Path:
    """The configuration of a cell's conductor."""
    return cloud.config / ("nova/nova.conf" if cell == "cell1" else f"nova/nova-{cell}.conf")


def write(cloud: settings.Settings) -> None:
    """Write all of them; what was there is replaced."""
    _mariadb(cloud)
    _rabbitmq(cloud)
    for folder in ("keystone", "placement", "glance", "neutron", "nova", "hosts"):
        (cloud.config / folder).mkdir(parents=True, exist_ok=True)
    _ini(cloud.config / "keystone/keystone.conf", _keystone(cloud))
    _ini(cloud.config / "placement/placement.conf", _placement(cloud))
    _ini(cloud.config / "glance/glance-api.conf", _glance(cloud))
    _ini(cloud.config / "neutron/neutron.conf", _neutron(cloud))
    nova = _nova(cloud)
    _ini(cloud.config / "nova/nova.conf", nova)
    for cell in cloud.cells[1:]:
        default = {**nova["DEFAULT"], "transport_url": rabbit_url(cloud, cell)}
        own = {"DEFAULT": default, "database": _pool(cloud, cell_database(cell))}
        _ini(conductor(cloud, cell), {**nova, **own})
    # Nova's WSGI application takes the paste file from the folder of its configuration.
    shutil.copy(cloud.venv / "etc/nova/api-paste.ini", cloud.config / "nova/api-paste.ini")
    for service in ("nova", "placement"):
        shutil.copy(POLICIES / f"{service}.yaml", cloud.config / service / "policy.yaml")
    # A compute that is given a database complains about it: it has to ask the conductor.
    compute = {name: values for name, values in nova.items() if "database" not in name}
    compute["DEFAULT"] = {
        **nova["DEFAULT"],
        "compute_driver": "simulated.SimulatedDriver",
        # Nova's default, said here because tests count on the second one being queued.
        "max_concurrent_live_migrations": 1,
    }
    _ini(cloud.config / "nova/nova-compute.conf", compute)


def write_host(cloud: settings.Settings, host: str, folder: pathlib.Path) -> pathlib.Path:
    """What differs between the computes."""
    described = hosts.description(cloud, host)
    queue = rabbit_url(cloud, described.get("cell", "cell1"))
    sections: dict[str, Mapping[str, object]] = {
        "DEFAULT": {"host": host, "state_path": folder, "transport_url": queue},
    }
    shared, dedicated = hosts.cpu_sets(described)
    if dedicated:
        # The driver does not read them. In 2025.1 a compute that has guests with pinned and other
        # CPUs does not start again without.
        sections["compute"] = {"cpu_shared_set": shared, "cpu_dedicated_set": dedicated}
    path = cloud.config / "hosts" / f"{host}.conf"
    _ini(path, sections)
    return path


def write_watcher(cloud: settings.Settings) -> pathlib.Path:
    """The folder of the configuration of Watcher, which a benchmark adds to a cloud.

    It tells where things are; all that decides what Watcher does is its own default.
    """
    folder = cloud.config / "watcher"
    sections: Sections = {
        "DEFAULT": {
            "state_path": cloud.state / "watcher",
            "transport_url": rabbit_url(cloud),
        },
        "database": {"connection": database(cloud, "watcher")},
        "oslo_concurrency": {"lock_path": cloud.state / "lock"},
        "oslo_messaging_rabbit": {"heartbeat_timeout_threshold": 0},
        "watcher_clients_auth": _account(cloud, "watcher"),
        "keystone_authtoken": _token_check(cloud, "watcher", "infra-optim"),
    }
    _ini(folder / "watcher.conf", sections)
    return folder


def write_clients(
    cloud: settings.Settings,
    path: pathlib.Path | None = None,
    endpoints: Mapping[str, str] | None = None,
) -> None:
    """``clouds.yaml`` for ``USERS``, and the administrator's credential for GET alone.

    Parameters
    ----------
    path
        Where to, if not to the state folder.
    endpoints
        URLs by service type, instead of those of the catalogue; with ``identity`` the tokens come
        from there, too.
    """
    named = endpoints or {}
    overrides = {f"{kind}_endpoint_override": url for kind, url in named.items()}
    common = {"region_name": settings.REGION, "interface": "public", **overrides}
    auth_url = {"auth_url": named.get("identity", cloud.auth_url)}
    clouds: dict[str, object] = {
        name: {
            "auth": {
                **auth_url,
                "username": user,
                "password": cloud.password,
                "project_name": "admin",
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
            **common,
        }
        for name, user in USERS.items()
    }
    clouds["test-cloud-get-only"] = {
        "auth_type": "v3applicationcredential",
        "auth": {
            **auth_url,
            "application_credential_name": "get-only",
            "application_credential_secret": cloud.password,
            "username": "admin",
            "user_domain_id": "default",
        },
        **common,
    }
    path = path or cloud.clouds_yaml
    path.touch(mode=0o600)
    # JSON is YAML.
    path.write_text(json.dumps({"clouds": clouds}, indent=2) + "\n")


def _ini(path: pathlib.Path, sections: Sections) -> None:
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            # Options that may be given several times are.
            several = value if isinstance(value, list) else [value]
            lines += [f"{key} = {one}" for one in several]
        lines.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("\n".join(lines))


def _mariadb(cloud: settings.Settings) -> None:
    first = cloud.config / "mariadb/accounts.sql"
    server: dict[str, object] = {
        "datadir": cloud.state / "mariadb",
        "socket": cloud.mariadb_socket,
        "pid-file": cloud.state / "mariadb.pid",
        "bind-address": settings.ADDRESS,
        "port": cloud.port("mariadb"),
        "init-file": first,
        "skip-name-resolve": "1",
        "skip-log-bin": "1",
        "performance-schema": "OFF",
        "character-set-server": "utf8mb3",
        # Nothing here has to survive the machine: no waiting for disks.
        "innodb-flush-log-at-trx-commit": 0,
        "innodb-flush-method": "nosync",
        "innodb-doublewrite": 0,
        "innodb-buffer-pool-size": "512M",
        "innodb-log-file-size": "64M",
        # Each of the services pools connections of its own.
        "max-connections": 1000,
    }
    if os.geteuid() == 0:
        # MariaDB refuses to be root unless told so by name.
        server["user"] = getpass.getuser()
    _ini(cloud.config / "mariadb/my.cnf", {"mysqld": server})
    # Run at every start. One statement a line, as MariaDB wants it here.
    address, password = settings.ADDRESS, cloud.password
    statements = [
        f"CREATE USER IF NOT EXISTS cloud@'{address}' IDENTIFIED BY '{password}';",
        f"GRANT ALL ON *.* TO cloud@'{address}';",
    ]
    databases = [*DATABASES, *map(cell_database, cloud.cells)]
    statements += [f"{make_database(name)};" for name in databases]
    for cell in cloud.cells:
        statements += [
            f"CREATE USER IF NOT EXISTS {cell}@localhost IDENTIFIED BY '{password}';",
            f"GRANT ALL ON {cell_database(cell)}.* TO {cell}@localhost;",
        ]
    first.touch(mode=0o600)
    first.write_text("\n".join(statements) + "\n")


def _rabbitmq(cloud: settings.Settings) -> None:
    values = {
        "listeners.tcp.1": f"{settings.ADDRESS}:{cloud.port('rabbitmq')}",
        "loopback_users": "none",
        "vm_memory_high_watermark.relative": 0.3,
        "disk_free_limit.absolute": "50MB",
        "log.console": "false",
        "log.file.level": "warning",
    }
    folder = cloud.config / "rabbitmq"
    folder.mkdir(parents=True, exist_ok=True)
    virtual_hosts = ["/", *cloud.cells[1:]]
    everything = {"user": "cloud", "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": "cloud", "password": cloud.password, "tags": ""}],
        "vhosts": [{"name": host} for host in virtual_hosts],
        "permissions": [{"vhost": host, **everything} for host in virtual_hosts],
    }
    # With definitions RabbitMQ makes no user of its own.
    values["load_definitions"] = str(folder / "definitions.json")
    for name, text in (
        ("definitions.json", json.dumps(definitions)),
        ("rabbitmq.conf", "".join(f"{key} = {value}\n" for key, value in values.items())),
    ):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    (folder / "enabled_plugins").write_text("[].\n")


def _account(cloud: settings.Settings, user: str) -> dict[str, object]:
    return {
        "auth_type": "password",
        "auth_url": cloud.url("keystone"),
        "username": user,
        "password": cloud.password,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": settings.REGION,
    }


def _token_check(cloud: settings.Settings, user: str, kind: str) -> dict[str, object]:
    return {
        **_account(cloud, user),
        # Application credentials with access rules are refused without it.
        "service_type": kind,
        "www_authenticate_uri": cloud.url("keystone"),
        "service_token_roles": "service",
        "service_token_roles_required": "true",
    }


def _pool(cloud: settings.Settings, name: str) -> dict[str, object]:
    # A few dozen computes ask at the same time.
    return {"connection": database(cloud, name), "max_pool_size": 10, "max_overflow": 50}


def _keystone(cloud: settings.Settings) -> Sections:
    return {
        "DEFAULT": {},
        "database": {"connection": database(cloud, "keystone")},
        # A token outlives the longest run of tests.
        "token": {"provider": "fernet", "expiration": 86400},
        "fernet_tokens": {"key_repository": cloud.state / "keystone/fernet"},
        "fernet_receipts": {"key_repository": cloud.state / "keystone/receipt"},
        "credential": {"key_repository": cloud.state / "keystone/credential"},
        # The services log in often; the default of 12 makes that a tenth of a second's work.
        "identity": {"password_hash_rounds": 4},
    }


def _placement(cloud: settings.Settings) -> Sections:
    return {
        "api": {"auth_strategy": "keystone"},
        "oslo_policy": {"policy_file": cloud.config / "placement/policy.yaml"},
        # It repeats a claim that another one came before with what was free before that one, and so
        # takes more than there is: up to 17 of 10 with 12 clients. Without it Nova repeats it.
        "placement": {"allocation_conflict_retry_count": 1},
        "placement_database": _pool(cloud, "placement"),
        "keystone_authtoken": _token_check(cloud, "placement", "placement"),
    }


def _glance(cloud: settings.Settings) -> Sections:
    folder = cloud.state / "glance"
    return {
        "DEFAULT": {"enabled_backends": "files:file", "enabled_import_methods": "[]"},
        "database": {"connection": database(cloud, "glance")},
        "glance_store": {"default_backend": "files"},
        "files": {"filesystem_store_datadir": folder / "images"},
        "os_glance_tasks_store": {"filesystem_store_datadir": folder / "tasks"},
        "os_glance_staging_store": {"filesystem_store_datadir": folder / "staging"},
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": cloud.venv / "etc/glance/glance-api-paste.ini",
        },
        "oslo_concurrency": {"lock_path": cloud.state / "lock"},
        "keystone_authtoken": _token_check(cloud, "glance", "image"),
    }


def _neutron(cloud: settings.Settings) -> Sections:
    return {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "",
            "auth_strategy": "keystone",
            "api_paste_config": cloud.venv / "etc/neutron/api-paste.ini",
            "state_path": cloud.state / "neutron",
            "transport_url": rabbit_url(cloud),
        },
        "database": {"connection": database(cloud, "neutron")},
        "nova": _account(cloud, "nova"),
        # No agent runs; the logger driver only writes down what it is told.
        "ml2": {
            "type_drivers": "local,flat,vlan",
            "tenant_network_types": "local",
            "mechanism_drivers": "logger",
            "extension_drivers": "port_security",
        },
        "oslo_concurrency": {"lock_path": cloud.state / "lock"},
        "keystone_authtoken": _token_check(cloud, "neutron", "network"),
    }


def _nova(cloud: settings.Settings) -> dict[str, Mapping[str, object]]:
    account = {**_account(cloud, "nova"), "valid_interfaces": "internal,public"}
    # All that have a rule of their own about what may be where.
    filters = (
        "ComputeFilter",
        "ComputeCapabilitiesFilter",
        "ImagePropertiesFilter",
        "ServerGroupAntiAffinityFilter",
        "ServerGroupAffinityFilter",
        "SameHostFilter",
        "DifferentHostFilter",
        "AggregateInstanceExtraSpecsFilter",
        "AggregateImagePropertiesIsolation",
        "AggregateMultiTenancyIsolation",
        "AggregateTypeAffinityFilter",
        "NUMATopologyFilter",
        "PciPassthroughFilter",
    )
    return {
        "DEFAULT": {
            "state_path": cloud.state / "nova",
            "my_ip": settings.ADDRESS,
            "transport_url": rabbit_url(cloud),
            # Down after four reports that did not come; Nova's 10 and 60 make a test wait a minute.
            # With 2 and 8 a busy machine makes living computes look down.
            "report_interval": 5,
            "service_down_time": 20,
            # How often a compute tells its resources (60 by default).
            "update_resources_interval": 15,
            "sync_power_state_interval": -1,
            "heal_instance_info_cache_interval": -1,
            # The first look for new computes waits up to this long, by chance (60 by default).
            "periodic_fuzzy_delay": 1,
            "osapi_compute_workers": 1,
            "metadata_workers": 1,
        },
        "api": {"auth_strategy": "keystone"},
        "oslo_policy": {"policy_file": cloud.config / "nova/policy.yaml"},
        "api_database": _pool(cloud, "nova_api"),
        "database": _pool(cloud, "nova"),
        "wsgi": {"api_paste_config": cloud.venv / "etc/nova/api-paste.ini"},
        "conductor": {"workers": 1},
        # New computes come into the cell by themselves.
        "scheduler": {
            "workers": 1,
            "discover_hosts_in_cells_interval": 5,
            "enable_isolated_aggregate_filtering": "true",
            "image_metadata_prefilter": "true",
            "limit_tenants_to_placement_aggregate": "true",
        },
        "filter_scheduler": {
            "available_filters": "nova.scheduler.filters.all_filters",
            "enabled_filters": ",".join(filters),
            "track_instance_changes": "false",
            # Free memory alone, of which all hosts have the same: otherwise those with more CPUs, a
            # larger disk, no devices or a newer hypervisor get nearly all servers.
            "cpu_weight_multiplier": 0,
            "disk_weight_multiplier": 0,
            "pci_weight_multiplier": 0,
            "hypervisor_version_weight_multiplier": 0,
        },
        "pci": {
            "alias": [
                json.dumps({"name": name, "device_type": "type-PCI", **ids})
                for name, ids in hosts.PCI.items()
            ],
            # Which of the hypervisor's devices a compute takes.
            "device_spec": json.dumps(list(hosts.PCI.values())),
        },
        "image_cache": {"manager_interval": -1},
        # The default is 20 cores a project.
        "quota": {"driver": "nova.quota.NoopQuotaDriver"},
        "notifications": {"notification_format": "versioned"},
        "oslo_messaging_notifications": {"driver": "messagingv2"},
        "oslo_messaging_rabbit": {"heartbeat_timeout_threshold": 0},
        "oslo_concurrency": {"lock_path": cloud.state / "lock"},
        "vnc": {"enabled": "false"},
        "glance": {**account, "endpoint_override": cloud.url("glance")},
        "neutron": account,
        "cinder": account,
        "placement": account,
        "service_user": {**account, "send_service_user_token": "true"},
        "keystone_authtoken": _token_check(cloud, "nova", "compute"),
    }
