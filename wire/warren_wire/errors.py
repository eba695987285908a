"""What can go wrong with bytes.

A codec raises `DecodeError`; a connection machine turns it into `RemoteProtocolError`, after which the
connection is dead. `LocalProtocolError` is a bug of the caller. Texts never repeat key material or payloads.
"""


class WireError(Exception):
    """Anything this package raises on purpose."""


class DecodeError(WireError):
    """Not a message of this kind: too short, bad magic, bad value."""


class LocalProtocolError(WireError):
    """The caller asked for what the state of the machine forbids."""


class RemoteProtocolError(WireError):
    """The other side broke the rules; the connection cannot go on."""


class AuthenticationError(RemoteProtocolError):
    """A tag, a MAC or a key exchange did not verify."""
