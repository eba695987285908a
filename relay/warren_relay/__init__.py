"""The relay: DERP and STUN."""
