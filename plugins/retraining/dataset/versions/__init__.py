"""A version of a data set: what is in it, how it lies in S3, and what of it nothing needs any more.

version, changes      which images count, in which split (pure); what is other than in another version
store, places, kept   what a sync puts; whose bytes the images are; which versions lie in the bucket
shards, strips        its images once more: in tar files for trainings, as small pictures for people
kept_out              what is quarantined, to be looked at
likeness              near-duplicates, with what was found out before
"""
