"""The policies of a mesh over time: where they come from, whether they are accepted, which is in force."""
