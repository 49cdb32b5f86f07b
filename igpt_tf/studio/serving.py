"""Where the studio listens, and until when."""

from __future__ import annotations

import errno
import ipaddress
import logging
import secrets
import socket
from dataclasses import dataclass
from types import FrameType

import uvicorn

from igpt_tf.errors import UserError
from igpt_tf.studio.server import Studio, make_app

HTTP_PORT = 80
# All addresses of this machine, and an address of others, which nobody has, by which to find the one that they reach.
EVERYWHERE = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}


@dataclass(frozen=True)
class Place:
    """Where the studio listens.

    Attributes:
        sockets: open ones, of one port.
        address: what to type into a browser.
        hosts: values of `Host` that are answered; None: any.
        token: part of the address, where other machines may reach it; None: none.
    """

    sockets: list[socket.socket]
    address: str
    hosts: frozenset[str] | None
    token: str | None


def open_place(host: str, port: int) -> Place:
    """Begin to listen.

    Args:
        host: name or number of one of this machine's addresses.
        port: of it; 0: any that is free.

    Raises:
        UserError: if there is no such address, or the port is taken.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(place[:2], family=family)
    except OSError as error:
        reason = error.strerror or error
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise UserError(f"expected `host` as an address of this machine, got {host!r} ({reason})", "host") from None
        taken = f"expected a free `port`, got {port} ({reason}): give another, or 0 for any"
        raise UserError(taken, "port") from None
    except (UnicodeError, OverflowError) as error:
        raise UserError(f"expected `host` and `port` of this machine, got {host}:{port} ({error})") from None
    port = listening.getsockname()[1]
    shown = _reached_at(family, host) if host in EVERYWHERE else host
    shown = f"[{shown}]" if ":" in shown else shown
    if is_loopback(host):
        names = {shown.lower(), "127.0.0.1", "localhost", "[::1]"}
        # Browsers leave the usual port out.
        hosts = {f"{name}:{port}" for name in names} | (names if port == HTTP_PORT else set())
        return Place([listening], f"http://{shown}:{port}/", frozenset(hosts), None)
    token = secrets.token_urlsafe(16)
    return Place([listening], f"http://{shown}:{port}/?token={token}", None, token)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an address.

    Args:
        host: its name or number.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reached_at(family: int, host: str) -> str:
    """The address at which others reach a server of all addresses; this machine's own where there is no network."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only chooses where it would be sent from.
            probe.connect((EVERYWHERE[host], HTTP_PORT))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1" if family == socket.AF_INET else "::1"


def serve(studio: Studio, place: Place) -> None:
    """Answer requests until Ctrl-C, which ends drawings, too.

    Args:
        studio: what is served.
        place: where.

    Raises:
        KeyboardInterrupt: at Ctrl-C.
    """
    config = uvicorn.Config(
        make_app(studio, place.hosts, place.token),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
    )
    studio.warm_up()
    _Server(config).run(place.sockets)


class _Server(uvicorn.Server):
    """A server that does not wait for drawings when it is to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called at Ctrl-C."""
        # Drawings that are broken off now are no errors.
        logging.getLogger("uvicorn.error").disabled = True
        self.force_exit = True
        super().handle_exit(sig, frame)
