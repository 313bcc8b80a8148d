import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)

from demo.tiny import training
from demo.tiny.captioner import CaptionerSize
from demo.tiny.chat import ChatSize
from demo.tiny.data_pictures import FIRST_TRAINING_SEED, draw_pictures
from demo.tiny.evaluate import main as evaluate
from demo.tiny.train_captioner import train_captioner
from demo.tiny.train_chat import train_chat
from demo.tiny.training import Muon, Recipe, save_checkpoint

CHAT = ChatSize(width=32, layers=1, heads=1, inner_width=32)
CAPTIONER = CaptionerSize(
    image_size=32, patch_size=8, vision_width=32, vision_layers=1, qformer_width=32, qformer_layers=1,
    language_width=32, language_layers=1, query_tokens=2,
)  # fmt: skip


def test_a_few_steps_lower_the_loss_of_the_chat_model_and_save_it(tmp_path):
    recipe = Recipe(steps=16, batch=8, rate=0.02, other_rate=0.02, warmup=2)
    losses = train_chat(tmp_path / "glm", recipe, CHAT, line=None)
    assert sum(losses[-3:]) / 3 < losses[0] - 0.5
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "glm")
    assert model.dtype == torch.float32 and type(model).__name__ == "GlmForCausalLM"
    assert AutoTokenizer.from_pretrained(tmp_path / "glm").chat_template


def test_a_few_steps_lower_the_loss_of_the_captioner_and_save_it(tmp_path):
    pictures = draw_pictures(32, seed=5, side=32, workers=0, line=None)
    recipe = Recipe(steps=16, batch=8, rate=0.02, other_rate=0.02, warmup=2)
    folder = tmp_path / "instructblip"
    losses = train_captioner(folder, recipe, CAPTIONER, pictures=pictures, line=None)
    assert sum(losses[-3:]) / 3 < losses[0] - 0.5
    processor = InstructBlipProcessor.from_pretrained(folder)
    assert processor.num_query_tokens == CAPTIONER.query_tokens
    assert InstructBlipForConditionalGeneration.from_pretrained(folder).dtype == torch.float32


def test_the_same_seed_trains_the_same_weights(tmp_path):
    recipe = Recipe(steps=3, batch=4, warmup=1)
    for name in ("a", "b"):
        train_chat(tmp_path / name, recipe, CHAT, line=None)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert one == other


class Broken:
    def state_dict(self):
        return {"weight": torch.zeros(1)}

    def save_pretrained(self, folder, **_):
        (folder / "config.json").write_text("{")
        raise OSError("disk full")


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    folder = tmp_path / "glm"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(Broken(), None, folder)
    assert (folder / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["glm"]


def test_a_new_checkpoint_replaces_the_old_folder_whole(tmp_path):
    folder = tmp_path / "glm"
    folder.mkdir()
    (folder / "leftover.bin").write_text("old")
    train_chat(folder, Recipe(steps=1, batch=2, warmup=1), CHAT, line=None)
    assert not (folder / "leftover.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["glm"]


def test_the_update_of_a_matrix_is_orthogonal():
    torch.manual_seed(0)
    update = training._orthogonal(torch.randn(24, 10), steps=5)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_finds_the_minimum_of_a_quadratic():
    torch.manual_seed(0)
    target, weight = torch.randn(8, 4), torch.nn.Parameter(torch.zeros(8, 4))
    optimizer = Muon([weight], lr=0.1)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
    assert (weight - target).abs().max() < 0.05


def test_pictures_do_not_depend_on_the_number_of_workers():
    alone, together = (draw_pictures(6, seed=2, side=16, workers=n, line=None) for n in (0, 2))
    assert (alone.pixels == together.pixels).all() and alone.captions == together.captions


def test_evaluation_refuses_a_training_world(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate(["--seed", str(FIRST_TRAINING_SEED)])
    assert stopped.value.code == 2
    assert "training worlds" in capsys.readouterr().err
