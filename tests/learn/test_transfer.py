"""Pretrained weights in a network: what is loaded, what is refused, and how slowly they move there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segpipe.core.errors import ArtifactError, ConfigError
from segpipe.dataset.manifest import Case, FileRef
from segpipe.learn.batches import PatchSampler
from segpipe.learn.fit import Recipe, fit
from segpipe.learn.optim import Pace
from segpipe.learn.state import State
from segpipe.learn.step import train_step
from segpipe.learn.transfer import (
    TransferConfig,
    begin_with,
    content_of,
    encoder_folder,
    load_encoder_into,
    seen_in_pretraining,
)
from segpipe.nets.checkpoint import save_encoder
from segpipe.nets.decoder import Decoder
from segpipe.nets.encoder import Encoder, EncoderSpec
from segpipe.nets.precision import laid_out
from segpipe.nets.unet import UNet, UNetSpec
from tests.learn import tiny
from tests.learn.conftest import MakeCase
from tests.learn.tiny import Journal, StoppedError, recipe, task, weights, work

EVERYTHING = TransferConfig(least=0.0)


def spec(rank: int = 3, **changes: object) -> EncoderSpec:
    form = {
        "in_channels": 1,
        "widths": (4, 8, 12),
        "strides": ((2,) * rank,) * 2,
        "kernels": ((3,) * rank,) * 3,
    }
    return EncoderSpec.model_validate(form | changes)


def network(made: EncoderSpec, seed: int = 5) -> UNet:
    torch.manual_seed(seed)
    return laid_out(UNetSpec(encoder=made, out_channels=3, heads=2).build(), made.rank, "cpu")


def pretrained(folder: Path, made: EncoderSpec, *, decoder: bool = False) -> tuple[Encoder, Decoder]:
    torch.manual_seed(1)
    encoder, again = Encoder(made), Decoder(made, made.in_channels, skips=False)
    for part in (encoder, again):
        for value in part.parameters():
            torch.nn.init.normal_(value)
    folder.mkdir(parents=True, exist_ok=True)
    save_encoder(folder, encoder, again if decoder else None, {"objective": {"kind": "masked"}})
    (folder / "cases.json").write_text(json.dumps(seen_in_pretraining([case("seen")])))
    return encoder, again


def case(name: str) -> Case:
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    image = FileRef(path=f"{name}.png", sha256=f"content of {name}")
    return Case(id=name, subject=name, part="develop", images=(image,), label=None, shape=(2, 2), affine=axes)


def tensors(part: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in part.state_dict().items()}


class TestWhatFits:
    @pytest.mark.parametrize("rank", [2, 3])
    @pytest.mark.parametrize("norm", ["instance", "batch", "none"])
    def test_every_tensor_of_the_encoder_is_loaded_and_no_other_moves(
        self, tmp_path: Path, rank: int, norm: str
    ) -> None:
        made = spec(rank, norm=norm)
        encoder, _ = pretrained(tmp_path, made)
        into = network(made)
        fresh = tensors(into.decoder)
        layout = into.encoder.blocks[1][0].weight.stride()
        report = load_encoder_into(into, tmp_path, TransferConfig())
        assert all(torch.equal(value, into.encoder.state_dict()[name]) for name, value in encoder.state_dict().items())
        assert report.loaded == [f"encoder.{name}" for name in encoder.state_dict()]
        assert (report.share, report.adapted, report.skipped) == (1.0, {}, {})
        assert all(torch.equal(value, into.decoder.state_dict()[name]) for name, value in fresh.items())
        assert into.encoder.blocks[1][0].weight.stride() == layout
        assert report.origin["objective"] == {"kind": "masked"}

    def test_padding_and_dropout_are_no_part_of_the_contract(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        other = network(spec(padding="valid", dropout=0.2))
        assert load_encoder_into(other, tmp_path, TransferConfig()).share == 1.0

    @pytest.mark.parametrize(("have", "want"), [(1, 3), (4, 2)])
    def test_other_image_channels_get_the_mean_and_the_sum_stays(self, tmp_path: Path, have: int, want: int) -> None:
        encoder, _ = pretrained(tmp_path, spec(in_channels=have))
        into = network(spec(in_channels=want))
        report = load_encoder_into(into, tmp_path, TransferConfig())
        first, found = encoder.blocks[0][0].weight, into.encoder.blocks[0][0].weight
        assert list(report.adapted) == ["encoder.blocks.0.0.weight"]
        assert report.skipped == {}
        torch.testing.assert_close(found.sum(dim=1), first.sum(dim=1))
        torch.testing.assert_close(found[:, 0], first.mean(dim=1) * have / want)
        assert torch.equal(found[:, 0], found[:, -1])

    def test_a_decoder_without_skips_fills_the_half_that_sees_the_up_sampled_features(self, tmp_path: Path) -> None:
        made = spec()
        _, decoder = pretrained(tmp_path, made, decoder=True)
        into = network(made)
        fresh = tensors(into.decoder)
        report = load_encoder_into(into, tmp_path, TransferConfig(decoder=True))
        theirs, found = decoder.state_dict(), into.decoder.state_dict()
        first = "blocks.0.0.weight"
        width = theirs[first].shape[1]
        assert torch.equal(found[first][:, width:], theirs[first])
        assert torch.equal(found[first][:, :width], fresh[first][:, :width])
        assert torch.equal(found["ups.0.weight"], theirs["ups.0.weight"])
        assert torch.equal(found["heads.0.weight"], fresh["heads.0.weight"])
        assert report.skipped["decoder.heads.0.weight"] == "1x4x1x1x1 in the file, 3x4x1x1x1 in the network"
        assert report.skipped["decoder.heads.1.weight"] == "not in the file"
        assert report.share == 1.0
        assert report.summary["transferable_tensors"] == len(into.state_dict())

    def test_the_filled_half_gives_what_the_decoder_gave_where_the_skip_says_nothing(self, tmp_path: Path) -> None:
        made = spec(2, norm="none")
        encoder, decoder = pretrained(tmp_path, made, decoder=True)
        into = network(made)
        load_encoder_into(into, tmp_path, TransferConfig(decoder=True))
        *skips, code = encoder(torch.randn(1, 1, 8, 8))
        up, skip = decoder.ups[0](code), torch.zeros_like(skips[-1])
        both = into.decoder.blocks[0](torch.cat([skip, up], dim=1))
        torch.testing.assert_close(both, decoder.blocks[0](up), rtol=1e-4, atol=1e-3)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"norm": "batch"}, r"norm instance \(the network: batch\)"),
            ({"activation": "gelu"}, r"activation leaky_relu \(the network: gelu\)"),
            ({"convolutions": 1}, r"convolutions 2 \(the network: 1\)"),
            ({"strides": ((2, 2, 2), (1, 2, 2))}, r"strides 2x2x2 2x2x2 \(the network: 2x2x2 1x2x2\)"),
            ({"kernels": ((1, 3, 3),) * 3}, r"kernels 3x3x3 .* \(the network: 1x3x3 1x3x3 1x3x3\)"),
        ],
    )
    def test_weights_that_would_mean_another_function_are(
        self, tmp_path: Path, changes: dict[str, Any], words: str
    ) -> None:
        pretrained(tmp_path, spec())
        into = network(spec(**changes))
        before = tensors(into)
        with pytest.raises(ConfigError, match=words) as caught:
            load_encoder_into(into, tmp_path, EVERYTHING)
        assert "\n" not in str(caught.value)
        assert all(torch.equal(value, into.state_dict()[name]) for name, value in before.items())

    def test_too_little_is_and_the_text_names_what_did_not_fit(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        with pytest.raises(ConfigError) as caught:
            load_encoder_into(network(spec(widths=(4, 8, 16))), tmp_path, TransferConfig())
        told = str(caught.value)
        assert "of the encoder's numbers fit, and train.transfer.least=0.9: widths 4 8 12 (the network: 4 8 16)" in told
        assert "encoder.blocks.2.0.weight: 12x8x3x3x3 in the file, 16x8x3x3x3 in the network" in told

    @pytest.mark.parametrize("least", [0.15, 0.25])
    def test_how_much_is_too_little_is_a_setting(self, tmp_path: Path, least: float) -> None:
        encoder, _ = pretrained(tmp_path, spec())
        into = network(spec(widths=(4, 8, 16)))
        fits = sum(v.numel() for block in into.encoder.blocks[:2] for v in block.state_dict().values())
        share = fits / sum(v.numel() for v in into.encoder.state_dict().values())
        assert 0.15 < share < 0.25
        if share < least:
            with pytest.raises(ConfigError, match=r"train\.transfer\.least=0\.25"):
                load_encoder_into(into, tmp_path, TransferConfig(least=least))
            return
        report = load_encoder_into(into, tmp_path, TransferConfig(least=least))
        assert report.share == pytest.approx(share)
        assert len(report.skipped) == len(into.encoder.blocks[2].state_dict())
        assert torch.equal(into.encoder.blocks[1][0].weight, encoder.blocks[1][0].weight)

    def test_an_encoder_of_another_depth_gives_the_levels_that_both_have(self, tmp_path: Path) -> None:
        axes = (2, 2, 2)
        pretrained(tmp_path, spec(widths=(4, 8), strides=(axes,), kernels=((3, 3, 3),) * 2))
        report = load_encoder_into(network(spec()), tmp_path, EVERYTHING)
        assert {name.split(".")[2] for name in report.loaded} == {"0", "1"}
        assert set(report.skipped.values()) == {"not in the file"}

    def test_a_decoder_that_is_not_there_is(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        with pytest.raises(ConfigError, match=r"train\.transfer\.decoder=true: .* holds no decoder"):
            load_encoder_into(network(spec()), tmp_path, TransferConfig(decoder=True))

    @pytest.mark.parametrize("damage", ["cut", "other", "gone", "later"])
    def test_a_damaged_folder_is_one_line(self, tmp_path: Path, damage: str) -> None:
        pretrained(tmp_path, spec())
        file, described = tmp_path / "encoder.safetensors", tmp_path / "encoder.json"
        match damage:
            case "cut":
                file.write_bytes(file.read_bytes()[:-10])
            case "other":
                pretrained(tmp_path / "other", spec(in_channels=2))
                shutil.copy(tmp_path / "other" / file.name, file)
            case "gone":
                described.unlink()
            case "later":
                described.write_text(described.read_text().replace('"format": 1', '"format": 2'))
        with pytest.raises(ArtifactError) as caught:
            load_encoder_into(network(spec()), tmp_path, TransferConfig())
        assert "\n" not in str(caught.value)


class TestTheShuffledControl:
    def test_keeps_the_numbers_of_each_tensor_and_changes_their_places(self, tmp_path: Path) -> None:
        encoder, _ = pretrained(tmp_path, spec())
        into = network(spec())
        report = load_encoder_into(into, tmp_path, TransferConfig(shuffle=True), seed=3)
        for name, value in encoder.state_dict().items():
            found = into.encoder.state_dict()[name]
            assert torch.equal(found.flatten().sort().values, value.flatten().sort().values), name
            if value.numel() > 8:  # fewer may come to lie as they did
                assert not torch.equal(found, value), name
        assert report.share == 1.0
        assert report.sentence.endswith("100% of the encoder's numbers, shuffled")

    def test_depends_on_the_seed_alone(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        found = [network(spec(), seed) for seed in (5, 6, 7)]
        for into, seed in zip(found, (0, 0, 1), strict=True):
            torch.manual_seed(99 + seed)
            load_encoder_into(into, tmp_path, TransferConfig(shuffle=True), seed)
        assert torch.equal(weights(found[0].encoder), weights(found[1].encoder))
        assert not torch.equal(weights(found[0].encoder), weights(found[2].encoder))


class TestThePlaceOfWeights:
    def test_is_a_folder_or_the_only_one_in_it(self, tmp_path: Path) -> None:
        pretrained(tmp_path / "store" / "0123", spec())
        assert encoder_folder(tmp_path / "store" / "0123") == encoder_folder(tmp_path / "store")
        shutil.copytree(tmp_path / "store" / "0123", tmp_path / "store" / "4567.partial")
        assert encoder_folder(tmp_path / "store") == tmp_path / "store" / "0123"

    def test_where_there_is_none_or_several_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"train\.init_from=.*holds none\. Give the folder"):
            encoder_folder(tmp_path / "nowhere")
        for name in ("0123", "4567"):
            pretrained(tmp_path / name, spec())
        with pytest.raises(ConfigError, match="holds 2 of them"):
            encoder_folder(tmp_path)

    def test_plays_no_part_in_what_they_are(self, tmp_path: Path) -> None:
        pretrained(tmp_path / "a", spec())
        shutil.copytree(tmp_path / "a", tmp_path / "b" / "c")
        pretrained(tmp_path / "d", spec(widths=(4, 8, 16)))
        assert content_of(tmp_path / "a") == content_of(tmp_path / "b")
        assert content_of(tmp_path / "a") != content_of(tmp_path / "d")

    def test_a_decoder_counts_where_it_is_taken(self, tmp_path: Path) -> None:
        pretrained(tmp_path / "a", spec())
        pretrained(tmp_path / "b", spec(), decoder=True)
        assert content_of(tmp_path / "a") == content_of(tmp_path / "b")
        assert content_of(tmp_path / "a", decoder=True) != content_of(tmp_path / "b", decoder=True)


class TestCasesSeenInPretraining:
    def test_of_the_test_split_refuse_the_weights_whatever_they_are_called(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        renamed = case("seen").model_copy(update={"id": "renamed"})
        with pytest.raises(ConfigError, match=r"pretrained on cases of the test split: renamed\. Pretrain without"):
            begin_with(tmp_path, network(spec()), TransferConfig(), 0, ([case("other"), renamed], []))

    def test_of_the_validation_are_told(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        held_out = [case("other")], [case("seen"), case("unseen")]
        report = begin_with(tmp_path, network(spec()), TransferConfig(), 0, held_out)
        assert report.validation_seen == ["seen"]
        assert "1 validation case(s) were seen in pretraining" in report.sentence

    def test_where_nobody_wrote_them_down_is_refused(self, tmp_path: Path) -> None:
        pretrained(tmp_path, spec())
        (tmp_path / "cases.json").unlink()
        with pytest.raises(ArtifactError, match=r"cases\.json: does not tell what was pretrained on"):
            begin_with(tmp_path, network(spec()), TransferConfig(), 0, ([case("a")], []))


class TestAnEncoderThatGoesMoreSlowly:
    @pytest.fixture
    def sampler(self, make_case: MakeCase) -> PatchSampler:
        made = [make_case(name, (10, 10, 10)) for name in ("a", "b")]
        return tiny.sampler(made[0].folder.parent)

    @pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
    def test_does_not_move_by_a_bit_while_it_is_frozen(self, sampler: PatchSampler, kind: str) -> None:
        trained = task()
        basis = recipe()
        form = Recipe(basis.fit, basis.optim.model_copy(update={"kind": kind}), basis.augment, basis.spacing)
        state = State.of(trained, form.optim, Pace(trained.network.encoder, frozen_steps=3))
        moved = []
        for step in range(5):
            before = weights(trained.network.encoder), weights(trained.network.decoder)
            train_step(state, trained, sampler(step), form, "cpu")
            state.step += 1
            after = weights(trained.network.encoder), weights(trained.network.decoder)
            moved.append([not torch.equal(*pair) for pair in zip(before, after, strict=True)])
        assert moved == [[False, True]] * 3 + [[True, True]] * 2
        assert state.step == 5

    def test_moves_by_its_share_of_the_rate(self, sampler: PatchSampler) -> None:
        def step_of(factor: float) -> list[Tensor]:
            trained = task()
            parts = trained.network.encoder, trained.network.decoder
            before = [weights(part) for part in parts]
            state = State.of(trained, recipe().optim, Pace(parts[0], factor))
            train_step(state, trained, sampler(0), recipe(), "cpu")
            return [weights(part) - old for part, old in zip(parts, before, strict=True)]

        (slow, others), (full, same) = step_of(0.125), step_of(1.0)
        torch.testing.assert_close(slow, 0.125 * full, rtol=1e-2, atol=1e-6)
        assert full.abs().max() > 1e-3
        assert torch.equal(others, same)

    def test_goes_on_after_a_stop_to_the_very_same_weights(self, sampler: PatchSampler, tmp_path: Path) -> None:
        def train(folder: str, *, stop_at: int | None = None) -> tuple[Tensor, dict[str, Any]]:
            trained = task()
            pace = Pace(trained.network.encoder, factor=0.3, frozen_steps=5)
            place = work(tmp_path / folder, Journal(stop_at))
            told = fit(trained, sampler, recipe(), place, validate=None, name="unet", pace=pace)
            return weights(trained), told

        whole, _ = train("1")
        with pytest.raises(StoppedError):
            train("2", stop_at=10)
        resumed, told = train("2")
        assert told["resumed_at"] == 9
        assert torch.equal(whole, resumed)
