"""Pushes permission changes to the apps that subscribe: signed webhooks and server-sent events."""
