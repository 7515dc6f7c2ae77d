"""The metrics host. What other hosts need too (ports) is in all.py."""

metrics_memory = "1GB"  # caches of the metrics store
