"""The Kubernetes operator: custom resources into running objects, and what runs back into their status."""
