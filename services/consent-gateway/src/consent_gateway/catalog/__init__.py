"""Permission sets, apps and functions: the file, its versions, and what a new one does to grants."""
