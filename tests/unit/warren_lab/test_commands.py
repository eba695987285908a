"""The command line of the lab."""

from __future__ import annotations

from warren_lab.__main__ import kubectl


def test_everything_after_the_cluster_goes_to_kubectl_unchanged() -> None:
    given = ["exec", "-n", "warren-system", "ds/home-agent", "-c", "agent", "--", "ip", "-o", "link"]
    context = kubectl.make_context("kubectl", ["home", *given])
    assert context.params == {"name": "home", "arguments": tuple(given)}
