"""Client of a control server: join, follow the network map, tell it how this node can be reached."""
