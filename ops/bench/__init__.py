"""`griddle bench`: how long a cluster's reads take, and what a read costs on each path, on loopback."""
