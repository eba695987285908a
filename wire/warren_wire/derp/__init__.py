"""DERP: packets between nodes through a relay that knows them by node key and reads nothing."""
