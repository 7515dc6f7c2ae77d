"""Production: what differs from all.py. Set at least the virtual IP."""

cluster_name = "prod"
proxy_virtual_ip = "192.0.2.10"
