"""Who may talk to a Prefect server of ours: this machine only, or whoever knows the auth string."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from prefect.settings import PREFECT_API_AUTH_STRING, get_current_settings
from prefect.settings.legacy import Setting

from pipeline.errors import UsageError

SERVER_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT_VARIABLE = "PREFECT_API_AUTH_STRING"
_MAKE_ONE = f'export {SERVER_VARIABLE}="admin:$(openssl rand -hex 24)"'


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what listens on ``host``, a name or an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_listen(host: str) -> None:
    """Refuse an address that others can reach while the server would let everybody in.

    Raises:
        UsageError: ``host`` is not the loopback and no auth string is set, or an auth string is set that
            cannot work.
    """
    given = _server_auth_string()
    if given is not None and (not given.partition(":")[2] or given != given.strip()):
        raise UsageError(
            f"{SERVER_VARIABLE} must be 'user:password' without spaces around it, both not empty; "
            f"make one: {_MAKE_ONE}"
        )
    if given is None and not is_loopback(host):
        raise UsageError(
            f"refusing to listen on {host}: without an auth string everyone who reaches this machine could "
            f"start and change runs. Set one ({_MAKE_ONE}; clients then need the same value in "
            f"{CLIENT_VARIABLE}), or listen on 127.0.0.1"
        )


def client_settings() -> dict[Setting, str]:
    """Return the settings by which clients are let in by a server that this process starts."""
    given = _server_auth_string()
    return {} if given is None else {PREFECT_API_AUTH_STRING: given}


def client_environment() -> dict[str, str]:
    """Return ``client_settings`` as environment variables for other processes."""
    return {setting.name: value for setting, value in client_settings().items()}


def shown(url: str) -> str:
    """Return a URL for messages and pages: without the user name and password that it may hold."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _server_auth_string() -> str | None:
    secret = get_current_settings().server.api.auth_string
    return None if secret is None else secret.get_secret_value()
