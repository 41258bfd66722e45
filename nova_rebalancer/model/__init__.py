# SPDX-License-Identifier: Apache-2.0
"""What a cloud is, as facts and as arrays; pure values and functions."""
