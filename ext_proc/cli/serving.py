"""``serve``, ``check-config``, ``doctor``, ``render``, ``reload``, ``console``: what whoever runs a gateway types."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add, with_config, with_gateway

if TYPE_CHECKING:
    import argparse

_SERVE = """Envoy and OPA are yours to start: Envoy with --config-path RUN_DIR/envoy/bootstrap.yaml (docs/operating.md).
SIGTERM: exchanges in flight end, logs are closed, evidence is shipped. SIGHUP: as `affidavit reload`. The
log is JSON lines on standard error; /live, /ready and /metrics are at the configuration's `metrics`."""


_CHECK = """Starts nothing and changes nothing. Prints the file's SHA-256, with which every log begins. Exit status 2 if
it is not valid, naming each field. The files that it names (keys, bundle, rule packs, certificates, credentials) are
not looked at: `affidavit serve` loads keys, bundle and packs before it starts anything, `affidavit rules test FILE`
tries a pack."""


_DOCTOR = """Envoy's settings as it runs with them (its admin's /config_dump), the policy that decides, the bucket's
lock, the newest canary, clocks, issuers, the disk, certificates. Changes nothing. A line for each check, ok, warn or
fail, with what to do. Exit status 0: nothing fails, 1: something does, 2: the configuration cannot be read."""


_RENDER = """`affidavit serve` does this itself when it starts. Prints the path of the bootstrap. With
policy.distribution OPA's configuration is written too: OPA may start before the gate."""


_RELOAD = """Asks the running `affidavit serve` and waits for what it says. Only the list of connections is taken over:
if anything else in the file differs, nothing is. Each log records the change. Exit status 1 if it was not
taken over."""


_CONSOLE = """Pages and an API for the people who approve, audit and operate. Runs beside `affidavit serve`, with its
configuration; calls go on without it, only nobody can approve any. Listens at `console.listen`; TLS is ended before it.

  console:
    public_url: https://desk.example.com
    client_id: affidavit-console   # at your issuer, with the redirect URI
                                   # https://desk.example.com/login/callback
    roles: {approver: [approvers], auditor: [auditors], operator: [platform]}

  affidavit check-config --config config.yaml
  affidavit console --config config.yaml    # and open https://desk.example.com

The log is JSON lines on standard error; /health says that it answers (docs/console.md, docs/operating.md). It ends with
SIGTERM or SIGINT, and when its log of evidence fails: let it be started again. People sign in again after a restart.

Exit status: 0 stopped, 1 its log failed, 2 could not start (it says which field, file or address)."""


def add_serving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    serve = add(
        commands, "serve", "run the gate: render Envoy's files, start workers and shipper, keep them running", _SERVE
    )
    with_config(serve)
    serve.set_defaults(run=_serve)
    check = add(commands, "check-config", "read the configuration and say what is wrong with it", _CHECK)
    with_gateway(check)
    check.set_defaults(run=_check_config)
    doctor = add(commands, "doctor", "examine the running installation, and say what to do", _DOCTOR)
    with_gateway(doctor)
    doctor.add_argument("--policy", type=Path, metavar="FILE", help="auditors' file: is the signing key theirs?")
    doctor.add_argument("--json", action="store_true", help="for machines")
    doctor.set_defaults(run=_doctor)
    render = add(commands, "render", "write Envoy's files without starting anything", _RENDER)
    with_gateway(render)
    render.set_defaults(run=_render)
    reload_ = add(commands, "reload", "take over changed connections, without a restart", _RELOAD)
    with_gateway(reload_)
    reload_.set_defaults(run=_reload)
    console = add(commands, "console", "serve the pages and the API for people who approve, audit, operate", _CONSOLE)
    with_config(console)
    console.set_defaults(run=_console)


def _serve(options: argparse.Namespace) -> int:
    from ext_proc.app.serving import supervisor

    return supervisor.run(options.config)


def _check_config(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, edge_files
    from ext_proc.app.approval import two_names
    from ext_proc.config import files_missing, read

    path = commands.path_of(options.config, options.endpoints)
    config, digest = read(path)
    edge_files.check(config)
    for warning in (*files_missing(config), *two_names.warnings(config)):
        print(f"affidavit: warning: {warning}", file=sys.stderr)
    names = ", ".join(connection.name for connection in config.connections)
    print(f"{path}: valid (SHA-256 {digest}); connections: {names}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ext_proc.app.commands import path_of
    from ext_proc.app.doctor import run as doctor

    return doctor.run(path_of(options.config, options.endpoints), options.policy, as_json=options.json)


def _render(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, edge_files

    config, _ = commands.config_of(options.config, options.endpoints)
    if config.policy.distribution is not None:
        from ext_proc.app.serving.distribution import write_opa_config

        write_opa_config(config, config.policy.distribution)
    print(edge_files.write(config).bootstrap)
    return 0


def _reload(options: argparse.Namespace) -> int:
    from ext_proc.app import commands

    return commands.reload(commands.path_of(options.config, options.endpoints))


def _console(options: argparse.Namespace) -> int:
    from ext_proc.app.console import run as console

    return console.run(options.config)
