"""Prompt-to-Prompt after inversion: what is inverted is drawn again, what is shared is equal."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from ip2p.editing.draw import denoise, text_guidance
from ip2p.editing.inversion import edit_by_captions, invert
from ip2p.errors import InstructionError, ModelError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import GenerationSettings

pytestmark = pytest.mark.filterwarnings("ignore:text longer than:UserWarning")


@pytest.fixture(scope="module")
def base(base_folder: Path) -> Backbone:
    return load_backbone(base_folder, want="base")


def picture(side: int = 32) -> Image.Image:
    return Image.radial_gradient("L").convert("RGB").resize((side, side))


def test_inverted_noise_is_drawn_to_the_picture_again(base_folder: Path) -> None:
    """The error falls with the number of steps, as that of a solver does, if the network is smooth as trained ones."""
    base, texts = load_backbone(base_folder, want="base"), ["make it night", "make it winter"]
    with torch.no_grad():
        base.unet.conv_out.weight.mul_(0.05)
        base.unet.conv_out.bias.mul_(0.05)
        latents = base.encode_target(to_tensor([picture(), picture().transpose(Image.Transpose.FLIP_TOP_BOTTOM)]))
        errors = []
        for steps in (5, 40):
            noise = invert(base, latents, base.encode_text(texts), steps)
            settings = GenerationSettings(scheduler="ddim", steps=steps)
            drawn = denoise(
                base, text_guidance(base, settings, texts, scale=1.0), settings, size=(32, 32),
                generators=[torch.Generator()] * 2, noise=noise,
            ).latents  # fmt: skip
            errors.append(float((drawn - latents).square().mean().sqrt() / latents.square().mean().sqrt()))
    assert errors[1] < errors[0] / 2 and errors[1] < 0.1, errors


def test_equal_captions_without_guidance_are_one_picture(base: Backbone) -> None:
    """Sharing changes nothing where there is nothing to change; other captions do."""
    same = [
        edit_by_captions(base, [picture()], ["make it night"], ["make it night"], share=share, scale=1.0, steps=4)[0]
        for share in (0.0, 1.0)
    ]
    other = edit_by_captions(base, [picture()], ["make it night"], ["winter"], share=0.0, scale=7.5, steps=4)[0]
    assert (to_tensor([same[0]]) - to_tensor([same[1]])).abs().max() < 0.02
    assert (to_tensor([same[0]]) - to_tensor([other])).abs().max() > 0.02


def test_results_have_the_sizes_of_their_pictures_and_no_batch(base: Backbone) -> None:
    pictures = [picture(32), picture(48), picture(32)]
    before, after = ["make it night"] * 3, ["winter", "make it winter", "night"]
    made = edit_by_captions(base, pictures, before, after, share=0.5, steps=3)
    assert [each.size for each in made] == [each.size for each in pictures]
    (alone,) = edit_by_captions(base, pictures[2:], before[2:], after[2:], share=0.5, steps=3)
    assert (to_tensor([alone]) - to_tensor([made[2]])).abs().max() < 0.02


def test_wrong_models_and_captions_are_told(base: Backbone, editor_folder: Path) -> None:
    with pytest.raises(InstructionError, match="is empty"):
        edit_by_captions(base, [picture()], [" "], ["winter"], share=0.5)
    with pytest.raises(ModelError, match="no text-to-image model"):
        edit_by_captions(load_backbone(editor_folder), [picture()], ["a"], ["b"], share=0.5)
