"""The volunteer: a daemon that computes subgraphs for a coordinator, each in a child process without
credentials.
"""
