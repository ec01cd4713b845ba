"""Small models of the package `compressai` with random weights, and what they compute: for test_import.py.

compressai pins NumPy 1 and comes with torchvision and torch-geometric, so it gets an environment of its own
(`make bench` makes it): .venv-bench/bin/python tests/train/compressai_models/make.py
"""

from pathlib import Path

import compressai
import safetensors.torch
import torch
from compressai.models import JointAutoregressiveHierarchicalPriors, MeanScaleHyperprior, ScaleHyperprior

N, M = 8, 12
MODELS = {
    "bmshj2018-hyperprior": ScaleHyperprior,
    "mbt2018-mean": MeanScaleHyperprior,
    "mbt2018": JointAutoregressiveHierarchicalPriors,
}


def randomised(model):
    """Weights unlike those at the start of training, and exact in float16."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("beta", "gamma")):
                value.add_(0.1 * torch.rand_like(value))
            elif "entropy_bottleneck" in name:
                value.add_(0.3 * torch.randn_like(value))
            else:
                value.mul_(2).add_(0.02 * torch.randn_like(value))
            value.copy_(value.half().float())
    return model.eval()


@torch.no_grad()
def computed(name, model):
    """What the parts of a model compute, all from inputs that are stored too."""
    pixels = torch.randint(0, 256, (1, 3, 64, 128), dtype=torch.uint8)
    y = model.g_a(pixels / 255)
    z = model.h_a(y.abs() if name == "bmshj2018-hyperprior" else y)
    y_hat, z_hat = torch.randint(-5, 6, y.shape).float(), torch.randint(-4, 5, z.shape).float()
    prior = model.h_s(z_hat)
    found = {"pixels": pixels, "y": y, "z": z, "y_hat": y_hat, "z_hat": z_hat, "prior": prior}
    if name == "bmshj2018-hyperprior":
        found["scales"], means = prior, None
    else:
        if name == "mbt2018":
            prior = model.entropy_parameters(torch.cat([prior, model.context_prediction(y_hat)], 1))
        found["scales"], found["means"] = prior.chunk(2, 1)
        means = found["means"]
    found["y_likelihoods"] = model.gaussian_conditional._likelihood(y_hat, found["scales"], means)
    flat = z.permute(1, 0, 2, 3).reshape(N, 1, -1)
    likelihoods, _, _ = model.entropy_bottleneck._likelihood(flat)
    found["z_likelihoods"] = likelihoods.reshape(N, *z[:, 0].shape).transpose(0, 1)
    found["x_hat"] = model.g_s(y_hat)
    return {key: value.clone() for key, value in found.items()}


def _small(value):
    """As float16 where that is exact: small constants of GDN stay as they are."""
    return value.half() if value.is_floating_point() and torch.equal(value.half().float(), value) else value


def main():
    for name, build in MODELS.items():
        torch.manual_seed(0)
        model = randomised(build(N, M))
        model.entropy_bottleneck.update()
        outputs = {f"out.{key}": value for key, value in computed(name, model).items()}
        state = {f"state.{key}": _small(value) for key, value in model.state_dict().items()}
        versions = {"compressai": compressai.__version__, "torch": torch.__version__}
        path = Path(__file__).with_name(f"{name}.safetensors")
        path.write_bytes(safetensors.torch.save(state | outputs, versions))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
