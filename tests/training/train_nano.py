"""Sizes of a model that trains in milliseconds."""

from vlm3r_core.config import Cut3rConfig, DptConfig, LanguageConfig, ModelConfig, SiglipConfig

NANO = ModelConfig(
    name="nano",
    siglip=SiglipConfig(image_size=56, patch_size=14, hidden_size=24, intermediate_size=32, num_layers=1, num_heads=2),
    cut3r=Cut3rConfig(
        image_size=64,
        enc_embed_dim=32,
        enc_depth=1,
        enc_num_heads=2,
        dec_embed_dim=24,
        dec_depth=2,
        dec_num_heads=2,
        state_dec_num_heads=2,
        state_size=8,
        local_mem_size=4,
        ray_enc_num_heads=2,
        dpt=DptConfig((4, 4, 8, 8), 8, 4),
    ),
    language=LanguageConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=48,
        vocab_size=1088,
        max_position=4096,
    ),
    fusion_heads=2,
    random_seed=0,
)
