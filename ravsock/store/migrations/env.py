"""Runs the migrations on the connection that `ravsock.store.database` hands over."""

from alembic import context

from ravsock.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
