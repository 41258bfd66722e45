# SPDX-License-Identifier: Apache-2.0
"""Speaking to the APIs of a cloud: who we are there, and requests with patience and limits."""
