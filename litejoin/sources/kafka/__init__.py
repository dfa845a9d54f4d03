"""The kafka source: messages of Kafka topics become rows, each exactly once in its shard.

offsets    how far each shard has got in each partition, stored beside the rows
positions  where partitions start, and which shards are ahead
marks      whether a topic is still the same one
topics     which topics are read, and where they go
meta       origin and headers of a message, in its value
lag        how far behind we are
bad        messages that cannot be rows
consumer   the thread that fetches, packs and commits
source     the source as the runtime sees it
"""
