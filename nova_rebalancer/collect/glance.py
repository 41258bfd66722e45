# SPDX-License-Identifier: Apache-2.0
"""What is asked of Glance: which traits the images of servers require of a host.

Nova shows an image's properties with a server, but only those that it has a field for, and
``trait:`` properties have none of their own (nova ``objects/image_meta.py``,
``_set_attr_from_trait_names``).
"""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from urllib import parse

from nova_rebalancer import exceptions
from nova_rebalancer.rest import client

Json = dict[str, Any]

PREFIX = "trait:"

AT_ONCE = 64
"""Images in one request: so many ids are 2.4 kB, and uWSGI takes 4 kB of a request by default."""


def traits(ask: client.Client, images: Sequence[str]) -> dict[str, dict[str, str] | None]:
    """Return the ``trait:`` properties of images, None for one that Glance does not show.

    That one is deleted, or the account may not see it; Glance does not say which.  Hidden images
    are in a listing of their own (glance ``api/v2/images.py``, ``index``).

    Raises
    ------
    CloudError
        If Glance does not answer well, is not in the catalogue or refuses the list.
    """
    found: dict[str, dict[str, str] | None] = dict.fromkeys(images)
    for hidden in ("false", "true"):
        wanted = [name for name in images if found[name] is None]
        for first in range(0, len(wanted), AT_ONCE):
            for image in _listed(ask, wanted[first : first + AT_ONCE], hidden):
                found[image["id"]] = {
                    key: str(value)
                    for key, value in image.items()
                    if key.startswith(PREFIX) and value is not None
                }
    return found


def told(server: Json) -> bool:
    """Whether Nova shows all that it kept of a server's image, traits and all, as 2025.1 does.

    Newer ones do not show the image that an image was made from, which is always kept (nova
    ``compute/api.py``, ``_populate_instance_for_create``).
    """
    return "base_image_ref" in server["image"]["properties"]


def _listed(ask: client.Client, names: Sequence[str], hidden: str) -> Iterator[Json]:
    """Yield those of some images that are shown; Glance may cut its pages shorter than asked."""
    query = {
        "id": f"in:{','.join(names)}",
        # A page that is full is said to have a next one.
        "limit": str(len(names) + 1),
        "os_hidden": hidden,
        # Without it images of the community would be missing.
        "visibility": "all",
    }
    while True:
        page = ask.get("image", f"/v2/images?{parse.urlencode(query, safe=':,')}")
        images = page.get("images")
        if images is None:
            raise exceptions.CloudError("Glance answers without a list of images")
        yield from images
        if not images or not page.get("next"):
            return
        query["marker"] = images[-1]["id"]
