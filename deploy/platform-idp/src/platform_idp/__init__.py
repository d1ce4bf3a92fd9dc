"""The suite's small OpenID Connect issuer: a stand-in for demo, compose and tests."""
