"""Production's hosts and groups. Replace the names and addresses (192.0.2.0/24 is documentation's own range).

``address`` is a host's address inside the cluster; ssh uses the name unless ``ssh_hostname`` says otherwise.
"""

from deploys.components import refuse_bad_input as _refuse_bad_input

proxies = [
    ("proxy1", {"address": "192.0.2.11"}),
    ("proxy2", {"address": "192.0.2.12"}),
]
apps = [
    ("app1", {"address": "192.0.2.21"}),
    ("app2", {"address": "192.0.2.22"}),
    ("app3", {"address": "192.0.2.23"}),
]
etcd = apps
fdb = [
    ("fdb1", {"address": "192.0.2.31"}),
    ("fdb2", {"address": "192.0.2.32"}),
    ("fdb3", {"address": "192.0.2.33"}),
    ("fdb4", {"address": "192.0.2.34"}),
    ("fdb5", {"address": "192.0.2.35"}),
]
metrics = [
    ("metrics1", {"address": "192.0.2.41"}),
]
load = []
# Prepared, and part of no store: hosts that `./griddle fdb replace` or `remove` is to empty, or has emptied.
spare = []

_refuse_bad_input(__file__, globals())
