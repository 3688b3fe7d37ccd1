"""What one file is: a picture that decodes completely, or the reason why it is kept out.

limits, verdict        what a usable picture is; what a file was found to be
verify, jpeg, png      one file → its digest and format, or why it is quarantined
convert, orientation   what training cannot read, as PNG without loss; which way up a picture is
thumb, small, glimpse  what near-duplicates are told by; for people; what can be seen of a file that is kept out
pool, worker           many files at once, each in a process that can be ended
rules                  the digest of all that decides
"""
