"""What Airflow shows of a run: a page made from the documents that the run's own tasks left, never from images.

mount                 what Airflow is told: where the page lies, under which tabs it appears
app, access           the routes; who may ask them
rendering, archive    documents to HTML; the same as one file in S3
airflow_runs          what Airflow knows of runs and tasks
documents, live       what a run left in S3; and, while it goes on, in XCom
panels/               one module and one template for each panel of the report
weeks, chart          the page over all runs of a DAG
models                the page over all recipes
kept                  what was read once, for a while
matrix                a confusion matrix, in the order of what is confused
figures               numbers as people read them
"""
