"""SageMaker Debugger's training side: the hook, what it saves, and the rules that judge it."""
