"""Count what the paper's spec files ask for, each thing once: python benchmarks/count_tasks.py. Trains nothing."""

from pathlib import Path

from oodkit.bench.plan import make_plan
from oodkit.bench.spec import read_specs


def main() -> None:
    models, fits, trained, cells = set(), set(), set(), set()
    for file in sorted((Path(__file__).parent / "paper").glob("[ft]*.toml")):  # figures and tables of the paper
        for spec in read_specs(file):
            plan = make_plan(spec)
            for seed in spec.seeds:
                of = (
                    spec.id,
                    plan.model.spec.name,
                    repr(plan.model_options),
                    seed if spec.model_seed is None else spec.model_seed,
                )
                for detector in plan.detectors:
                    fit = (of if detector.needs_model else spec.id), detector.name, repr(detector.options), seed
                    models |= {of} if detector.needs_model else set()
                    trained |= {fit} if detector.name.startswith(("lratio", "rnd")) else set()
                    fits.add(fit)
                    cells |= {(fit, ood, spec.limit) for ood in (*plan.ood, plan.ood)}  # the last: the mix
    print(f"{len(models)} models, {len(fits)} fits of which {len(trained)} train a network, {len(cells)} cells")


if __name__ == "__main__":
    main()
