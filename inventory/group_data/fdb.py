"""FoundationDB hosts. What other hosts need too (version, port, redundancy, engine) is in all.py."""

# One fdbserver per entry, on fdb_port and the ports after it.
# A log process in every zone keeps the availability margin; one core and 4 GB of memory for each.
fdb_process_classes = ["storage", "log", "stateless", "stateless"]
fdb_memory = "8GiB"  # a process above this is killed; raise it with the cache
fdb_cache_memory = "2GiB"  # page cache of the ssd engines
fdb_storage_memory = "1GiB"  # what the memory engine may hold
fdb_log_size = "10MiB"  # one trace file
fdb_logs_size = "100MiB"  # all trace files of a process
fdb_open_files = 999999  # limit of each process
fdb_knobs = {}  # {name: value}; leave them alone until a measurement asks for one
fdb_health_seconds = 240  # how long an apply waits for all health gates
