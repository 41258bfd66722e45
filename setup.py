# SPDX-License-Identifier: Apache-2.0
"""Everything about the package is in setup.cfg; pbr reads it."""

import setuptools

setuptools.setup(pbr=True)
