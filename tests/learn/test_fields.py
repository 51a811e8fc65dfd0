import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from segpipe.learn.fields import polynomial_basis, spline_basis, spread


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0.1, 5), st.floats(0.5, 40))
def test_splines_are_those_of_scipy_and_sum_up_to_one(size: int, spacing: float, cell: float) -> None:
    basis = spline_basis(size, spacing, cell)
    assert np.allclose(basis.sum(axis=1), 1)
    at = (np.arange(size) + 0.5) * spacing / cell
    for number, column in enumerate(basis.T):
        spline = BSpline.basis_element(np.arange(number - 3, number + 2), extrapolate=False)
        assert np.allclose(column, np.nan_to_num(spline(at)), atol=1e-9)


def test_a_spread_field_is_the_tensor_product_of_its_bases() -> None:
    rng = np.random.default_rng(0)
    bases = [spline_basis(n, 1.0, 5.0) for n in (6, 7, 9)]
    coefficients = rng.normal(size=(2, *(basis.shape[1] for basis in bases)))
    field = spread(coefficients, bases, torch.device("cpu"))
    assert field.shape == (2, 6, 7, 9)
    assert np.allclose(field.numpy(), np.einsum("kabc,xa,yb,zc->kxyz", coefficients, *bases), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 30])
def test_polynomials_are_orthogonal_over_the_axis(size: int) -> None:
    basis = polynomial_basis(size, 3)
    assert basis.shape == (size, 4)
    assert np.allclose(basis[:, 0], 1)
    if size == 30:
        assert np.allclose((basis.T @ basis / size)[np.triu_indices(4, 1)], 0, atol=0.02)
