"""Recipes that mergekit and soban both have, with places for the folders of three models."""

START, ONE, TWO = "{start}", "{one}", "{two}"


def both(method: str, first: str = "", second: str = "", more: str = "", base: bool = True) -> str:
    """A recipe for two models and, if wanted, their base."""
    lines = [f"merge_method: {method}", "models:"]
    for model, parameters in ((ONE, first), (TWO, second)):
        lines += [f"  - model: {model}", *([f"    parameters: {{{{{parameters}}}}}"] if parameters else [])]
    return "\n".join([*lines, *([f"base_model: {START}"] if base else []), "dtype: float32", more])


RECIPES: dict[str, str] = {
    "linear": both("linear", "weight: 0.7", "weight: 0.2", base=False),
    "linear, not normalised": both(
        "linear", "weight: [0.1, 0.9]", "weight: 0.5", "parameters: {{normalize: false}}", base=False
    ),
    "slerp": both(
        "slerp",
        more="parameters: {{t: [{{filter: mlp, value: [0.2, 0.8]}}, {{filter: self_attn, value: 1}}, {{value: 0.4}}]}}",
    ).replace(START, ONE),
    "nuslerp": both("nuslerp", "weight: 0.4", "weight: 0.8", base=False),
    "nuslerp of differences": both("nuslerp", "weight: 1", "weight: 3"),
    "task_arithmetic": both("task_arithmetic", "weight: 0.7", "weight: [-0.2, 0.6]", "parameters: {{lambda: 0.8}}"),
    "task_arithmetic, normalised": both(
        "task_arithmetic", "weight: 0.7", "weight: 0.6", "parameters: {{normalize: true}}"
    ),
    "ties": both("ties", "weight: 0.7, density: 0.5", "weight: 1.2, density: [0.3, 0.9]"),
    "dare_ties": both("dare_ties", "weight: 0.7", "weight: 0.4"),
    "dare_linear": both("dare_linear", "weight: 0.7", "weight: 0.4"),
    "della": both("della", "weight: 0.7", "weight: 0.4"),
    "breadcrumbs": both("breadcrumbs", "weight: 0.7, density: 0.6, gamma: 0.2", "weight: 1, density: 0.7, gamma: 0.2"),
    "breadcrumbs, rescaled": both(
        "breadcrumbs", "weight: 0.7, density: 0.6, gamma: 0.2", "weight: 1, density: 0.7, gamma: 0.2",
        "parameters: {{rescale: true}}",
    ),
    "breadcrumbs_ties": both(
        "breadcrumbs_ties", "weight: 0.7, density: 0.6, gamma: 0.2", "weight: 1, density: 0.7, gamma: 0.2"
    ),
    "model_stock": both("model_stock"),
    "passthrough": """
merge_method: passthrough
slices:
  - sources: [{{model: {one}, layer_range: [0, 2]}}]
  - sources:
      - model: {two}
        layer_range: [1, 2]
        parameters: {{scale: [{{filter: o_proj, value: 0.5}}, {{value: 1.0}}]}}
dtype: float32
""",
    "slices": """
merge_method: linear
slices:
  - sources:
      - {{model: {one}, layer_range: [0, 1], parameters: {{weight: 0.3}}}}
      - {{model: {two}, layer_range: [1, 2], parameters: {{weight: 0.7}}}}
  - sources:
      - {{model: {one}, layer_range: [1, 2], parameters: {{weight: 0.9}}}}
      - {{model: {two}, layer_range: [0, 1], parameters: {{weight: 0.1}}}}
dtype: float32
""",
}  # fmt: skip
