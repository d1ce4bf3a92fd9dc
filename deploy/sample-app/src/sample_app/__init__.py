"""A stand-in for an app of the suite: it subscribes itself, verifies what it is pushed, and shows it live."""
