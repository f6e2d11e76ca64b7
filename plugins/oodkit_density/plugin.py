"""What this package adds to oodkit: densities of a few numbers per image, readings of the likelihood, ensembles."""

from oodkit import DetectorSpec, hookimpl

__all__ = ["oodkit_detectors"]


@hookimpl
def oodkit_detectors() -> list[DetectorSpec]:
    """Return the detectors."""
    statistics = "oodkit_density.statistics:StatisticsDensity"
    return [
        DetectorSpec(
            name="statistics-density",
            target=statistics,
            options="oodkit_density.options:StatisticsOptions",
            summary="density of the model's statistics and of the image's lengths as files: one forward pass",
            model="density",
            source="oodkit; after Morningstar et al. 2021, arXiv:2006.09273",
        ),
        DetectorSpec(
            name="dose",
            target=statistics,
            options="oodkit_density.options:DoseOptions",
            summary="kernel density estimate of each of the model's statistics",
            model="density",
            source="Morningstar et al. 2021, arXiv:2006.09273",
        ),
        DetectorSpec(
            name="lpath",
            target=statistics,
            options="oodkit_density.options:LikelihoodPathOptions",
            summary="empirical tails of three norms: of the residual, of the mean and the deviation of q(z|x)",
            model="latent-variable",
            source="Huang et al. 2024, arXiv:2401.04933",
        ),
        DetectorSpec(
            name="complexity",
            target="oodkit_density.statistics:Complexity",
            options="oodkit_density.options:ComplexityOptions",
            summary="density of the lengths as compressed files: no model, what every detector is to beat",
            model="none",
            source="oodkit; after Serrà et al. 2020, arXiv:1909.11480",
        ),
        DetectorSpec(
            name="typicality",
            target="oodkit_density.likelihood:Typicality",
            options="oodkit_density.options:TypicalityOptions",
            summary="distance of −log p(x) from its mean over training images",
            model="density",
            source="Nalisnick et al. 2019, arXiv:1906.02994",
        ),
        DetectorSpec(
            name="waic",
            target="oodkit_density.likelihood:Waic",
            options="oodkit_density.options:WaicOptions",
            summary="variance less mean of log p(x) over an ensemble of models, which fit trains",
            model="density",
            source="Choi et al. 2018, arXiv:1810.01392",
        ),
        DetectorSpec(
            name="ensemble",
            target="oodkit_density.ensemble:Ensemble",
            options="oodkit_density.options:EnsembleOptions",
            summary="any detectors, joined by their p-values",
            source="Fisher 1932; Liu & Xie 2020, arXiv:1808.09011",
        ),
    ]
