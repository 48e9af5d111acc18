"""How an environment variable becomes a typed value."""
