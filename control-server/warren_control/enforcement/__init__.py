"""The policy in force: from snapshots to what each node is told, and from a change to whom it concerns."""
