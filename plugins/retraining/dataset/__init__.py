"""Image data from anywhere to a verified, split, content-addressed version in S3.

sync, check     all of it together: uploading only what S3 lacks; or only saying what it would
sources/        where images come from
layouts/        which folders are splits and classes, what they are called, what is left out and said
pictures/       one file → its digest and format, or why it is quarantined
near/           near-duplicates
versions/       which image belongs to which version, and how that lies in S3
labels/         labels in doubt, what people decide about them, and what a sync makes of it
processing/     the verification of a large source, by a job
public/         data sets of hubs, as class folders
names, stamp, split, source_error   a name, a file's stamp, an image's split: what the wings share
summary, contact_sheet              what was understood, for the log and the report; as a page
terminal, garbage                   the commands; what no champion, registered model or recent week can reach

Wings import wings below them alone: processing and public stand on versions and sources, versions on labels, near and
sources, these on layouts and pictures. A name below all of them, such as `archive_names`, stands beside this folder.
"""
