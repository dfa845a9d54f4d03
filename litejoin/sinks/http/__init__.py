"""Webhooks: each result, or a batch of them, as one HTTP request.

request    what is sent: URL, headers, signature
answers    what a receiver's answer makes of a result
poster     one thread's connection
sink       the sinks: one result a request, and batches
"""
