# SPDX-License-Identifier: Apache-2.0
"""gunicorn's settings for all the APIs; the variables are set by ``control.py``."""

import os

wsgi_app = os.environ["CLOUD_APPLICATION"]
bind = os.environ["CLOUD_BIND"]
# One process, so that the access log is one file in order.
workers = 1
worker_class = os.environ["CLOUD_WORKER"]
threads = int(os.environ["CLOUD_THREADS"])
timeout = 180
graceful_timeout = 3
keepalive = 75
loglevel = "warning"
accesslog = os.environ["CLOUD_ACCESS_LOG"]
access_log_format = '%(t)s %(s)s %(M)sms "%(r)s" %(b)s "%(a)s"'
# To list servers Nova asks Neutron for the ports of all of them in one URL. With the default of
# 4094 bytes the list of some 80 servers is an error 500.
limit_request_line = 0
limit_request_field_size = 0
