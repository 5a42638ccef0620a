"""The host's other services: systemd, Docker."""
