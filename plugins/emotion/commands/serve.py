"""``emotion serve``: answers over HTTP, for other programs, until it is stopped."""

from __future__ import annotations

import argparse
import logging
import socket
import sys

from emotion.commands.arguments import add_command, add_model_option
from emotion.commands.console import printable
from emotion.errors import ConfigurationError, describe_failure
from emotion.settings import Settings
from emotion.vocabulary import FAMILIES
from emotion.workers import usable_cores

PORT = 8000
LOCAL = ("127.0.0.1", "::1", "localhost")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "serve",
        run_serve,
        "Answer over HTTP, for other programs: POST a recording to /predict, or send live audio over a WebSocket.",
        epilog="There is no login and no encryption: put a reverse proxy with both in front of it before other "
        "machines may reach it. docs/serving.md describes addresses, answers and limits. "
        "Ctrl-C or SIGTERM stops it once the requests under way are answered.",
    )
    add_model_option(
        parser, "VERSION or VERSION/FAMILY as `emotion models` lists them; a new champion is then not loaded"
    )
    parser.add_argument(
        "--host", default=LOCAL[0], help=f"address to listen on (default: {LOCAL[0]}: this machine only)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that requests may be for, such as emotion.example.com of a reverse proxy on this machine; "
        "may be given several times",
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port to listen on (default: {PORT})")
    parser.add_argument(
        "--processes",
        type=int,
        default=usable_cores(),
        metavar="N",
        help="processes that answer (default: one per processor); each takes some 400 MB, and one more runs while the "
        "champion changes",
    )


def run_serve(options: argparse.Namespace, settings: Settings) -> int:
    """Serve until a signal comes."""
    if not 0 <= options.port <= 65535 or options.processes < 1:
        options.usage_error("expected --port 0 to 65535, and at least one of --processes")
    from emotion import metrics
    from emotion.serving import application
    from emotion.serving.connections import LOOPBACK
    from emotion.serving.limits import Limits
    from emotion.serving.processes import Answerers

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    _report_missing(options.model, settings.home)
    limits, emitter = Limits(), metrics.statsd_emitter(settings.statsd)
    is_local = options.host in LOCAL
    with _listen(options.host, options.port) as listener:
        answerers = Answerers(settings.home, options.model, processes=options.processes, limits=limits, emitter=emitter)
        hosts = (*LOOPBACK, *options.allow_host) if is_local else None
        server = application.server(answerers, limits=limits, emitter=emitter, hosts=hosts)
        if not is_local:
            print(
                f"emotion: --host {options.host}: whoever reaches this address may use the service; there is no login",
                file=sys.stderr,
            )
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
        server.run(sockets=[listener])
    return 0


def _report_missing(name: str, home: str) -> None:
    """Say so if a version is not there yet: the service waits for it. Raises ConfigurationError if it never can be."""
    from emotion.inference import CHAMPION
    from emotion.models import registry
    from emotion.store import Store

    if name == CHAMPION:
        return
    version, _, family = name.partition("/")
    is_path = version in ("", ".", "..") or "\\" in version or version.endswith(".pkl") or not version.isprintable()
    if is_path or family not in ("", *FAMILIES, "ensemble"):
        raise ConfigurationError(
            f"{name!r} is no name of a model; expected {CHAMPION}, VERSION or VERSION/FAMILY with one of the families "
            f"{', '.join(FAMILIES)}, ensemble"
        )
    try:
        entry = registry.entry(Store(home), version)
    except Exception as error:  # also one of an object store's client
        reason = printable(describe_failure(error))
        print(f"emotion: --model {name} is not there yet: {reason}. The service waits for it", file=sys.stderr)
    else:  # a version never changes
        registry.require_file(entry, registry.bundle_name(family or entry["selected"]))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigurationError where that is not possible."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"{host} port {port} cannot be listened on: {error}; choose another with --host or --port"
        ) from None
