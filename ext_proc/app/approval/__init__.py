"""Holds and people, joined: what calls wait for, who may answer, and the ways to hear of it and to answer."""
