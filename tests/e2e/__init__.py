"""Tests of the whole system; a package, so that its fixtures end with it."""
