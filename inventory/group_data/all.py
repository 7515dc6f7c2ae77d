"""Plain values for every host, prefixed by the component that owns them.

Precedence, lowest first: this file, a group's file, the file named after the inventory (lab.py, prod.py), a
host's own data, ``--data key=value``.
"""

# The deploys connect as this user; it exists with key and NOPASSWD sudo before the first run, as a cloud
# image's user does.
ssh_user = "deploy"

cluster_name = "griddle"

# --- base
base_profile = "low-latency"  # a file in tuning/profiles/
base_deploy_keys = []  # public keys for the deploy user; empty: leave what the host has
base_journal_max = "512M"
base_data_disks = {}  # {mount point: block device}, formatted ext4 by whoever made the host

# --- firewall
firewall_ssh_from = ["0.0.0.0/0"]  # narrow this to where operators come from
firewall_ssh_port = 22

# --- store
store_engine = "fdb"  # fdb | etcd | memory (memory: one worker's own, for development)
store_port = 7000  # + 100 for slot b, + the worker's number
store_workers = 4  # one per core of an app host
store_max_batch = 256
store_deadline_ms = 250
store_value_limit_bytes = 65536

# --- front
front_port = 8000  # + 100 for slot b, + the worker's number
front_workers = 4
front_backlog = 1024

# --- feed
feed_poll_ms = 1000  # how long an event may lie in the log where its nudge was lost

# --- app
app_slots = {"a": "current"}  # slot → release version; "current" is what was built last on this machine
app_keep_releases = 3

# --- proxy
proxy_virtual_ip = ""  # an unused address in the proxies' network
proxy_port = 80
proxy_lane = "direct"  # lane of hot reads: direct | wsgi
proxy_lane_override = False  # honour a request's own X-Lane header
proxy_deadline_ms = 250
proxy_waiting_limit = 1024  # requests that may wait while an operation is announced, per nginx worker

# --- etcd
etcd_client_port = 2379
etcd_peer_port = 2380
etcd_heartbeat_ms = 100
etcd_election_ms = 1000
etcd_quota_bytes = 2 * 1024**3
etcd_snapshot_every = "1h"
etcd_snapshots_kept = 24

# --- fdb
fdb_version = "7.3.77"
fdb_port = 4500  # + the process's number
fdb_redundancy = "triple"
fdb_engine = "ssd"
fdb_tls = False  # chosen when the database is created; True: every connection, with the cluster's CA
fdb_backup_url = "file:///var/lib/griddle/backup"  # on the metrics host; or blobstore://...; "": no backup
fdb_backup_snapshot_seconds = 86400  # a snapshot of everything this often; between two, the log of all mutations
fdb_backup_keep_days = 7
fdb_backup_agents = 2
fdb_backup_memory = "1GiB"  # an agent above this is ended
fdb_rolling = False  # fdb upgrade: zone by zone instead of all processes at once
fdb_procedure = "auto"  # fdb upgrade: auto | patch | minor
fdb_recovered_seconds = 600  # an upgrade is refused where the last recovery is less long ago

# --- metrics
metrics_statsd_port = 8125
metrics_graphite_port = 2003
metrics_http_port = 8428
metrics_retention = "30d"
metrics_promise_ms = 25  # reads are answered within this: 1, 2.5, 5, 10, 25, 50, 100, 250 or 1000
metrics_promise_share = 0.99  # at least this share of them
metrics_board_port = 80
metrics_board_from = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]  # private networks; narrow it to operators'
metrics_board_note = ""  # what a reader of the hosts' numbers has to know

# --- notify
notify_webhook_url = ""  # where marks (docs/metrics.md) are posted to, in Slack's format; empty: nowhere
