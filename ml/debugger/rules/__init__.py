"""The built-in rules of SageMaker Debugger, each a judgement over a training's saved tensors."""
