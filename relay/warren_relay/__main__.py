"""`warren-relay`: the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from warren_runtime import logs
from warren_runtime.key_files import KeyFileError
from warren_runtime.settings import SettingsError
from warren_runtime.tasks import run_service
from warren_runtime.tls import TlsError
from warren_wire import __version__

from . import app, config, workers
from .admission import KeyListError
from .workers import Worker

BAD_SETTINGS = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="warren-relay")
def main() -> None:
    """Relay for nodes that cannot reach each other directly: DERP over TLS, and STUN."""


@main.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="WARREN_RELAY_CONFIG",
    help="YAML file with the settings below.",
)
@click.option("--listen", metavar="ADDRESS:PORT", help="Where DERP is served [0.0.0.0:443].")
@click.option("--tls-certificate", metavar="FILE", help="Certificate chain; reloaded when it changes.")
@click.option("--tls-key", metavar="FILE", help="Key of the certificate.")
@click.option("--tls-self-signed", metavar="NAME,...", help="Make a certificate for these names instead.")
@click.option(
    "--tls-acme-names", metavar="NAME,...", help="Order a certificate for these names instead (ACME)."
)
@click.option("--tls-acme-accept-terms", metavar="true|false", help="You agree to the terms of the CA.")
@click.option("--tls-acme-directory-url", metavar="URL", help="The CA [Let's Encrypt].")
@click.option("--tls-acme-contacts", metavar="MAIL,...", help="Mail addresses the CA may write to.")
@click.option("--tls-acme-ca-file", metavar="FILE", help="What signed the CA's own certificate, if private.")
@click.option(
    "--tls-acme-http-listen",
    metavar="ADDRESS:PORT",
    help="Answer the CA on a plain port [on --listen, by TLS].",
)
@click.option(
    "--tls-acme-external-account-key-id", metavar="ID", help="External account binding, if asked for."
)
@click.option("--tls-acme-external-account-key-file", metavar="FILE", help="Its key, in base64url.")
@click.option("--derp-key-file", metavar="FILE", help="The relay's own key, made at the first start.")
@click.option("--stun-listen", metavar="ADDRESS:PORT", help="Where STUN is served, or off [0.0.0.0:3478].")
@click.option(
    "--health-listen", metavar="ADDRESS:PORT", help="/health, /ready, /metrics, or off [0.0.0.0:9090]."
)
@click.option("--admission-mode", metavar="members|list|open", help="Who may use the relay [members].")
@click.option("--admission-verify-url", metavar="URL", help="The control server's URL with /verify.")
@click.option("--admission-ca-file", metavar="FILE", help="CA of the control server, if it is a private one.")
@click.option("--admission-keys-file", metavar="FILE", help="With list: one node key a line.")
@click.option(
    "--admission-when-unreachable",
    metavar="remembered|refuse|allow",
    help="Who gets in while the control server is down [remembered: members of the last day].",
)
@click.option("--mesh-key-file", metavar="FILE", help="Key that all relays of the region share.")
@click.option("--mesh-peers", metavar="HOST[:PORT],...", help="The relays of the region; itself is skipped.")
@click.option("--mesh-discover", metavar="NAME[:PORT]", help="A DNS name whose addresses are the relays.")
@click.option("--mesh-certificate-name", metavar="NAME", help="What discovered relays' certificates hold.")
@click.option("--mesh-ca-file", metavar="FILE", help="CA of those relays, if it is a private one.")
@click.option("--limit-bytes-per-second", metavar="NUMBER", help="What one client may send [no limit].")
@click.option("--limit-burst-bytes", metavar="NUMBER", help="And at once [one second's worth].")
@click.option("--workers", metavar="NUMBER|auto", help="Processes that share the port [1].")
@click.option(
    "--trusted-proxies", metavar="RANGE,...", help="Proxies whose word counts for where a client is."
)
@click.option(
    "--forwarded-header",
    metavar="x-forwarded-for|forwarded|none",
    help="The header that they write [x-forwarded-for].",
)
@click.option("--proxy-protocol", metavar="true|false", help="They send the PROXY protocol [false].")
@click.option("--drain-seconds", metavar="NUMBER", help="Time for clients to move before the end [2].")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error [info].")
@click.option("--log-json", metavar="true|false", help="JSON lines [unless on a terminal].")
def serve(file: Path | None, **flags: str | None) -> None:
    """Run the relay until SIGTERM.

    Each flag is also a variable: --tls-key is WARREN_RELAY_TLS_KEY. Flags win over variables, variables
    over the file. Wrong settings end with exit code 2.
    """
    names = {field.replace(".", "_"): field for field in config.FIELDS}
    given = {names[flag]: value for flag, value in flags.items() if value is not None}
    try:
        settings = config.load(file, given)
        logs.setup(settings.log_level, settings.log_json)
        app.prepare(settings)
        if settings.workers == 1:
            run_service(lambda: app.serve(settings))
        else:
            sys.exit(workers.run(settings.workers, lambda worker: _run_worker(settings, worker)))
    except (SettingsError, TlsError, KeyFileError, KeyListError, app.StartError) as error:
        click.echo(f"warren-relay: {error}", err=True)
        sys.exit(BAD_SETTINGS)


def _run_worker(settings: config.Config, worker: Worker) -> int:
    try:
        run_service(lambda: app.serve(settings, worker))
    except (TlsError, KeyFileError, KeyListError, app.StartError) as error:
        click.echo(f"warren-relay: {error}", err=True)
        return BAD_SETTINGS
    return 0


if __name__ == "__main__":
    main()
