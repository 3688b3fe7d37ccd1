"""What the names of a source mean: which folders are splits and classes, what is left out, and what is refused. Pure.

layout, class_folders                  all folders together; which of them hold the class folders
folders, folder_names                  a source as folders; what people call splits, wrappers, masks
projects, twins                        what lies beside a project's data; masks that are called as their images
by_table, table, table_columns, records   where folders tell no classes: a table beside the images
boxes, importable, pixel_columns       what is told and not read: boxes; files that a command of ours makes pictures of
file_names, groups, name_search        classes, and what belongs together, in files' names; a pattern in bounded time
ignored, proposed                      which names are no image; the line for the recipe that a refusal proposes
"""
