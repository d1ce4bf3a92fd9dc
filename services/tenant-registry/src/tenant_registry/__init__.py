"""Projects consent events into documents grouped by tenant, and serves them."""
