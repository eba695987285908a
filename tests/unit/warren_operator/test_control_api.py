"""The life of a client of the admin API."""

from __future__ import annotations

import pytest

from warren_operator.control_api import ControlApi, Endpoint
from warren_operator.errors import ControlApiError


async def test_a_client_that_was_closed_opens_nothing_any_more() -> None:
    api = ControlApi(Endpoint("http://192.0.2.1", None, "", "token"))
    await api.close()
    with pytest.raises(ControlApiError, match="changed meanwhile"):
        await api.status()
