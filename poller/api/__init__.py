"""The door: what people and programs may ask of a running daemon over HTTP.

Only a daemon that has a door imports this package. The way of a request: a connection that
`serving` lets in, `problems`, which turns whatever is raised into an answer, `guard`, which says
who may ask, and a handler of `routes`.
"""
