# SPDX-License-Identifier: Apache-2.0
"""The APIs of a running test cloud, for what sets it up and looks at it."""

from collections.abc import Callable
import time
from typing import Any
from typing import TypeVar

from keystoneauth1 import adapter
from keystoneauth1 import session
from keystoneauth1.identity import v3

from tests.cloud import settings

T = TypeVar("T")

MICROVERSIONS = {"compute": "2.96", "placement": "1.39"}


class Client:
    """One user's view on one project.

    A request that is refused raises keystoneauth's ``HttpError``.  ``again`` is how often one that
    is answered 500 is sent again: MariaDB may drop a request when the machine has much to do.
    """

    def __init__(
        self,
        cloud: settings.Settings,
        project: str = "admin",
        user: str = "admin",
        again: int = 0,
    ):
        password = v3.Password(
            auth_url=cloud.auth_url,
            username=user,
            password=cloud.password,
            project_name=project,
            user_domain_id="default",
            project_domain_id="default",
        )
        self.session = session.Session(auth=password)
        # The catalogue is loopback as well, so a proxy in the environment must not see any of it.
        self.session.session.trust_env = False
        self.identity = adapter.Adapter(
            self.session, service_type="identity", endpoint_override=cloud.auth_url
        )
        self._again = again
        self.compute = self._service("compute")
        self.placement = self._service("placement")
        self.image = self._service("image")

    def _service(self, kind: str) -> adapter.Adapter:
        return adapter.Adapter(
            self.session,
            service_type=kind,
            default_microversion=MICROVERSIONS.get(kind),
            status_code_retries=self._again,
            retriable_status_codes=[500],
        )

    def list(self, service: adapter.Adapter, path: str, key: str) -> list[dict[str, Any]]:
        """What is under ``key``; one page."""
        found: list[dict[str, Any]] = service.get(path).json()[key]
        return found


def until(look: Callable[[], T | None], what: str, limit_s: float, pause_s: float = 0.5) -> T:
    """Look again and again until there is something.

    Raises
    ------
    CloudError
        If the time is over.
    """
    end = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise settings.CloudError(f"{what}: not after {limit_s:.0f} s")
        time.sleep(pause_s)
