"""Image data from anywhere to a verified, split, content-addressed version in S3.

sources, archive, digits   where images come from: a folder, s3://, an archive, an https address, the bundled digits
limits, ignored            what a usable picture is; which names are no image and no class
verify, jpeg, png          one file → its digest and format, or why it is quarantined
orientation, thumb         which way up a picture is; what near-duplicates are told by
tree, layout, names        which folders are splits and classes, what they are called, what is left out and said
by_table, file_names       where folders tell no classes: a table beside the images (table, table_columns), their names
name_search                a recipe's pattern in the names of files, in bounded time
groups, split, version     which image belongs to which split; the manifests and dataset.json (pure)
shards                     a version's images once more in tar files, for trainings that ask for few large ones
kept_out, glimpse          small pictures of what is quarantined, for the page of a run
summary                    what was understood, for the log and the report
sync                       all of it together, uploading only what S3 lacks
processing/                the verification of a large source, by a job
"""
