"""Every kind of NAT against every other: which path physics allows, and which one nodes find."""
