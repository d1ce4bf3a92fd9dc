"""Grants, links and slots: the rules by which they change, and the one ledger that writes them."""
