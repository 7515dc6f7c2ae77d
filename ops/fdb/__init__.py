"""`griddle fdb`: operations on the running FoundationDB, each a deploy of its own under deploys/."""
