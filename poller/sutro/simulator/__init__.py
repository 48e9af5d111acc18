"""A faithful fake of the Sutro API on loopback."""
