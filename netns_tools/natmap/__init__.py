"""The NAT mapper: mappings as people write them, what is wanted, what is to change, and the daemon."""
