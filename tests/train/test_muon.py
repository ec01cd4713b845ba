"""Muon: the orthogonalisation and the updates of weights grouped by shape."""

import pytest
import torch

from basic_train.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 40), (2, 40, 24), (3, 16, 96), (2, 96, 16)])
def test_singular_values_come_close_to_one_and_directions_stay(shape):
    """All branches: square, wide, tall, and both on the Gram matrix (four times as wide as high)."""
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, singular, right = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalise(matrices)
    assert result.shape == shape and result.dtype == torch.float32
    rotated = left.mT @ result @ right.mT
    diagonal = torch.diagonal(rotated, dim1=1, dim2=2)
    well_conditioned = singular > 0.1 * singular.amax(1, keepdim=True)
    assert ((diagonal > 0.6) & (diagonal < 1.3))[well_conditioned].all()
    assert (rotated - torch.diag_embed(diagonal)).abs().max() < 0.05  # bf16 rounding


def test_weights_of_one_shape_are_updated_as_if_alone():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 4, 3, 3), (8, 4, 3, 3), (6, 6))]
    alone = [torch.nn.Parameter(w.detach().clone()) for w in weights]
    together, single = Muon(weights, lr=0.1), [Muon([w], lr=0.1) for w in alone]
    for _ in range(3):
        for weight, other in zip(weights, alone, strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        together.step()
        for optimizer in single:
            optimizer.step()
    for weight, other in zip(weights, alone, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-5)


def test_transposed_weights_are_updated_as_their_transposes():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 10, 3, 3))
    turned = torch.nn.Parameter(weight.detach().transpose(0, 1).clone())
    optimizers = (Muon([{"params": [weight], "transposed": True}], lr=0.1), Muon([turned], lr=0.1))
    for _ in range(3):
        weight.grad = torch.randn_like(weight)
        turned.grad = weight.grad.transpose(0, 1).clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(weight.transpose(0, 1), turned, rtol=1e-5, atol=1e-5)


def test_factors_update_a_weight_as_if_it_were_stored_divided_by_them():
    torch.manual_seed(0)
    factors = torch.rand(1, 10, 1, 1) + 0.1
    weight = torch.nn.Parameter(torch.randn(6, 10, 3, 3))
    divided = torch.nn.Parameter(weight.detach() / factors)
    optimizers = (Muon([{"params": [weight], "factors": factors}], lr=0.1), Muon([divided], lr=0.1))
    for _ in range(3):
        weight.grad = torch.randn_like(weight)
        divided.grad = weight.grad * factors
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(weight, divided * factors, rtol=1e-5, atol=1e-5)
