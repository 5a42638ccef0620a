"""What a start does: one plan for a type in a namespace, and how it is undone."""
