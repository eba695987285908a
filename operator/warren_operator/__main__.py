"""`warren-operator`: runs the operator in a cluster. Nothing for people; its settings come from the chart."""

from __future__ import annotations

import logging
import os
import sys

import click

from warren_operator.app import Operator
from warren_operator.cluster import KubernetesCluster
from warren_operator.config import OperatorConfig
from warren_operator.errors import ClusterError, ConfigError
from warren_runtime import logs
from warren_runtime.tasks import run_service
from warren_wire import __version__


@click.group()
@click.version_option(__version__)
def main() -> None:
    """The operator of Warren's custom resources."""


@main.command()
def run() -> None:
    """Reconcile Mesh, Node and DerpRelay objects until stopped. Settings are WARREN_* variables."""
    try:
        config = OperatorConfig.from_environ(os.environ)
        logs.setup(config.log_level)
        # One line for each event handled tells nothing.
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
        cluster = KubernetesCluster.connect()
    except (ConfigError, ClusterError) as error:
        click.echo(f"warren-operator: {error}", err=True)
        sys.exit(2)

    async def serve() -> None:
        await Operator(config, cluster).run()

    run_service(serve)


if __name__ == "__main__":
    main()
