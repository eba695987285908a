"""The control protocol: Noise records, HTTP/2 sessions, messages, the map stream, the netmap."""
