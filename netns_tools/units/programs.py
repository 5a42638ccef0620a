"""Where the programs are that units call. ``make install`` rewrites this file."""

from __future__ import annotations

BINDIR = "/usr/sbin"
LIBDIR = "/usr/lib"
IP = "/usr/sbin/ip"
