"""Plain values for every host, prefixed by the component that owns them.

Precedence, lowest first: this file, a group's file, the file named after the inventory (lab.py, prod.py), a
host's own data, ``--data key=value``. A key's comment is its meaning; `./griddle data` prints it with
the values that the key takes (cluster/data.py).
"""

# The deploys connect as this user; it exists with key and NOPASSWD sudo before the first run, as a cloud
# image's user does.
ssh_user = "deploy"

cluster_name = "griddle"  # names etcd's data, the operator's files (.griddle/clusters) and much that is shown

# --- base
base_profile = "low-latency"  # a file in tuning/profiles/
base_deploy_keys = []  # all public keys of the deploy user, yours too; empty: leave what the host has
base_journal_max = "512M"  # what the journal may take of a host's disk
base_data_disks = {}  # {mount point: block device}, formatted ext4 by whoever made the host

# --- firewall
firewall_ssh_from = ["0.0.0.0/0"]  # narrow this to where operators come from
firewall_ssh_port = None  # where sshd listens, if that is not where one connects to (ssh_port, else 22)

# --- store
store_engine = "fdb"  # memory: one worker's own, for development
store_port = 7000  # + 100 for slot b, + the worker's number
store_workers = 4  # one per core of an app host
store_max_batch = 256  # requests that a worker reads in one transaction
store_value_limit_bytes = 65536  # of a profile, and of a request's body

# --- front
front_port = 8000  # + 100 for slot b, + the worker's number
front_workers = 4  # one per core of an app host
front_backlog = 1024  # connections that wait to be accepted, of a front worker and of nginx

# --- feed
feed_poll_ms = 1000  # how long an event may lie in the log where its nudge was lost

# --- app
app_slots = {"a": "current"}  # slot → release version; "current" is this checkout's, as it was built last
app_keep_releases = 3  # the newest ones that stay on a host, beside those in use

# --- proxy
proxy_virtual_ip = ""  # an unused address in the proxies' network
proxy_interface = ""  # that the virtual address is added to; empty: the one that has the host's address
proxy_advert_ms = 200  # how often the address's holder says so; silent for 3.3 times that, it has lost the address
proxy_port = 80  # of the virtual address and of every proxy
proxy_lane = "direct"  # lane of hot reads; wsgi: by way of the Python front
proxy_lane_override = False  # honour a request's own X-Lane header
proxy_deadline_ms = 250  # of a read, on both lanes: proxies, fronts and store workers give it up together
proxy_waiting_limit = 1024  # requests that may wait while an operation is announced, per nginx worker

# --- etcd
etcd_client_port = 2379  # of every member
etcd_peer_port = 2380  # of every member
etcd_heartbeat_ms = 100  # about a round trip between members
etcd_election_ms = 1000  # without a heartbeat, until the others elect another leader
etcd_quota_bytes = 2 * 1024**3  # size of the database at which it takes no more writes
etcd_snapshot_every = "1h"  # on each member
etcd_snapshots_kept = 24  # the newest ones, on each member

# --- fdb
fdb_version = "7.3.77"  # raised by `./griddle fdb upgrade`, then here
fdb_port = 4500  # + the process's number
fdb_redundancy = "triple"  # copies: 1, 2 or 3, which need 1, 3 or 5 hosts
fdb_engine = "ssd"  # chosen when the database is created
fdb_tls = False  # chosen when the database is created; True: every connection, with the cluster's CA
fdb_backup_url = "file:///var/lib/griddle/backup"  # on the metrics host; or of an object store; "": no backup
fdb_backup_credentials = ""  # FoundationDB's blob credentials: a file on the operator's machine, see operations.md
fdb_backup_ca = ""  # the CAs of the object store's certificate: a PEM file on the operator's machine
fdb_backup_snapshot_seconds = 86400  # a snapshot of everything this often; between two, the log of all mutations
fdb_backup_keep_days = 7  # how far back a restore can go
fdb_backup_agents = 2  # processes on the metrics host that write and restore
fdb_backup_memory = "1GiB"  # an agent above this is ended
fdb_rolling = False  # fdb upgrade: zone by zone instead of all processes at once
fdb_procedure = "auto"  # fdb upgrade: by the versions, or as said
fdb_cut_off = False  # fdb upgrade to another minor version: clients outside the inventory may lose the database
fdb_workers_away = 0.34  # fdb upgrade: the share of all store workers that may restart at once, one of a host
fdb_recovered_seconds = 600  # an upgrade is refused where the last recovery is less long ago

# --- metrics
metrics_statsd_port = 8125  # of each host's daemon: UDP, on loopback
metrics_graphite_port = 2003  # where the daemons send to, on the metrics host
metrics_http_port = 8428  # of the metrics store, for the metrics host alone
metrics_retention = "30d"  # how long numbers are kept
metrics_promise_ms = 25  # reads are answered within this
metrics_promise_share = 0.99  # at least this share of them
metrics_board_port = 80  # on the metrics host
metrics_board_from = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]  # private networks; narrow it to operators'
metrics_board_note = ""  # what a reader of the hosts' numbers has to know

# --- notify
notify_webhook_url = ""  # where marks (docs/metrics.md) are posted to, in Slack's format; empty: nowhere
