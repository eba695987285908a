"""The Kubernetes operator: Mesh, Node and DerpRelay into running objects, and what runs back into their status."""
