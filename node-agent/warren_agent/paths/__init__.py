"""How each peer is reached: pure state machines. They get bytes and time, and give bytes and actions."""
