"""Heads and neurons of one model held against those of another: which is which, and is that more than chance?"""
