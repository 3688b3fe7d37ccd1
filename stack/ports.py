"""Is a port free, and if not, who has it."""

import socket

import psutil

from stack.errors import StackError


def is_free(port: int) -> bool:
    """Whether a server could listen on the port at 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        # Some systems let a loopback listener squeeze in beside one on all addresses; nobody would reach the right one.
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listener(port: int) -> str | None:
    """The process that listens on the port, as far as this user may see it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr[1:] == (port,):
                process = psutil.Process(connection.pid)
                return f"process {connection.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    except (psutil.Error, OSError):
        pass
    return None


def require_free(program: str, ports: list[int], variable: str) -> None:
    """Refuses a taken port, naming the port, its holder and the variable that moves ours."""
    for port in ports:
        if is_free(port):
            continue
        holder = listener(port) or "another program (`ss -ltnp` or `lsof -i` as its user tells which)"
        where = f"{variable}" if port == ports[0] else f"{variable} moves it along"
        raise StackError(
            f"{program} needs port {port}, but {holder} listens there already. "
            f"Stop that program, or choose another port with {where}, for example: make up {variable}={ports[0] + 100}"
        )
