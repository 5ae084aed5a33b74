"""How requester, coordinator and provider talk: typed messages, tensors and names of blobs.

Pure: bytes in, values out. The sockets are in `ravop.transport`, `ravop.client`, `ravsock.server` and `provider`.
"""
