"""HTTP/2 settings that cost an idle connection little memory and a hostile one none."""

from typing import Any, Final

from h2.settings import ChangedSetting, SettingCodes, Settings

_KNOWN: Final = frozenset(SettingCodes)


class CompactSettings(Settings):
    """The library's settings, kept in lists: a deque has room for 64 values, 10 KiB for a connection.

    Codes that HTTP/2 does not know are ignored (RFC 9113 6.5.2); the library would keep each of 65,536.
    """

    # Annotated as deques by the library, which outside `acknowledge` uses only what lists have too.
    _settings: dict[Any, Any]

    def __init__(self, client: bool = True, initial_values: dict[SettingCodes, int] | None = None) -> None:
        super().__init__(client, initial_values)
        self._settings = {code: list(values) for code, values in self._settings.items()}

    def __setitem__(self, key: SettingCodes | int, value: int) -> None:
        if key in _KNOWN:
            # A list that begins with None is a setting without a value in force, as the library has it.
            self._settings.setdefault(key, [None])
            super().__setitem__(key, value)

    def acknowledge(self) -> dict[SettingCodes | int, ChangedSetting]:
        changed: dict[SettingCodes | int, ChangedSetting] = {}
        for code, values in self._settings.items():
            if len(values) > 1:
                changed[code] = ChangedSetting(code, values.pop(0), values[0])
        return changed
