"""Sparse autoencoder: penalty and figures against numpy; connections that stay cut."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segpipe.learn.objectives.sparse import Sparse, SparseTask
from tests.learn.objectives.small import batch, few_steps, phantoms, spec

IMAGE = phantoms((16, 16))


def built(**settings: object) -> SparseTask:
    torch.manual_seed(0)
    return Sparse.model_validate(settings).build(spec(), (16, 16))


def loss(task: SparseTask) -> float:
    return float(task(batch(IMAGE))["sparsity"].detach())


def arrays(task: SparseTask) -> list[NDArray[np.float32]]:
    return [level.detach().numpy() for level in task.eval().encoder(IMAGE)]


def relative(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([one / np.sqrt(np.mean(one**2)) for one in activations])


def test_the_penalty_is_the_mean_absolute_activation() -> None:
    task = built(penalty=0.3, relative=False)
    assert loss(task) == pytest.approx(0.3 * np.abs(arrays(task)[-1]).mean(), rel=1e-5)


def test_a_relative_penalty_is_that_of_activations_of_unit_size() -> None:
    task = built(penalty=0.3)
    assert loss(task) == pytest.approx(0.3 * np.abs(relative(arrays(task)[-1])).mean(), rel=1e-5)


def test_every_level_counts_alike_where_all_do() -> None:
    task = built(penalty=1.0, relative=False, all_levels=True)
    assert loss(task) == pytest.approx(np.mean([np.abs(level).mean() for level in arrays(task)]), rel=1e-5)


def test_making_all_activations_small_pays_for_a_plain_penalty_only() -> None:
    small = 0.01
    code = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, fair = built(relative=False), built()
    assert float(plain.size(small * code).mean()) == pytest.approx(small * float(plain.size(code).mean()), rel=1e-4)
    assert float(fair.size(small * code).mean()) == pytest.approx(float(fair.size(code).mean()), rel=1e-3)
    few = torch.zeros(2, 16, 4, 4)
    few[:, 0] = 1
    assert float(fair.size(few).mean()) < 0.5 * float(fair.size(code).mean())


def test_the_figures_count_what_is_near_zero() -> None:
    task = built(near=0.2)
    code = relative(arrays(task)[-1])
    on = np.abs(code) >= 0.2
    figures = task.figures(IMAGE)
    assert figures["near_zero"] == pytest.approx(1 - on.mean(), abs=1e-6)
    assert figures["l0"] == pytest.approx(on.reshape(len(on), -1).sum(1).mean(), rel=1e-6)


def test_a_stronger_penalty_makes_a_sparser_code() -> None:
    found = []
    for penalty in (1e-6, 1.0):
        task = built(penalty=penalty)
        few_steps(task, IMAGE, steps=40)
        found.append(task.eval().figures(IMAGE))
    assert found[1]["near_zero"] > found[0]["near_zero"] + 0.1
    assert found[1]["l0"] < found[0]["l0"]


@pytest.mark.parametrize("kept", [0.25, 0.6])
def test_cut_connections_stay_zero_and_no_others_do(kept: float) -> None:
    task = built(connections=kept)
    kernels = {name: weight for name, weight in task.encoder.named_parameters() if weight.ndim > 1}
    cut = {name: (weight == 0).clone() for name, weight in kernels.items()}
    for name, weight in kernels.items():
        assert int(cut[name].sum()) == weight.numel() - max(round(kept * weight.numel()), 1)
    before = {name: weight.detach().clone() for name, weight in kernels.items()}
    state, _ = few_steps(task, IMAGE, steps=5)
    for module in (task.encoder, state.average.encoder):
        for name, weight in module.named_parameters():
            if name in kernels:
                assert torch.equal(weight == 0, cut[name])
    assert all(bool((weight != before[name])[~cut[name]].all()) for name, weight in kernels.items())


def test_which_connections_are_kept_is_saved_and_the_encoder_has_no_sign_of_it() -> None:
    one, other = built(connections=0.5), Sparse(connections=0.5).build(spec(), (16, 16))
    other.load_state_dict(one.state_dict())
    few_steps(other, IMAGE, steps=3)
    for (_, here), (_, there) in zip(one.encoder.named_parameters(), other.encoder.named_parameters(), strict=True):
        if here.ndim > 1:
            assert torch.equal(here == 0, there == 0)
    assert list(one.encoder.state_dict()) == list(built().encoder.state_dict())


def test_with_fewer_connections_activations_are_as_large() -> None:
    form = spec(norm="none", activation="relu")
    sizes = []
    for kept in (0.3, 1.0):
        torch.manual_seed(0)
        tasks = [Sparse(connections=kept).build(form, (16, 16)) for _ in range(8)]
        sizes.append(np.mean([float(task.encoder(IMAGE)[-1].detach().square().mean()) for task in tasks]))
    assert 0.4 < sizes[0] / sizes[1] < 2.5
