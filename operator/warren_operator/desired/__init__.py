"""Pure builders: a resource and what is known about it in, manifests out. They never modify their input."""
