"""The only code that reads from or writes to the kernel's network state."""
