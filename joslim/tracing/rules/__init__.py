"""Rules: how each operation passes channels on."""
