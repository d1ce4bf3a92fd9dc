"""Measurements of the hot paths, each beside a floor taken in the same run: machines differ, ratios less so."""
