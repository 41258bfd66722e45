# SPDX-License-Identifier: Apache-2.0
"""What is asked of Placement: one provider at a time, for it has no bulk answers."""

from typing import Any

from nova_rebalancer.rest import client

BEST = (1, 39)
LEAST = (1, 19)
"""From it on providers tell roots, parents and generations, and aggregates count in these."""

SHARES = "MISC_SHARES_VIA_AGGREGATE"
"""The trait of a provider whose inventory others may use."""

Amounts = dict[str, int]


class Placement:
    """The placement API of one cloud."""

    def __init__(self, ask: client.Client) -> None:
        self._ask = ask
        self.version = ask.version("placement", BEST, LEAST)

    def providers(self) -> list[dict[str, Any]]:
        """Return all resource providers with generation, parent and root."""
        found: list[dict[str, Any]] = self._get("/resource_providers")["resource_providers"]
        return found

    def inventories(self, provider: str) -> dict[str, dict[str, Any]] | None:
        """Return the inventories by resource class, None when the provider is gone."""
        found = self._get(f"/resource_providers/{provider}/inventories", (404,))
        return None if found is None else found["inventories"]

    def traits(self, provider: str) -> list[str] | None:
        """Return the traits, None when the provider is gone."""
        found = self._get(f"/resource_providers/{provider}/traits", (404,))
        return None if found is None else sorted(found["traits"])

    def aggregates(self, provider: str) -> list[str] | None:
        """Return the uuids of aggregates, None when the provider is gone."""
        found = self._get(f"/resource_providers/{provider}/aggregates", (404,))
        return None if found is None else sorted(found["aggregates"])

    def allocations(self, provider: str) -> dict[str, Amounts] | None:
        """Return what each consumer has of a provider, None when the provider is gone."""
        found = self._get(f"/resource_providers/{provider}/allocations", (404,))
        if found is None:
            return None
        return {name: one["resources"] for name, one in found["allocations"].items()}

    def usages(self, provider: str) -> Amounts | None:
        """Return what is used of each resource class, None when the provider is gone."""
        found = self._get(f"/resource_providers/{provider}/usages", (404,))
        return None if found is None else found["usages"]

    def consumer(self, name: str) -> dict[str, Amounts]:
        """Return what a consumer has of each provider."""
        found = self._get(f"/allocations/{name}")
        return {provider: one["resources"] for provider, one in found["allocations"].items()}

    def _get(self, path: str, accept: tuple[int, ...] = ()) -> Any:
        return self._ask.get("placement", path, self.version, accept)
