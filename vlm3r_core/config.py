"""Every setting as a frozen dataclass, and the named presets. No torch, no files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, replace
from math import inf

TOKEN_SELECTIONS = ("all", "camera_tokens", "patch_tokens", "none")
POOL_MODES = ("bilinear", "average", "max", "none")
NEWLINE_MODES = ("grid", "frame", "one_token", "no_token")
STATE_GATES = ("none", "ttt3r")
NUMBER_DECODINGS = ("greedy", "median", "closest")
MEMORY_POLICIES = ("uniform", "window", "resample")
# how the frames' times are told: not at all, on a line of their own, or as a paragraph before the question
TIME_INSTRUCTIONS = ("none", "line", "paragraph")
# frames in the visual context of a model that does not tell how many it was trained with
USUAL_FRAMES = 32
# the value of a setting that the preset decides
FROM_PRESET = "preset"


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ValueError naming the known values and the nearest one unless value is known."""
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")


def check_range(name: str, value: float, low: float, high: float = inf) -> None:
    """Raises ValueError unless low <= value <= high."""
    if not low <= value <= high:
        span = f"at least {low}" if high == inf else f"in {low}..{high}"
        raise ValueError(f"{name} must be {span}, got {value!r}")


def setting(default, doc: str, *, span: tuple[float, float] | None = None, choices: tuple[str, ...] = ()):
    """A dataclass field with its description, inclusive range or known values; ROS parameters are declared from it."""
    return field(default=default, metadata={"doc": doc, "span": span, "choices": choices})


def check_settings(config) -> None:
    """Raises ValueError for the first `setting` field of a dataclass that leaves its range or known values."""
    for item in fields(config):
        name, value = f"{type(config).__name__}.{item.name}", getattr(config, item.name)
        if item.metadata.get("span"):
            check_range(name, value, *item.metadata["span"])
        if item.metadata.get("choices"):
            check_choice(name, value, item.metadata["choices"])


def token_selection(value: str) -> str:
    """One name for each token selection: `all_tokens` and `camera_tokens,patch_tokens` mean `all`."""
    names = {part.strip() for part in value.split(",")}
    if names & {"all", "all_tokens"} or names == {"camera_tokens", "patch_tokens"}:
        return "all"
    check_choice("token selection", value, TOKEN_SELECTIONS)
    return value


@dataclass(frozen=True)
class DptConfig:
    """Widths of the dense prediction heads."""

    layer_dims: tuple[int, int, int, int] = (96, 192, 384, 768)
    feature_dim: int = 256
    last_dim: int = 128


@dataclass(frozen=True)
class Cut3rConfig:
    """Sizes of CUT3R; the defaults are those of cut3r_512_dpt_4_64.pth."""

    # input side in pixels, a multiple of patch_size
    image_size: int = 432
    patch_size: int = 16
    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12
    # no tensor shape tells this number: a wrong one loads silently
    state_dec_num_heads: int = 16
    state_size: int = 768
    state_pe: str = "2d"
    local_mem_size: int = 256
    ray_enc_depth: int = 2
    ray_enc_num_heads: int = 16
    mlp_ratio: float = 4.0
    rope_base: float = 100.0
    dpt: DptConfig = field(default_factory=DptConfig)
    # round q and k of the image encoder to half around the rotary embedding, as the published code does
    rope_half_rounding: bool = True
    # "none": the state is replaced each frame; "ttt3r": gated per state token
    state_gate: str = "none"
    # Aids for small models; published CUT3R has none of them.
    # columns of a small picture whose likeness to those of the frame before is told to the pose token; 0: none
    motion_columns: int = 0
    # width of the SigLIP tokens that are added to the embedded patches; 0: none are
    siglip_width: int = 0
    # the decoded pose token of a frame is handed on to the next one
    pose_chain: bool = False
    # convolutions embed the patches
    conv_stem: bool = False

    def __post_init__(self):
        check_choice("Cut3rConfig.state_gate", self.state_gate, STATE_GATES)
        check_choice("Cut3rConfig.state_pe", self.state_pe, ("2d", "1d"))
        # the heads read levels half way and three quarters up
        check_range("Cut3rConfig.dec_depth", self.dec_depth, 2)
        check_range("Cut3rConfig.motion_columns", self.motion_columns, 0, self.image_size)
        check_range("Cut3rConfig.siglip_width", self.siglip_width, 0)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"Cut3rConfig.image_size must be a multiple of patch_size {self.patch_size}, got {self.image_size}"
            )
        for width, heads in (
            (self.enc_embed_dim, self.enc_num_heads),
            (self.enc_embed_dim, self.ray_enc_num_heads),
            (self.dec_embed_dim, self.dec_num_heads),
            (self.dec_embed_dim, self.state_dec_num_heads),
        ):
            if width % (4 * heads):
                raise ValueError(
                    f"Cut3rConfig: width {width} with {heads} heads gives a head width that the 2D rotary "
                    "embedding cannot quarter; width must be divisible by 4 * heads"
                )

    @classmethod
    def from_published(cls, published: dict) -> Cut3rConfig:
        """Reads the constructor settings of a published CUT3R model.

        Args:
            published: {"model": constructor settings, "dpt": head widths, ...}, or the constructor settings alone.
                state_dec_num_heads and local_mem_size fall back to the published defaults when absent.

        Raises:
            ValueError: a setting describes a network other than the DPT one built here.
        """
        model = published.get("model", published)
        expected = {"head_type": "dpt", "output_mode": "pts3d+pose", "rgb_head": True, "pose_head": True}
        for key, want in expected.items():
            if model.get(key, want) != want:
                raise ValueError(f"CUT3R setting {key} must be {want!r} for this implementation, got {model[key]!r}")
        pos_embed = model.get("pos_embed", "RoPE100")
        if not pos_embed.startswith("RoPE"):
            raise ValueError(f"CUT3R setting pos_embed must be RoPE<base>, got {pos_embed!r}")
        same = (
            "patch_size enc_embed_dim enc_depth enc_num_heads dec_embed_dim dec_depth dec_num_heads "
            "state_dec_num_heads state_size state_pe local_mem_size ray_enc_depth mlp_ratio"
        ).split()
        settings = {name: model[name] for name in same if name in model}
        dpt = published.get("dpt") or model.get("dpt")
        if dpt:
            settings["dpt"] = DptConfig(tuple(dpt["layer_dims"]), dpt["feature_dim"], dpt["last_dim"])
        patch = settings.get("patch_size", 16)
        size = model.get("image_size") or max(model.get("img_size", (432, 432)))
        return cls(image_size=size - size % patch, rope_base=float(pos_embed[len("RoPE") :]), **settings)


@dataclass(frozen=True)
class SiglipConfig:
    """Sizes of the SigLIP tower; num_layers counts the layers that are used (one less than published SigLIP)."""

    image_size: int = 384
    patch_size: int = 14
    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_layers: int = 26
    num_heads: int = 16
    # an aid for small models, absent from published SigLIP: convolutions embed the patches
    conv_stem: bool = False

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes of the Qwen2 language model."""

    hidden_size: int = 3584
    num_layers: int = 28
    num_heads: int = 28
    num_kv_heads: int = 4
    intermediate_size: int = 18944
    vocab_size: int = 152064
    rope_theta: float = 1e6
    max_position: int = 32768
    rms_norm_eps: float = 1e-6
    # an aid for small models, absent from Qwen2: in each layer the first so many heads of text hide the visual tokens
    text_only_heads: int = 0

    def __post_init__(self):
        check_range("LanguageConfig.text_only_heads", self.text_only_heads, 0, self.num_heads)


@dataclass(frozen=True)
class ModelConfig:
    """The whole network."""

    name: str
    cut3r: Cut3rConfig = field(default_factory=Cut3rConfig)
    siglip: SiglipConfig = field(default_factory=SiglipConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    fusion_heads: int = 18
    # an aid for small models: each image token is also given the CUT3R token of its own patch, through a linear map
    fusion_same_patch: bool = False
    # False: the base model alone, without CUT3R and fusion
    spatial: bool = True
    # which CUT3R tokens the fusion attends to; "none" skips the fusion
    token_selection: str = "all"
    # 2x2 pooling of projected tokens
    pool: str = "bilinear"
    newline: str = "grid"
    # divides (or multiplies, below zero) the logits of tokens the answer holds already; the published decoding has one
    repetition_penalty: float = 1.0
    # an answer that begins with a token which is a number: the likeliest one, the median of all such tokens, or the one
    # from which the truth is least far, as a share of the truth, by what the model expects
    number_decoding: str = "greedy"
    # frames of the videos it was trained with, 0 where that is unknown
    trained_frames: int = 0
    # seed of the random weights, None for weights read from files
    random_seed: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "token_selection", token_selection(self.token_selection))
        check_choice("ModelConfig.pool", self.pool, POOL_MODES)
        check_choice("ModelConfig.newline", self.newline, NEWLINE_MODES)
        check_choice("ModelConfig.number_decoding", self.number_decoding, NUMBER_DECODINGS)
        check_range("ModelConfig.repetition_penalty", self.repetition_penalty, 1.0)
        if self.language.text_only_heads and self.newline == "one_token":
            raise ValueError(
                "ModelConfig: newline 'one_token' ends the visual tokens with one that a stream reads as text, which "
                "does not go with language.text_only_heads; use no_token, frame or grid"
            )
        check_range("ModelConfig.trained_frames", self.trained_frames, 0)
        if not self.spatial:
            check_choice("ModelConfig.token_selection of a model without CUT3R", self.token_selection, ("none",))
            return
        if self.siglip.hidden_size % self.fusion_heads:
            raise ValueError(
                f"ModelConfig: {self.fusion_heads} fusion heads must divide the SigLIP width {self.siglip.hidden_size}"
            )
        if self.cut3r.siglip_width not in (0, self.siglip.hidden_size):
            raise ValueError(
                f"ModelConfig: cut3r.siglip_width must be 0 or the SigLIP width {self.siglip.hidden_size}, "
                f"got {self.cut3r.siglip_width}"
            )
        cut3r_grid = self.cut3r.image_size // self.cut3r.patch_size
        if cut3r_grid != self.siglip.grid:
            raise ValueError(
                f"ModelConfig: SigLIP grid {self.siglip.grid} and CUT3R grid {cut3r_grid} must be equal, "
                "one CUT3R token for each SigLIP token"
            )

    @property
    def trained(self) -> bool:
        """False where the weights are random."""
        return self.random_seed is None

    @property
    def tokens_per_frame(self) -> int:
        """Visual tokens of one frame, row newlines included."""
        side = self.siglip.grid
        if self.pool != "none":
            side = side // 2 if self.pool in ("average", "max") else -(-side // 2)
        newlines = {"grid": side, "frame": 1}.get(self.newline, 0)
        return side * side + newlines


@dataclass(frozen=True)
class InferencePreset:
    """How the published code asks its model, in one of its three places.

    Args:
        pool: 2x2 pooling of the visual tokens, one of POOL_MODES.
        time_instruction: one of TIME_INSTRUCTIONS.
        max_new_tokens: of one answer.
    """

    pool: str
    time_instruction: str
    max_new_tokens: int


# All decode greedily with the base model's repetition penalty (ModelConfig.repetition_penalty). While training nothing
# is decoded: the number of `train` is the evaluation's, for looking at a model the way it was trained.
INFERENCE_PRESETS: dict[str, InferencePreset] = {
    "paper-eval": InferencePreset("bilinear", "none", 16),
    "train": InferencePreset("bilinear", "paragraph", 16),
    "demo": InferencePreset("average", "line", 1024),
}


@dataclass(frozen=True)
class StreamConfig:
    """How a stream keeps time and memory, and how the model is asked.

    A preset's pooling belongs to the model: give `vlm3r_core.load` the same preset.
    """

    preset: str = setting(
        "paper-eval",
        "pooling, time instruction and answer length as in the paper's evaluation, its training or its demo",
        choices=tuple(INFERENCE_PRESETS),
    )
    memory_policy: str = setting(
        "uniform",
        "uniform: spread over all that was seen; window: the newest; resample: the paper's sampling of a kept pool",
        choices=MEMORY_POLICIES,
    )
    max_frames: int = setting(
        0,
        f"frames in the visual context at most; 0: as many as the model was trained with, {USUAL_FRAMES} if unknown",
        span=(0, 1024),
    )
    max_pool_frames: int = setting(256, "frames whose tokens the resample policy keeps at most", span=(1, 100_000))
    backward_reset_s: float = setting(
        1.0,
        "seconds a stamp may lie behind the newest one before a new session starts; less is dropped",
        span=(0, 3600),
    )
    max_new_tokens: int = setting(0, "tokens decoded for one answer at most; 0: the preset's", span=(0, 1024))
    max_question_chars: int = setting(4000, "characters of a question with its options at most", span=(1, 100_000))
    max_question_tokens: int = setting(
        2048,
        "tokens of a question with its wording and its answer at most; the cache has room for them",
        span=(64, 16384),
    )
    time_instruction: str = setting(
        FROM_PRESET,
        "tell the model when the frames were taken: none, on a line, as a paragraph, or as the preset does; the video "
        "is said to end with the newest frame",
        choices=(FROM_PRESET, *TIME_INSTRUCTIONS),
    )
    max_questions: int = setting(64, "questions waiting for the model at most", span=(1, 10_000))

    def __post_init__(self):
        check_settings(self)
        frames = self.max_frames or USUAL_FRAMES
        if self.max_pool_frames < frames:
            raise ValueError(
                f"StreamConfig.max_pool_frames must be max_frames {frames} or more, got {self.max_pool_frames}"
            )

    def for_model(self, model: ModelConfig) -> StreamConfig:
        """The same with what the model decides filled in."""
        return replace(self, max_frames=self.max_frames or model.trained_frames or USUAL_FRAMES)

    @property
    def asking(self) -> InferencePreset:
        """The preset with what was set otherwise."""
        chosen = INFERENCE_PRESETS[self.preset]
        time = chosen.time_instruction if self.time_instruction == FROM_PRESET else self.time_instruction
        return replace(chosen, time_instruction=time, max_new_tokens=self.max_new_tokens or chosen.max_new_tokens)


VLM3R_7B = ModelConfig(name="vlm3r-7b")

# Sizes of "tiny-random", all as published but smaller: for tests and for what needs no answers that are true.
TINY_RANDOM = ModelConfig(
    name="tiny-random",
    siglip=SiglipConfig(
        image_size=168, patch_size=14, hidden_size=144, intermediate_size=288, num_layers=4, num_heads=6
    ),
    cut3r=Cut3rConfig(
        image_size=192,
        enc_embed_dim=128,
        enc_depth=4,
        enc_num_heads=4,
        dec_embed_dim=96,
        dec_depth=4,
        dec_num_heads=4,
        state_dec_num_heads=6,
        state_size=64,
        local_mem_size=16,
        ray_enc_num_heads=4,
        dpt=DptConfig((12, 24, 48, 96), 32, 16),
    ),
    language=LanguageConfig(
        hidden_size=256,
        num_layers=6,
        num_heads=8,
        num_kv_heads=4,
        intermediate_size=704,
        vocab_size=1088,
        max_position=8192,
    ),
)

# The small model that is shipped: the same classes with the aids that let it learn on a CPU.
TINY = ModelConfig(
    name="tiny",
    siglip=SiglipConfig(
        image_size=144,
        patch_size=24,
        hidden_size=128,
        intermediate_size=512,
        num_layers=4,
        num_heads=4,
        conv_stem=True,
    ),
    cut3r=Cut3rConfig(
        image_size=96,
        patch_size=16,
        enc_embed_dim=96,
        enc_depth=1,
        enc_num_heads=4,
        dec_embed_dim=96,
        dec_depth=2,
        dec_num_heads=4,
        state_dec_num_heads=4,
        state_size=32,
        local_mem_size=4,
        mlp_ratio=2.0,
        ray_enc_depth=1,
        ray_enc_num_heads=4,
        dpt=DptConfig((12, 24, 48, 96), 32, 16),
        # rounding is there to match published weights
        rope_half_rounding=False,
        motion_columns=48,
        pose_chain=True,
        conv_stem=True,
    ),
    language=LanguageConfig(
        hidden_size=192,
        num_layers=6,
        num_heads=6,
        num_kv_heads=6,
        intermediate_size=512,
        vocab_size=1216,
        max_position=8192,
        text_only_heads=3,
    ),
    fusion_heads=4,
    fusion_same_patch=True,
    pool="none",
    newline="no_token",
    number_decoding="closest",
)

MODEL_PRESETS: dict[str, ModelConfig] = {
    "tiny-random": replace(TINY_RANDOM, random_seed=0),
    "tiny-start": replace(TINY, name="tiny-start", random_seed=0),
    "vlm3r-7b-random": replace(VLM3R_7B, name="vlm3r-7b-random", random_seed=0),
}
