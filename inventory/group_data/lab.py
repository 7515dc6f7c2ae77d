"""The lab: the same cluster on one small machine."""

cluster_name = "lab"
store_workers = 2
front_workers = 2
proxy_lane_override = True
base_journal_max = "32M"
metrics_retention = "7d"
# Three members share one disk and two cores: a slow fsync must not cost an election.
etcd_heartbeat_ms = 300
etcd_election_ms = 3000
# One small process per host does everything.
fdb_recovered_seconds = 0  # a lab is young
fdb_process_classes = ["unset"]
fdb_memory = "1GiB"
fdb_cache_memory = "128MiB"
fdb_storage_memory = "256MiB"
metrics_memory = "128MB"
fdb_backup_agents = 1
fdb_backup_memory = "256MiB"
metrics_board_note = "Containers share one kernel: CPU, run queue, memory and disks are the whole machine's."
