"""Sockets of the path engine: the asyncio shells round `warren_agent.paths`."""
