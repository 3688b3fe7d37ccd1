"""Where images come from, as local files with their class: a folder, s3://, an archive, an https address, the digits.

source                             one list of files, whatever the source is
tree, bucket, fetch, digits        a folder of this machine; objects of S3; what is downloaded; the bundled set
archive, archived                  zips and tars; objects that S3 has moved to cold storage
tables                             the tables among a source's files
memory                             what the last sync of a source found
"""
