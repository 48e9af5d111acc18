"""The HTTP API of the running daemon.

Only `context` is imported while the API is off. A request passes `server`, which limits
connections, `middleware`, which turns errors into problem documents, `auth`, and `endpoint`, which
reads the request as models, calls the handler that `routes` has for it, and writes its result.
"""
