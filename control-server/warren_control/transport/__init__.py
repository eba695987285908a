"""Client connections: the encrypted channel, the requests inside it, the map streams."""
