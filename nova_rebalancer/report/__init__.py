# SPDX-License-Identifier: Apache-2.0
"""Pages and pictures from documents, for people."""
