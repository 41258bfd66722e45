# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of carrying plans out: ``nova-rebalance apply`` on a test cloud, seen from outside."""
