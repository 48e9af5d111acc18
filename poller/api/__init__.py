"""The HTTP API of the running daemon.

It is imported only when the API is enabled. A request passes through `server`, which limits
connections, the middlewares of `problems` and `auth`, and a handler in `routes`.
"""
