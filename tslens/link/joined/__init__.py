"""What was measured of several models, joined for one report."""
