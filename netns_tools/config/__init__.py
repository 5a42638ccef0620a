"""What an administrator wrote: layered files in two syntaxes, checked as a whole."""
