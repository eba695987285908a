"""A small internet on one machine: networks, NATs, hosts and clusters in namespaces."""
