"""What is asked of SageMaker: plan in, the request of one API call out.

sagemaker   training, tuning, transform, model, package, endpoint: the shapes of the API
debugger    what Debugger, its rules and the profiler add to a training's request
"""
