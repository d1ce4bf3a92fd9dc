"""What browsers and apps call: the console's pages and the JSON API."""
