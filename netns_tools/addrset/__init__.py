"""The address-set watcher: its configuration, what it wants, what is to change, and the daemon."""
