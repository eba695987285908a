"""The control server under stock clients of three releases: how machines come in, are known, and leave."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from support.lab import eventually
from support.requirements import require_program
from support.stock_world import StockWorld, peer, running, until, up_arguments
from warren_lab.errors import ProcessError
from warren_lab.hosts import Tailscaled

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


def test_members_know_each_other_by_name_and_owner(world: StockWorld) -> None:
    status = until(world.laptop, lambda status: running(status) and peer(status, "office").get("Online"))
    office = peer(status, "office")
    assert status["AuthURL"] == ""
    assert status["Health"] in ([], None)
    assert status["Self"]["DNSName"] == "laptop.mesh.internal."
    assert status["MagicDNSSuffix"] == status["CurrentTailnet"]["Name"] == "mesh.internal"
    assert world.laptop.addresses() == status["TailscaleIPs"]
    assert [address[:5] for address in status["TailscaleIPs"]] == ["100.6", "fd7a:"]
    owners = {
        each["DNSName"]: status["User"][str(each["UserID"])]["LoginName"] for each in (status["Self"], office)
    }
    assert owners == {"laptop.mesh.internal.": "alice", "office.mesh.internal.": "members"}
    assert (office["HostName"], office["OS"], office["ID"]) == ("office", "linux", "n2")
    assert office["InNetworkMap"]
    assert office["InMagicSock"]
    assert "members" in world.laptop.ok("whois", office["TailscaleIPs"][0])
    assert "alice" in world.office.ok("whois", status["TailscaleIPs"][1])


def test_the_handshake_is_done_with_the_published_key(world: StockWorld) -> None:
    trusting = ["env", f"SSL_CERT_FILE={world.server.ca_file}"]
    answer = world.laptop.call(["debug", "ts2021", "--host", "203.0.113.10"], prefix=trusting)
    assert answer.returncode == 0, answer.stderr
    assert 'whoami response: "mkey:' in answer.stdout


def test_a_rename_is_seen_by_both(world: StockWorld) -> None:
    world.patch("office", name="branch")
    until(world.laptop, lambda status: peer(status, "branch"))
    until(world.office, lambda status: status["Self"]["DNSName"] == "branch.mesh.internal.")
    assert "pong from branch" in world.laptop.ok("ping", "--c=1", "--until-direct=false", "branch")
    world.patch("branch", name="office")
    until(world.laptop, lambda status: peer(status, "office"))


def test_a_machine_without_a_key_is_let_in_by_its_link(world: StockWorld) -> None:
    with world.guest("guest", joined=False) as guest:
        up = guest.spawn(*up_arguments(world, guest))
        link = until(guest, lambda status: status["AuthURL"])["AuthURL"]
        fetch = [require_program("curl"), "-sS", "--fail", "--cacert", str(world.server.ca_file), link]
        page = world.run.call(fetch, namespace=guest.namespace).stdout
        told = re.search(r"warren nodes approve (\S+) --user NAME", page)
        assert told is not None, page
        assert "guest joined with 100." in world.warren("nodes", "approve", told[1], "--user", "alice")
        assert eventually(lambda: not up.running, within=20)
        assert up.exit_code == 0
        assert set(re.findall(r"https://\S+", up.log.read_text())) == {link}
        until(guest, running)
        assert world.node("guest")["user"] == "alice"


def test_a_refused_machine_is_told_so(world: StockWorld) -> None:
    with world.guest("guest", joined=False) as guest:
        up = guest.spawn(*up_arguments(world, guest, "--timeout=15s"))
        link = until(guest, lambda status: status["AuthURL"])["AuthURL"]
        world.warren("nodes", "reject", link)
        assert eventually(lambda: not up.running, within=30)
        assert up.exit_code != 0
        assert "refused" in up.log.read_text()
        assert world.api("GET", "/nodes?name=guest")["nodes"] == []


def test_a_wrong_key_fails_with_the_servers_words_and_stores_nothing(world: StockWorld) -> None:
    with world.guest("guest", joined=False) as guest:
        with pytest.raises(ProcessError, match="invalid pre-auth key"):
            guest.up(world.server.url, "warren-auth-wrong", timeout_seconds=20)
        assert world.api("GET", "/nodes?name=guest")["nodes"] == []


def test_a_one_shot_key_admits_one_machine_and_that_one_again(world: StockWorld) -> None:
    key = world.key(reusable=False)
    with world.guest("guest", joined=False) as guest:
        guest.up(world.server.url, key)
        guest.restart()
        until(guest, running)
        guest.up(world.server.url, key)
        with (
            world.guest("spare", "spare", joined=False) as other,
            pytest.raises(ProcessError, match="already used"),
        ):
            other.up(world.server.url, key, timeout_seconds=20)


def test_a_daemon_restart_and_a_second_up_keep_node_and_addresses(world: StockWorld) -> None:
    before = until(world.laptop, running)
    world.laptop.restart()
    after = until(world.laptop, running)
    assert (after["Self"]["ID"], after["TailscaleIPs"]) == (before["Self"]["ID"], before["TailscaleIPs"])
    assert "https://" not in world.laptop.ok(*up_arguments(world, world.laptop))
    assert len(world.api("GET", "/nodes")["nodes"]) == 2


def test_a_forced_login_changes_the_key_alone(world: StockWorld) -> None:
    before = until(world.laptop, running)["Self"]
    world.laptop.up(world.server.url, world.key(user="alice"), flags=["--force-reauth"])
    after = until(world.laptop, lambda status: status["Self"]["PublicKey"] != before["PublicKey"])["Self"]
    assert (after["ID"], after["TailscaleIPs"]) == (before["ID"], before["TailscaleIPs"])
    assert eventually(lambda: world.pings("office", after["TailscaleIPs"][0]))


def test_logout_then_another_users_login_makes_another_node(world: StockWorld) -> None:
    with world.guest("guest") as guest:
        first = until(guest, running)["Self"]["ID"]
        guest.logout()
        assert guest.status()["BackendState"] == "NeedsLogin"
        until(world.laptop, lambda status: not peer(status, "guest").get("Online"))
        guest.up(world.server.url, world.key(user="alice"))
        status = until(guest, running)
        assert status["Self"]["ID"] != first
        assert status["User"][str(status["Self"]["UserID"])]["LoginName"] == "alice"


def test_two_users_of_one_machine_have_a_node_each(world: StockWorld) -> None:
    with world.guest("guest") as guest:
        key_file = guest.folder / "second"
        key_file.write_text(world.key(user="alice"))
        other = [f"--login-server={world.server.url}", f"--auth-key=file:{key_file}", "--accept-dns=false"]
        guest.ok("login", *other, "--hostname=guest", "--nickname=second")
        until(guest, lambda status: status["Self"]["UserID"] == 2 and running(status))
        owners = {node["user"] for node in world.api("GET", "/nodes")["nodes"] if node["hostname"] == "guest"}
        assert owners == {"members", "alice"}


def test_an_expired_machine_logs_in_again_and_an_extended_one_need_not(world: StockWorld) -> None:
    with world.guest("guest") as guest:
        before = until(guest, running)["Self"]
        number = world.node("guest")["id"]
        world.api("POST", f"/nodes/{number}/expire")
        until(guest, lambda status: status["BackendState"] == "NeedsLogin")
        until(world.laptop, lambda status: peer(status, "guest").get("Expired"))
        assert not world.pings("laptop", before["TailscaleIPs"][0])
        later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        world.patch("guest", expiry=later)
        until(guest, running)
        assert eventually(lambda: world.pings("laptop", before["TailscaleIPs"][0]))
        world.api("POST", f"/nodes/{number}/expire")
        until(guest, lambda status: status["BackendState"] == "NeedsLogin")

        def came_back() -> bool:
            guest.up(world.server.url, world.key())
            return eventually(lambda: running(guest.status()), within=10)

        # Where `up` meets the client's own answer to the expiry, 1.88 says Running but asks for no map;
        # the command helps when given again.
        assert eventually(came_back, within=60)
        after = guest.status()["Self"]
        assert (after["ID"], after["TailscaleIPs"]) == (before["ID"], before["TailscaleIPs"])


def test_a_machine_may_ask_for_an_earlier_expiry_only(world: StockWorld) -> None:
    with world.guest("guest") as guest:
        number = world.node("guest")["id"]
        guest.ok("debug", "set-expire", "--in=2h")
        assert eventually(lambda: world.node("guest")["expiry"])
        soon = world.node("guest")["expiry"]
        guest.call(["debug", "set-expire", "--in=5h"])
        assert world.api("GET", f"/nodes/{number}")["expiry"] == soon
        assert running(guest.status())


def test_tags_replace_the_owner_and_go_away_again(world: StockWorld) -> None:
    with world.guest("guest", joined=False) as guest:
        guest.up(world.server.url, world.key(tags=["tag:db"]))
        status = until(guest, running)
        assert status["Self"]["Tags"] == ["tag:db"]
        about = world.laptop.ok("whois", status["TailscaleIPs"][0])
        assert "tag:db" in about
        assert "members" not in about
        world.warren("tags", "set", "guest", "tag:web")
        until(guest, lambda status: status["Self"].get("Tags") == ["tag:web"])
        until(world.laptop, lambda status: peer(status, "guest").get("Tags") == ["tag:web"])
        world.warren("tags", "set", "guest")
        until(guest, lambda status: not status["Self"].get("Tags"))
        guest.logout()
        guest.up(world.server.url, world.key(tags=["tag:db"]))
        until(guest, running)


def test_an_ephemeral_machine_is_gone_when_it_ends(world: StockWorld) -> None:
    with world.guest("guest", joined=False, in_memory=True) as job:
        job.up(world.server.url, world.key(ephemeral=True))
        until(world.laptop, lambda status: peer(status, "guest"))
        job.close()
        until(world.laptop, lambda status: not peer(status, "guest"))
        assert world.api("GET", "/nodes?name=guest")["nodes"] == []


def test_a_deleted_machine_is_logged_out_and_can_join_again(world: StockWorld) -> None:
    with world.guest("guest") as guest:
        until(world.laptop, lambda status: peer(status, "guest"))
        world.warren("nodes", "delete", "guest")
        until(world.laptop, lambda status: not peer(status, "guest"))
        until(guest, lambda status: status["BackendState"] == "NeedsLogin")
        guest.up(world.server.url, world.key())
        until(world.laptop, lambda status: peer(status, "guest").get("Online"))


def _come_back(world: StockWorld, clients: list[Tailscaled], nodes: list[str]) -> None:
    for client, number in zip(clients, nodes, strict=True):
        assert until(client, running, within=60)["Self"]["ID"] == number
        assert "https://" not in client.ok(*up_arguments(world, client))
    assert eventually(lambda: world.pings("laptop", world.office.addresses()[0]))


def test_clients_come_back_after_a_restart_and_talk_meanwhile(world: StockWorld) -> None:
    clients = [world.laptop, world.office]
    nodes = [until(client, running)["Self"]["ID"] for client in clients]
    address = world.office.addresses()[0]
    assert eventually(
        lambda: world.pings("laptop", address) and bool(world.laptop.peer(address).get("CurAddr"))
    )
    with world.without_server():
        assert world.pings("laptop", address)
    _come_back(world, clients, nodes)


def test_clients_come_back_after_a_restore_from_a_backup(world: StockWorld) -> None:
    clients = [world.laptop, world.office]
    nodes = [until(client, running)["Self"]["ID"] for client in clients]
    archive = str(world.folder / "backup.tar.gz")
    assert "both keys, " in world.server.command("backup", "--output", archive)
    with world.without_server():
        for lost in ("control.db", "control.db-wal", "control.db-shm", "noise.key", "derp.key"):
            (world.server.folder / lost).unlink(missing_ok=True)
        world.server.command("restore", archive)
    _come_back(world, clients, nodes)
    shutil.rmtree(archive, ignore_errors=True)


def test_no_client_complained_about_the_server_all_the_while(world: StockWorld) -> None:
    complaints = ("[unexpected]", "answerHeadPing error", "lite map update error", "long-poll timed out")
    for client in (world.laptop, world.office):
        about_control = [line for line in client.process.log.read_text().splitlines() if "control: " in line]
        assert about_control
        answered = [line for line in about_control if not world.was_away(line)]
        assert [line for line in answered if any(complaint in line for complaint in complaints)] == []
