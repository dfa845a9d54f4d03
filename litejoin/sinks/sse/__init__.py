"""Server-sent events: the live side (/subscribe) and the current state (/snapshot) of one listener.

events     how a result looks on the wire, and what its id says
params     what clients may ask for
client     one subscriber's bounded buffer
readers    long reads, on threads of their own
hub        reads the log once and fans it out
subscribe  GET /subscribe
snapshot   GET /snapshot
"""
