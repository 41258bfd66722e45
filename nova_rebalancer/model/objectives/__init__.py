# SPDX-License-Identifier: Apache-2.0
"""Goals: each gives the value of a placement, lower is better, and what it is made of."""
