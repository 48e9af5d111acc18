"""The adapters to the Sutro API."""
