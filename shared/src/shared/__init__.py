"""What the services share: event contracts, the topic registry and thin plumbing. No business rules."""
