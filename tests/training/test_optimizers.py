"""Optimisers: published formulas, the right rule for each parameter, and state that survives a checkpoint."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from evo.training.optimizers import Lion, decays, is_muon_matrix, make_optimizer, set_lr_scale

SPECS = {
    "adamw": SimpleNamespace(kind="adamw", lr=3e-3, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8),
    "muon": SimpleNamespace(
        kind="muon", lr=2e-2, adamw_lr=3e-3, momentum=0.95, nesterov=True, steps=5, weight_decay=0.1
    ),
    "lion": SimpleNamespace(kind="lion", lr=2e-3, beta1=0.9, beta2=0.99, weight_decay=0.3),
}


class Network(nn.Module):
    """One parameter of every sort that an organism has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(64, 16)
        self.hidden = nn.Linear(16, 32)
        self.taps = nn.Parameter(torch.randn(32, 4))
        self.experts = nn.Parameter(torch.randn(3, 32, 16) / 6)
        self.gain = nn.Parameter(torch.ones(16))
        self.unused = nn.Parameter(torch.ones(16, 16))
        self.readout = nn.Linear(16, 64, bias=False)

    def forward(self, x_BT: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, 64) of token numbers (B, T)."""
        h = torch.tanh(self.hidden(self.embedding(x_BT))) * self.taps.sum(-1)
        return self.readout(torch.einsum("btf,efd->btd", h, self.experts) * self.gain)


def train(network: Network, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    """Losses of learning one fixed batch."""
    x = torch.arange(64).reshape(4, 16)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(x).flatten(0, 1), x.roll(-1, 1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def build(kind: str) -> tuple[Network, torch.optim.Optimizer]:
    """A network and its optimiser."""
    network = Network()
    return network, make_optimizer(list(network.named_parameters()), SPECS[kind])


@pytest.mark.parametrize("kind", SPECS)
def test_each_parameter_is_in_one_group(kind: str) -> None:
    """Every parameter is optimised, by one rule."""
    network, optimizer = build(kind)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.parametrize("kind", SPECS)
def test_it_learns(kind: str) -> None:
    """Thirty steps on one batch reduce its loss, and a parameter without a gradient stays as it was."""
    network, optimizer = build(kind)
    losses = train(network, optimizer, 30)
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(network.unused, torch.ones(16, 16))


def test_what_decays() -> None:
    """Matrices and stacks of matrices decay; embeddings, positions, biases and gains do not."""
    network = Network()
    names = {name for name, parameter in network.named_parameters() if decays(name, parameter)}
    assert names == {"hidden.weight", "taps", "experts", "unused", "readout.weight"}
    assert not decays("embedding.positions", nn.Parameter(torch.zeros(8, 8)))


@pytest.mark.parametrize("kind", SPECS)
def test_decay_alone(kind: str) -> None:
    """With gradients of zero, one step shrinks what decays by 1 - lr * weight_decay and leaves the rest untouched."""
    network, optimizer = build(kind)
    before = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    spec = SPECS[kind]
    for (name, new), old in zip(network.named_parameters(), before.parameters(), strict=True):
        lr = spec.adamw_lr if kind == "muon" and not is_muon_matrix(name, new) else spec.lr
        factor = 1 - lr * spec.weight_decay if decays(name, new) else 1.0
        torch.testing.assert_close(new, old * factor, rtol=1e-6, atol=0)


def test_what_muon_takes() -> None:
    """Muon takes hidden matrices; not embeddings, readout, convolution taps, vectors or stacks."""
    names = {name for name, parameter in Network().named_parameters() if is_muon_matrix(name, parameter)}
    assert names == {"hidden.weight", "unused"}


def test_muon_steps_along_the_polar_factor() -> None:
    """A Muon step is close in direction to the exact polar factor U V^T of the gradient, closer than the gradient."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(48, 32))
    optimizer = make_optimizer([("hidden.weight", weight)], SPECS["muon"])
    gradient = torch.randn(48, 32, dtype=torch.float64)
    weight.grad = gradient.float()
    optimizer.step()
    step = -weight.detach().double() / (SPECS["muon"].lr * (48 / 32) ** 0.5)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    exact = left @ right
    cosine = (step * exact).sum() / (step.norm() * exact.norm())
    plain = (gradient * exact).sum() / (gradient.norm() * exact.norm())
    assert cosine > 0.97
    assert cosine > plain + 0.02
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_muon_spectrum_is_flat_even_for_a_skewed_gradient() -> None:
    """Singular values spread over a factor of 30 leave within a factor of 2.5: the update reaches every direction."""
    torch.manual_seed(1)
    left, _, right = torch.linalg.svd(torch.randn(32, 32))
    weight = nn.Parameter(torch.zeros(32, 32))
    optimizer = make_optimizer([("hidden.weight", weight)], SPECS["muon"])
    weight.grad = left @ torch.diag(torch.logspace(0, -1.5, 32)) @ right
    optimizer.step()
    singular = torch.linalg.svdvals(weight.detach())
    assert singular.max() / singular.min() < 2.5


def test_lion_by_hand() -> None:
    """Two steps of Lion on two numbers, worked on paper from algorithm 2 of arXiv 2302.06675."""
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    optimizer = Lion([{"params": [weight], "weight_decay": 0.5}], lr=0.1, betas=(0.5, 0.75))
    weight.grad = torch.tensor([[4.0, -4.0]], dtype=torch.float64)
    optimizer.step()  # m = 0: c = (2, -2); w = 0.95 w - 0.1 sign(c); m = (1, -1)
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.85, -1.8]], dtype=torch.float64))
    weight.grad = torch.tensor([[-0.5, 2.0]], dtype=torch.float64)
    optimizer.step()  # c = (0.25, 0.5)
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.7075, -1.81]], dtype=torch.float64))
    torch.testing.assert_close(optimizer.state[weight]["momentum"], torch.tensor([[0.625, -0.25]], dtype=torch.float64))


def test_lion_agrees_with_an_independent_one() -> None:
    """Twenty steps equal those of the package lion-pytorch."""
    oracle = pytest.importorskip("lion_pytorch")
    torch.manual_seed(0)
    start = torch.randn(8, 8, dtype=torch.float64)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    own = make_optimizer([("w", ours)], SPECS["lion"])
    other = oracle.Lion([theirs], lr=2e-3, betas=(0.9, 0.99), weight_decay=0.3)
    for _ in range(20):
        gradient = torch.randn(8, 8, dtype=torch.float64)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        own.step()
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", SPECS)
def test_a_checkpoint_continues_exactly(kind: str) -> None:
    """Five steps, a copy through state dicts, and five more equal ten steps, bit for bit."""
    straight, optimizer = build(kind)
    train(straight, optimizer, 10)
    first, optimizer = build(kind)
    train(first, optimizer, 5)
    second, resumed = build(kind)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, 5)
    for ours, theirs in zip(second.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", SPECS)
def test_state_is_tensors_by_parameter(kind: str) -> None:
    """A state dict's state holds only tensors, one entry a stepped parameter: safetensors can store it."""
    network, optimizer = build(kind)
    train(network, optimizer, 1)
    state = optimizer.state_dict()["state"]
    assert len(state) == len(list(network.parameters())) - 1
    assert all(isinstance(value, torch.Tensor) for entry in state.values() for value in entry.values())


@pytest.mark.parametrize("kind", SPECS)
def test_a_scale_of_zero_stops_everything(kind: str) -> None:
    """`set_lr_scale` reaches every group: at zero nothing moves, at one half every group has half its peak."""
    network, optimizer = build(kind)
    set_lr_scale(optimizer, 0.0)
    before = copy.deepcopy(network)
    train(network, optimizer, 2)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))
    set_lr_scale(optimizer, 0.5)
    assert all(group["lr"] == 0.5 * group["initial_lr"] for group in optimizer.param_groups)


def test_muon_has_two_learning_rates() -> None:
    """Matrices have `lr`, everything else `adamw_lr`."""
    _, optimizer = build("muon")
    assert [group["lr"] for group in optimizer.param_groups] == [2e-2, 3e-3, 3e-3]


@pytest.mark.parametrize("only", ["hidden.weight", "gain"])
def test_muon_without_one_side(only: str) -> None:
    """A network of matrices only, or of vectors only, has a Muon optimiser too."""
    weight = nn.Parameter(torch.ones(16, 16) if only == "hidden.weight" else torch.ones(16))
    optimizer = make_optimizer([(only, weight)], SPECS["muon"])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert not torch.equal(weight, torch.ones_like(weight))


def test_mistakes_are_refused() -> None:
    """No parameters, or a kind without a row in the table, is an error."""
    with pytest.raises(ValueError, match="without parameters"):
        make_optimizer([], SPECS["adamw"])
    with pytest.raises(KeyError):
        make_optimizer([("w", nn.Parameter(torch.ones(2)))], SimpleNamespace(kind="sgd"))
