"""Linux network namespaces as systemd units."""

__version__ = "0.1.0"
