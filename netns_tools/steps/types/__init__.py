"""One module a type, found by its name: the type's plan, as ``plan(config, paths)``."""
