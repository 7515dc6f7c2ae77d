"""HTTP to the cluster and to processes on this machine: the machine's proxy settings are for the outside."""

import urllib.request

urlopen = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
