"""The debugger rules this engine knows, by SageMaker's names."""

from debugger.rules.activations import DeadRelu, SaturatedActivation
from debugger.rules.data import CheckInputImages, ClassImbalance, Confusion
from debugger.rules.gradients import VanishingGradient
from debugger.rules.loss import LossNotDecreasing, LossSpike, Overfit, Overtraining
from debugger.rules.rule import Rule
from debugger.rules.runs import SimilarAcrossRuns, StalledTrainingRule
from debugger.rules.values import AllZero, ExplodingTensor, TensorVariance, UnchangedTensor
from debugger.rules.weights import PoorWeightInitialization, WeightUpdateRatio

RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        LossNotDecreasing,
        VanishingGradient,
        ExplodingTensor,
        Overfit,
        Overtraining,
        PoorWeightInitialization,
        DeadRelu,
        SaturatedActivation,
        ClassImbalance,
        WeightUpdateRatio,
        AllZero,
        UnchangedTensor,
        TensorVariance,
        CheckInputImages,
        Confusion,
        SimilarAcrossRuns,
        StalledTrainingRule,
        LossSpike,
    )
}
NOT_FOR_CLASSIFIERS = ("NLPSequenceRatio", "TreeDepth", "FeatureImportanceOverweight", "CreateXgboostReport")

# What a name stands for on the command line when no rules are named: those that need no parameter and little besides.
USUAL = (
    "LossNotDecreasing",
    "VanishingGradient",
    "ExplodingTensor",
    "Overfit",
    "Overtraining",
    "PoorWeightInitialization",
    "DeadRelu",
    "WeightUpdateRatio",
)
