"""Real single-node Kubernetes clusters in network namespaces.

``with Cluster(spec, run_dir=cluster_dir("home"), toolbox=…, images=…) as home: home.kubectl("get", "nodes")``
"""

from warren_lab.cluster.cluster import Cluster
from warren_lab.cluster.runs import cluster_dir, end_cluster, finish_run, sweep
from warren_lab.cluster.spec import ClusterError, ClusterSpec

__all__ = [
    "Cluster",
    "ClusterError",
    "ClusterSpec",
    "cluster_dir",
    "end_cluster",
    "finish_run",
    "sweep",
]
