"""Proves and records admin consent in Microsoft Entra ID; serves the console and the consent API."""
