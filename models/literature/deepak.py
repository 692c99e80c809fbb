"""Deepak and Ameer [36]: GoogLeNet end to end, and its features under a classical classifier."""

from __future__ import annotations

from models.literature.system import Figure, Publication, System


def _publication(accuracy: float, what: str) -> Publication:
    return Publication(
        reference="[36]",
        citation="S. Deepak, P. M. Ameer: Brain tumor classification using deep CNN features via transfer learning. "
        "Computers in Biology and Medicine 111, 103345, 2019",
        figures=(Figure("figshare", accuracy, f"five folds by patient, {what}"),),
        known=f"GoogLeNet with ImageNet weights; {what}",
        chosen="optimizer and schedule: the protocol's; kernel (linear), C and k, chosen on validation",
        sureness="the published network",
        table=2,
        row="GoogLeNet transfer [36]",
        doubts=("[36] gives 92.3 end to end, 97.8 with an SVM and 98.0 with k-NN; the printed 97.10 is none of them.",),
    )


SYSTEMS = (
    System("deepak-googlenet", "GoogLeNet, end to end", _publication(92.3, "end to end"), "googlenet", "published"),
    System(
        "deepak-svm",
        "GoogLeNet's features under an SVM",
        _publication(97.8, "its features under an SVM"),
        "googlenet",
        recipe="features",
        options={"classifier": "svm"},
    ),
    System(
        "deepak-knn",
        "GoogLeNet's features under k-NN",
        _publication(98.0, "its features under k-NN"),
        "googlenet",
        recipe="features",
        options={"classifier": "knn"},
    ),
)
