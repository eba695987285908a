"""One look at one thing: observe, compute all that is desired, write the difference, tell the status."""
