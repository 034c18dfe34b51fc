"""Holding off new connections to a listening socket that is about to be closed.

Between a worker's last look into the queue and its close of the socket, the kernel still completes
handshakes, and the close resets them: the client was connected and is not told why it is no more. A
socket filter that drops SYNs ends that. Whoever has connected before is in the queue and is accepted from
it; whoever comes now gets no answer to the SYN, sends it again after a second, and meets a closed port, or
the successor.

The filter belongs to the socket, not to the process: it works for all that share it, and must not be put on
one that goes on being used.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from typing import Final

#: SO_ATTACH_FILTER of Linux; the socket module does not name it.
ATTACH_FILTER: Final = 26

#: Classic BPF over the TCP header, (code, jump if true, jump if false, operand) each: drop the SYNs.
DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # keep nothing of it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
)


def hold_off(sock: socket.socket) -> bool:
    """Let nobody connect to the listening TCP socket `sock` from now on; whether that could be done."""
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    code = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in DROP_SYN))
    address, _ = code.buffer_info()
    try:
        sock.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("@HP", len(DROP_SYN), address))
    except OSError:
        return False  # a sandbox may forbid it
    return True
