"""Looking after the sandbox: what can be changed while it runs, as an API and as pages over the same operations."""
