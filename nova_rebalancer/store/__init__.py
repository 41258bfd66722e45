# SPDX-License-Identifier: Apache-2.0
"""The journal: what was meant, asked and answered, written before the cloud is asked."""
