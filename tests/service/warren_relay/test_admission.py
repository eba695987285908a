"""Asking a control server who may use the relay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from warren_relay.admission import AdmissionResult, MemberAdmission
from warren_relay.config import WhenUnreachable
from warren_wire.keys import NodePublic

MEMBER, STRANGER = NodePublic(b"\x01" * 32), NodePublic(b"\x02" * 32)


class Control:
    """A control server with one member, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: web.Response | None = None
        self.now = 0.0

    async def verify(self, request: web.Request) -> web.Response:
        question = await request.json()
        self.asked.append(question)
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body)
        return web.json_response({"Allow": question["NodePublic"] == str(MEMBER)})


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Control, MemberAdmission, TestServer]]:
    control = Control()
    app = web.Application()
    app.router.add_post("/verify", control.verify)
    server = TestServer(app)
    async with server, aiohttp.ClientSession() as session:
        url = str(server.make_url("/verify"))
        yield control, MemberAdmission(session, url, clock=lambda: control.now), server


async def test_members_are_allowed_and_strangers_are_not() -> None:
    async with asking() as (control, admission, _):
        assert await admission.admit(MEMBER, "192.0.2.1")
        assert not await admission.admit(STRANGER, "192.0.2.2")
        assert control.asked == [
            {"NodePublic": str(MEMBER), "Source": "192.0.2.1"},
            {"NodePublic": str(STRANGER), "Source": "192.0.2.2"},
        ]


async def test_a_member_is_asked_about_once_a_minute_and_a_stranger_each_time() -> None:
    async with asking() as (control, admission, _):
        for now in (0.0, 30.0, 60.0):
            control.now = now
            assert await admission.admit(MEMBER, "192.0.2.1")
            assert not await admission.admit(STRANGER, "192.0.2.1")
        assert len(control.asked) == 4
        control.now = 61.0
        assert await admission.admit(MEMBER, "192.0.2.1")
        assert len(control.asked) == 5


async def test_answers_that_are_no_permission_refuse() -> None:
    async with asking() as (control, admission, _):
        for status, body in (
            (200, b""),
            (200, b"[]"),
            (200, b'{"Allow": "yes"}'),
            (200, b'{"Allow": true' + b" " * 5000 + b"}"),
            (200, b"[" * 4000),
            (403, b'{"Allow": true}'),
            (302, b'{"Allow": true}'),
        ):
            control.answer = web.Response(status=status, body=body)
            assert not await admission.admit(MEMBER, "192.0.2.1")


async def test_without_a_control_server_members_stay_for_a_day_and_nobody_new_comes_in() -> None:
    async with asking() as (control, admission, server):
        assert await admission.admit(MEMBER, "192.0.2.1")
        control.answer = web.Response(status=503)
        control.now = 100.0
        assert await admission.admit(MEMBER, "192.0.2.1")
        await server.close()
        control.now = 86400.0
        assert await admission.admit(MEMBER, "192.0.2.1")
        assert not await admission.admit(STRANGER, "192.0.2.1")
        control.now = 86401.0
        assert not await admission.admit(MEMBER, "192.0.2.1")
        assert admission.results == {
            AdmissionResult.ALLOWED: 1,
            AdmissionResult.ALLOWED_UNREACHABLE: 2,
            AdmissionResult.REFUSED_UNREACHABLE: 2,
        }


@pytest.mark.parametrize("choice", list(WhenUnreachable))
async def test_who_gets_in_without_a_control_server_is_a_setting(choice: WhenUnreachable) -> None:
    now = 0.0
    app = web.Application()
    control = Control()
    app.router.add_post("/verify", control.verify)
    server = TestServer(app)
    async with aiohttp.ClientSession() as session:
        async with server:
            url = str(server.make_url("/verify"))
            admission = MemberAdmission(session, url, when_unreachable=choice, clock=lambda: now)
            assert await admission.admit(MEMBER, "192.0.2.1")
        now = 100.0
        allowed = [await admission.admit(key, "192.0.2.1") for key in (MEMBER, STRANGER)]
        assert (
            allowed
            == {
                WhenUnreachable.REMEMBERED: [True, False],
                WhenUnreachable.REFUSE: [False, False],
                WhenUnreachable.ALLOW: [True, True],
            }[choice]
        )
