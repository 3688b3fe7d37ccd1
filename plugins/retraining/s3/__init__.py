"""Objects in S3 beyond what one boto3 call does: whole listings, and documents that several runs write."""
