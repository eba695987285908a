"""The main job, shown step by step on real clusters behind real NAT. Nothing in it is simulated."""
