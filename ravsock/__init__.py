"""The coordinator: persists graphs, plans them, hands their tasks to providers and keeps their results."""
