"""What check_files.py checks of a ViT: DeiT-Ti with images that PIL has preprocessed."""

import numpy as np
import torch
from peft import GloraConfig, LNTuningConfig, LoraConfig, PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

TRANSFORM = "resize=224,filter=bilinear,mean=0.4914|0.4822|0.4465,std=0.2470|0.2435|0.2616"
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).reshape(3, 1, 1)
NORMS = ["layernorm_before", "layernorm_after", "layernorm"]


def load_image(path):
    image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1) / 255
    return (pixels - MEAN) / STD


class Vit:
    name, fused = "DeiT-Ti", ".safetensors"
    # Trained by graft.
    methods = [
        "lora(r=8)",
        "lora(r=4,alpha=8,rslora=true,targets=attn.*|mlp.*,bias=all)",
        "lora(r=2,targets=blocks.3.mlp.fc1|blocks.10.attn.k)+lora(r=6,alpha=3,targets=attn.v)",
        "lora(r=4,bias=lora_only,dropout=0.1)",
        "lora(r=2,targets=attn.*|head)",
        "lora(r=4)+ln",
        "ln",
        "ln(targets=blocks.2.norm1|norm)",
        "bitfit",
        "glora(r=3)",
        "glora(a=vector,b=lora_2,c=none,d=none,e=constant,targets=attn.*)",
    ]
    # Made by peft.
    configs = {
        "list": LoraConfig(r=4, target_modules=["q_proj", "fc2"], modules_to_save=["classifier"]),
        "regex": LoraConfig(
            r=3,
            lora_alpha=5,
            target_modules=r".*\.layers\.(1|11)\..*\.(k|o)_proj",
            bias="lora_only",
        ),
        "all-linear": LoraConfig(
            r=2,
            target_modules="all-linear",
            use_rslora=True,
            rank_pattern={"fc1": 5, r"layers\.[2-4]\.attention\.q_proj": 3},
            alpha_pattern={"layers.0.mlp.fc2": 7},
            exclude_modules=["5.attention.v_proj", "classifier"],
            modules_to_save=["classifier", "layernorm_before"],
        ),
        "head": LoraConfig(r=2, target_modules=["classifier", "v_proj"]),
        "layers": LoraConfig(
            r=4,
            target_modules=["q_proj", "v_proj"],
            layers_to_transform=[0, 3, 11],
            bias="all",
        ),
        "biases": LoraConfig(
            r=4, target_modules=["q_proj"], bias="all", modules_to_save=["classifier"]
        ),
        "block": LoraConfig(
            r=4, target_modules=["q_proj"], modules_to_save=["layers.11", "classifier"]
        ),
        "GLoRA": GloraConfig(
            r=3,
            target_modules=["q_proj", "v_proj", "fc1"],
            modules_to_save=["classifier"],
            config_D_E="vector",
        ),
        "GLoRA by columns": GloraConfig(
            target_modules=["o_proj"], config_A_B="vector", config_C="vector"
        ),
        "norms": LNTuningConfig(target_modules=NORMS, modules_to_save=["classifier"]),
        "some norms": LNTuningConfig(target_modules=["layernorm_after"]),
    }

    def __init__(self, c):
        self.root, self.timm = c.root, c.args.timm
        self.data = c.root / "data/vtab-1k/cifar10"
        self.base = self.base_with_head = c.root / "weights/deit_tiny_patch16_224.safetensors"
        lines = (self.data / "test.txt").read_text().splitlines()[: c.args.count]
        self.files = [self.data / line.split()[0] for line in lines]
        self.images = torch.stack([load_image(f) for f in self.files])
        np.save(c.folder / "images.npy", self.images.numpy())
        self.options = ["--preprocess", TRANSFORM]
        self.inputs = [c.folder / "images.npy"]
        self.train = ["--data", self.data, *self.options]
        self.classes = [
            line.split()[-1]
            for line in (self.data / "classes.txt").read_text().splitlines()
            if line
        ]
        self.hf = c.folder / "base-hf"
        c.graft("export", "--model", self.base, "--format", "hf", "--out", self.hf)

    def model(self, classes=None, folder=None, head=True):
        told = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
        source = folder or self.hf
        return AutoModelForImageClassification.from_pretrained(source, **told).eval()

    def logits(self, model):
        with torch.no_grad():
            return model(pixel_values=self.images).logits

    def check_merged(self, c, name, run, folder, expected):
        """In timm, too."""
        if not self.timm:
            return
        from timm.models import create_model

        timm = folder.with_name(folder.name + "-timm")
        c.graft("export", "--run", run, "--format", "timm", "--merged", "--out", timm)
        model = create_model("deit_tiny_patch16_224", num_classes=10).eval()
        model.load_state_dict(load_file(timm / "model.safetensors"), strict=True)
        with torch.no_grad():
            c.same_logits(name, "merged, timm", model(self.images), expected)

    def check_more(self, c):
        name = "timm to Hugging Face"
        if c.wanted(name):
            found = c.graft_logits("--model", self.base)
            c.same_logits(name, "transformers", found, self.logits(self.model()))
        self.check_genuine(c)

    def check_genuine(self, c):
        """Its names are those of transformers 4, under which transformers 5 loads nothing."""
        name, folder = "made by peft 0.17", self.root / "weights/peft-lora-deit-tiny-cifar10"
        if not c.wanted(name):
            return
        stored = np.fromfile(folder / "expected_logits_first64_of_cifar10_test.f32", np.float32)
        stored = torch.from_numpy(stored).reshape(64, 10)[: c.args.count]
        on_base = ["--model", self.base, "--adapter", folder]
        c.same_logits(name, "graft, its stored logits", c.graft_logits(*on_base), stored)
        c.same_logits(name, "with JPEG", c.graft_logits(*on_base, inputs=self.files), stored)
        same, renamed = c.folder / "genuine", c.folder / "genuine5"
        c.graft("export", *on_base, "--format", "hf-peft", "--out", same)
        c.same_tensors(name, "peft, graft", folder, same)
        c.graft("export", *on_base, "--format", "hf-peft", "--transformers", 5, "--out", renamed)
        loaded = PeftModel.from_pretrained(self.model(10), renamed).eval()
        c.same_logits(name, "renamed, peft", self.logits(loaded), stored)
