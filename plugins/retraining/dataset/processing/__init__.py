"""The verification of a large source, spread over a SageMaker Processing job.

divide     what is new of the source, written down for the job: names and stamps, a manifest, the code
code       the part of this package that the containers run
part       the program in a container: its share of the files → verdicts, and converted pictures
verdicts   how verdicts lie in files, and what they must be to be believed
found      all that the job found, as if the sync had known it before

A sync then goes on as it does without a job: what the job told of is remembered, anything else is read.
"""
