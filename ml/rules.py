"""The debugger rules this engine knows, by SageMaker's names."""

from rules_activations import DeadRelu, SaturatedActivation
from rules_data import CheckInputImages, ClassImbalance, Confusion
from rules_gradients import VanishingGradient
from rules_loss import LossNotDecreasing, Overfit, Overtraining
from rules_runs import SimilarAcrossRuns, StalledTrainingRule
from rules_values import AllZero, ExplodingTensor, TensorVariance, UnchangedTensor
from rules_weights import PoorWeightInitialization, WeightUpdateRatio

RULES = {
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
