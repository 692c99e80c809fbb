"""The checklists' items in our own short words; a topic names what a run may know of an item (`facts.py`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One item.

    Attributes:
        number: as the checklist counts it.
        text: what it asks for.
        topics: what a run may know of it; none where a run cannot.
    """

    number: str
    text: str
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checklist:
    """A published checklist."""

    title: str
    source: str
    items: tuple[Item, ...]


def _items(table: str) -> tuple[Item, ...]:
    """Items from lines "number | text | topics"."""
    rows = [[part.strip() for part in line.split("|")] for line in table.strip().splitlines()]
    return tuple(Item(number, text, tuple(topics.split())) for number, text, topics in rows)


CLAIM = Checklist(
    "CLAIM",
    "Mongan, Moy and Kahn 2020, Radiology: Artificial Intelligence 2(2) e200029",
    _items("""
1 | Title or abstract: a study of AI, and of which kind | models
2 | Abstract: design, methods, results, conclusions |
3 | Background, with the intended clinical role |
4 | Objectives and hypotheses |
5 | Prospective or retrospective | retrospective
6 | Goal: development, exploration, feasibility, comparison | comparison
7 | Data sources | data
8 | Eligibility of patients and images |
9 | Preparation of the data | preparation
10 | Selection of subsets of the data | subsets
11 | Definitions of the data's elements | classes
12 | De-identification |
13 | Handling of missing data | missing
14 | Definition of the reference standard |
15 | Reason for choosing it |
16 | Who annotated, and with which qualification |
17 | Tools of annotation |
18 | Variability within and between readers |
19 | Intended sample size, and how it was found |
20 | How data were assigned to partitions | partition
21 | Level at which partitions are disjoint | disjoint
22 | The model: inputs, outputs, layers | models
23 | Software and versions | software
24 | How parameters start | initialization
25 | Training: augmentation, hyperparameters, number of models | training
26 | How the final model is chosen | selection
27 | Ensembles |
28 | Metrics | metrics
29 | Measures of significance and uncertainty | uncertainty
30 | Robustness and sensitivity | robustness
31 | Methods for explainability | explanations
32 | Validation on external data | external
33 | Flow of participants and images | size
34 | Demographic and clinical characteristics by partition |
35 | Performance on all partitions | performance
36 | Accuracy with its precision | performance uncertainty
37 | Analysis of wrong answers | failures
38 | Limitations, biases, generalizability | cautions
39 | Implications for practice |
40 | Registration |
41 | Access to the protocol | protocol
42 | Funding and the funders' role |
"""),
)
TRIPOD_AI = Checklist(
    "TRIPOD+AI",
    "Collins et al. 2024, BMJ 385 e078378",
    _items("""
1 | Title: development or evaluation, population, outcome |
2 | Abstract, after TRIPOD+AI for abstracts |
3a | Context and reason; existing models |
3b | Target population and intended purpose |
3c | Known health inequalities |
4 | Objectives: development, evaluation or both | comparison
5a | Sources of the data, separately for development and evaluation | data external
5b | Dates of the data |
6a | Setting: centres and places | sites
6b | Eligibility of participants |
6c | Treatments received |
7 | Preparation of the data, alike across groups | preparation
8a | The outcome and how it is assessed | classes
8b | Qualification of who assesses a subjective outcome |
8c | Blinding of the assessment |
9a | Choice of predictors | preparation
9b | Definition of all predictors | preparation
9c | Qualification of who assesses subjective predictors |
10 | How the sample size was found | size
11 | Handling of missing data | missing
12a | Use of the data: parts for development and evaluation | partition disjoint
12b | Handling of predictors in the analysis | preparation
12c | Type of model, steps of building, internal validation | models training selection
12d | Heterogeneity between clusters | sites subgroups
12e | Measures and plots of performance | metrics uncertainty
12f | Updating of the model, recalibration | calibration
12g | How predictions are computed | models software
13 | Methods against class imbalance | imbalance
14 | Approaches to fairness | subgroups
15 | Output of the model, and its thresholds | thresholds
16 | Differences between development and evaluation data | external
17 | Ethical approval |
18a | Funding |
18b | Conflicts of interest |
18c | Protocol | protocol
18d | Registration |
18e | Availability of the data | data
18f | Availability of the code | software
19 | Involvement of patients and the public |
20a | Flow of participants | size
20b | Characteristics of participants |
20c | Comparison of development and evaluation data | external
21 | Participants and events in each analysis | size
22 | The full model, so that others can predict | models
23a | Performance with intervals, in key subgroups too | performance subgroups
23b | Heterogeneity of performance between clusters | sites subgroups
24 | Results of updating | calibration
25 | Interpretation, with fairness |
26 | Limitations | cautions
27a | Handling of poor or missing input in use | ood
27b | Interaction with users |
27c | Next steps |
"""),
)
CLEAR_DERM = Checklist(
    "CLEAR Derm",
    "Daneshjou et al. 2022, JAMA Dermatology 158(1) 90-96",
    _items("""
1 | Types of images | data
2 | Artifacts in images | robustness
3 | Acquisition: devices, conditions |
4 | Pre-processing | preparation
5 | Synthetic images, if any | synthetic
6 | References of public images | data
7 | Metadata of patients | subgroups
8 | Skin tones, and how they were determined |
9 | Biases that may follow from patients' information | subgroups
10 | Partition of the data | partition disjoint
11 | Sizes of training, validation and test sets | size
12 | External test set | external
13 | Images of several vendors | sites
14 | Distribution and balance of classes | imbalance
15 | Images out of the distribution | ood
16 | Labels: how they were made, and by whom |
17 | References for the diagnostic labels |
18 | Histopathology of malignant lesions |
19 | Development of the algorithm | models training selection
20 | How the algorithm can be evaluated by others | evaluate
21 | Measures of performance | metrics performance
22 | Benchmarking and technical comparison | comparison
23 | Assessment of bias | subgroups
24 | Use cases and target conditions |
25 | Effects on the health care team and patients |
"""),
)
MODEL_CARD = Checklist(
    "Model card",
    "Mitchell et al. 2019, FAT*, 220-229",
    _items("""
1 | Model details: who, when, version, kind, training, licence | models software initialization training
2 | Intended use, and uses out of scope |
3 | Factors: groups, instruments, environments | subgroups sites
4 | Metrics: measures, thresholds, variation | metrics thresholds uncertainty
5 | Evaluation data | data partition size
6 | Training data | data preparation size
7 | Quantitative analyses, by factor and together | performance subgroups
8 | Ethical considerations |
9 | Caveats and recommendations | cautions calibration ood external
"""),
)
CHECKLISTS = {"claim": CLAIM, "tripod-ai": TRIPOD_AI, "clear-derm": CLEAR_DERM, "model-card": MODEL_CARD}
