"""The generator behind ``netns-update``: types and instances in, unit files out."""
