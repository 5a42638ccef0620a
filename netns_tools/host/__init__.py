"""The host's other services: systemd."""
