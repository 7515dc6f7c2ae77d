"""`griddle etcd`: etcd on the running cluster. What changes it is a deploy of its own under deploys/."""
