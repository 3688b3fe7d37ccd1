"""A program of its own: the way to a model server that has no network but its own loopback.

    python -I -S relay.py LISTENER PORT PROCESS

It runs inside the server's network namespace, with a listening socket (the descriptor LISTENER) that was opened
outside. Each connection to it is carried to PORT inside. It ends with the server (the pidfd PROCESS).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

_CHUNK_BYTES = 2**16


async def relay(listener: socket.socket, port: int, process: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(process, ended.set)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # nobody listens inside (yet)
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        for end in (inner_writer, writer):
            end.close()

    async with await asyncio.start_server(carry, sock=listener):
        await ended.wait()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end. A broken one breaks the other side too, so that nobody waits for its rest."""
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        with contextlib.suppress(OSError):
            writer.transport.abort()


def main(listener: str, port: str, process: str) -> None:
    # SIGTERM goes to the whole group: the server answers what it has begun to answer, and this has to carry it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(relay(socket.socket(fileno=int(listener)), int(port), int(process)))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
