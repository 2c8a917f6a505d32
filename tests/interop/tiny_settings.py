"""The settings of tiny configurations of transformers' types, common ones and those of single types."""

from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "sliding_window": 7,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "n_ctx": 64,
    "d_model": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Settings that a tiny configuration has where the type knows them and its default is not null."""
SPARSE: dict[str, Any] = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 6),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 12,
    "shared_intermediate_size": 12,
    "n_group": 3,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "kv_lora_rank": 12,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
}
"""The same for experts and latents."""
BERT = {"is_decoder": True, "max_position_embeddings": 40}
BART = {
    "is_decoder": True, "is_encoder_decoder": False, "decoder_layers": 3, "decoder_attention_heads": 4,
    "decoder_ffn_dim": 44, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 44,
}  # fmt: skip
DELTA = {
    "num_hidden_layers": 4, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 6,
    "linear_value_head_dim": 8,
}  # fmt: skip
INDEX = {"index_n_heads": 14, "index_head_dim": 8, "index_topk": 7}
"""So many heads that no token is scored 0 by all of them: of equal scores, torch.topk takes any."""
BLT = {"vocab_size": 300, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 44}
OWN: dict[str, dict[str, Any]] = {
    "blt": {
        "attn_implementation": "sdpa",  # the eager one hides empty patches from themselves, as no number, in float64
        "patching_threshold": 4.55, "local_attention_window_len": 7, "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_nb_functions": 2, "encoder_hash_byte_group_size": [2, 3],
        "encoder_config": {**BLT, "num_hidden_layers": 2, "hidden_size_global": 40},
        "decoder_config": {**BLT, "num_hidden_layers": 3, "num_key_value_heads": 2, "hidden_size_global": 40},
        "global_config": {**BLT, "num_hidden_layers": 2, "hidden_size": 40},
        "patcher_config": {**BLT, "num_hidden_layers": 2, "hidden_size": 24, "sliding_window": 5},
    },
    "llama4_text": {
        "num_hidden_layers": 4, "attention_chunk_size": 7, "floor_scale": 5, "moe_layers": [1, 3], "head_dim": 8,
        "intermediate_size_mlp": 36, "no_rope_layers": [1, 1, 1, 0],
    },
    "granitemoe_swa": {"num_hidden_layers": 4},
    "zamba": {
        "num_hidden_layers": 6, "attention_hidden_size": 64, "attention_head_dim": 16, "mamba_dt_rank": 3,
        "mamba_d_state": 5, "layers_block_type": ["mamba", "hybrid", "mamba", "mamba", "hybrid", "hybrid"],
        "rms_norm_eps": 0.01,
    },
    "zamba2": {
        "num_hidden_layers": 3, "mamba_ngroups": 2, "mamba_d_state": 6, "n_mamba_heads": 4, "adapter_rank": 3,
        "layers_block_type": ["mamba", "hybrid", "hybrid"], "use_shared_attention_adapter": True, "use_mem_rope": True,
        "time_step_min": 1e-6,
    },
    "gemma3n_text": {
        "num_hidden_layers": 5, "vocab_size_per_layer_input": 300, "hidden_size_per_layer_input": 6,
        "altup_num_inputs": 3, "num_kv_shared_layers": 2, "laurel_rank": 5, "intermediate_size": [44, 40, 44, 36, 44],
        "activation_sparsity_pattern": [0.8, 0.6, 0.0, 0.0, 0.0],
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention",
                        "sliding_attention"],
    },
    "xlstm": {
        "num_heads": 4, "ffn_round_up_to_multiple_of": 4, "norm_eps": 1e-3, "num_blocks": 3, "embedding_dim": 32,
        "use_bias": True,
    },
    "jetmoe": {"kv_channels": 6, "rms_norm_eps": 0.01},
    "inkling_text": {
        "num_hidden_layers": 4, "local_layer_ids": [1, 2], "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_head_dim": 6, "sliding_window_size": 7,
        "d_rel": 5, "rel_extent": 11, "log_scaling_n_floor": 4, "n_shared_experts": 2, "conv_kernel_size": 3,
    },
    "mllama_text_model": {"num_hidden_layers": 4, "cross_attention_layers": [1]},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1,
        "mamba_d_state": 6, "mamba_expand": 2,
    },
    **{key: {"num_hidden_layers": 5} for key in ("smollm3", "cohere2", "exaone4", "olmo3", "cwm", "granite_swa")},
    "gemma3_text": {"num_hidden_layers": 7},
    "gemma4_text": {
        # few layers: the noise of angles in single precision grows tenfold by each that has vectors of tokens
        "num_hidden_layers": 3, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "global_head_dim": 12, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 5, "vocab_size_per_layer_input": 300, "final_logit_softcapping": 30.0,
    },
    "gemma4_unified_text": {
        "layer_types": [*["sliding_attention", "full_attention"] * 3], "num_hidden_layers": 6, "global_head_dim": 12,
        "num_kv_shared_layers": 3, "use_double_wide_mlp": True,
    },
    "ministral": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 7},
    "gptj": {"rotary_dim": 4},
    **{key: {"head_dim": 4} for key in ("deepseek_v3", "youtu", "axk1")},
    "deepseek_v32": {**INDEX, "head_dim": 4},
    "longcat_flash": {
        "num_layers": 2, "ffn_hidden_size": 44, "expert_ffn_hidden_size": 20, "zero_expert_num": 2, "moe_topk": 3,
        "num_key_value_heads": 4, "head_dim": 4,
    },
    "axk2": {**INDEX, "head_dim": 4, "gated_norm_rank": 5},
    "dots3_note_text": {
        **INDEX, "num_hidden_layers": 4, "layer_types": [*["indexed_attention", "sliding_attention"] * 2],
        "head_dim": 12, "num_key_value_heads": 4, "shared_experts_intermediate_size": 12, "sliding_window": 7,
        "per_layer_config": {i: {
            "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 14, "kv_lora_rank": 10, "head_dim": 14,
            "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 5,
        } for i in (1, 3)},
    },
    "phimoe": {
        "lm_head_bias": True, "attention_bias": True, "router_jitter_noise": 0.3,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [2.0] * 4, "short_mscale": 1.2, "long_mscale": 1.3, "original_max_position_embeddings": 64,
        },
    },
    "xlnet": {
        "attn_type": "uni", "d_model": 32, "n_head": 4, "n_layer": 3, "d_inner": 44, "d_head": None, "vocab_size": 300,
    },
    "hrm_text": {"num_hidden_layers": 2, "H_cycles": 2, "L_cycles": 3, "L_bp_cycles": [2], "embedding_scale": 3.0},
    "zaya": {
        "num_experts_per_tok": 1, "layer_types": ["hybrid", "hybrid_sliding", "hybrid"], "sliding_window": 7,
        "cca_time0": 3, "cca_time1": 2, "attention_bias": True, "lm_head_bias": True, "head_dim": 12,
        "router_hidden_size": 12,
        "rope_parameters": {
            name: {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": 0.5}
            for name, theta in (("hybrid", 5e6), ("hybrid_sliding", 1e4))
        },
    },
    "doge": {"keep_window_size": 6, "attention_bias": True},
    "beam": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"], "final_logit_softcapping": 30.0,
    },
    "glm_moe_dsa": {
        **INDEX, "head_dim": 4, "num_hidden_layers": 5, "indexer_types": ["full", "full", "shared", "shared", "full"],
    },
    "deepseek_v4": {
        **INDEX, "index_topk": 3, "num_key_value_heads": 1, "num_hidden_layers": 5, "o_groups": 2, "o_lora_rank": 6,
        "layer_types": [
            "heavily_compressed_attention", "compressed_sparse_attention", "sliding_attention",
            "compressed_sparse_attention", "heavily_compressed_attention",
        ],
        "compress_rates": {"compressed_sparse_attention": 3, "heavily_compressed_attention": 5},
        "mlp_layer_types": [*["hash_moe"] * 2, *["moe"] * 3], "swiglu_limit": 1.5, "hc_mult": 3, "hc_eps": 1e-3,
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    },
    "hy_v4": {
        **INDEX, "head_dim": 4, "num_hidden_layers": 5, "indexer_types": ["full", "full", "shared", "shared", "full"],
        "num_key_value_heads": 4, "hc_mult": 3, "hc_eps": 1e-3, "hc_magnitude": 1.5, "swiglu_limit": 1.5,
    },
    "kolibri1": {"num_hidden_layers": 5},
    "minimax_m3_vl_text": {
        "num_hidden_layers": 4, "layer_types": ["full_attention", *["minimax_m3_sparse"] * 3], "index_n_heads": 2,
        "index_head_dim": 10, "index_block_size": 4, "index_topk_blocks": 3, "dense_intermediate_size": 36,
        "mlp_layer_types": ["dense", *["sparse"] * 3], "swiglu_limit": 1.5,
    },
    "cohere_compass_text": {
        "num_hidden_layers": 4, "layer_types": [*["sliding_attention"] * 3, "full_attention"], "logit_scale": 0.5,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}, "full_attention": None,
        },
    },
    "cohere2_moe": {
        "num_hidden_layers": 5, "head_dim": 8, "num_shared_experts": 2, "expert_selection_fn": "sigmoid",
        "mlp_layer_types": ["dense", *["sparse"] * 4], "prefix_dense_intermediate_size": 36,
    },
    "dbrx": {
        "n_layers": 3, "n_heads": 4, "attn_config": {"clip_qkv": 1.5, "kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 20, "moe_num_experts": 6, "moe_top_k": 2},
    },
    "mimo_v2_flash": {
        "num_hidden_layers": 4, "layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"],
        "head_dim": 12,
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "head_dim": 4},
    **{key: {"state_size": 4, "intermediate_size": 64, "expand": 2} for key in ("mamba", "falcon_mamba")},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 6, "n_groups": 2, "chunk_size": 8},
    "rwkv": {"attention_hidden_size": 32},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 7, "num_hidden_layers": 4},
    "jamba": {
        "mamba_d_state": 4, "mamba_dt_rank": 5, "num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2,
    },
    "bamba": {
        "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 8,
        "attn_layer_indices": [1],
    },
    "olmo_hybrid": {"num_hidden_layers": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 10},
    "nemotron_h": {
        "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 6, "use_mamba_kernels": False,
        "moe_shared_expert_intermediate_size": 12,
    },
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), DELTA),
    "qwen4_exp_text": {
        **DELTA, "hc_count": 3, "hc_lowrank": 5, "output_gate_type": "sigmoid", "indexer_n_heads": 14,
        "indexer_kv_heads": 1, "indexer_head_dim": 10, "indexer_budget": 6, "indexer_compress_ratio": 3,
        "ple_layer_ids": [1, 3], "ple_embed_dim": 24, "ngram_size": 3, "heads_per_ngram": 2,
        "ngram_vocab_size_base": 90, "eos_token_id": 2,
    },
    "moshi": {"sliding_window": 3000, "ffn_dim": 44},
    "falcon_h1": {
        "mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_head": 12, "mamba_n_groups": 2, "mamba_d_state": 6,
        "mamba_rms_norm": True, "mlp_multipliers": [0.7, 1.3], "ssm_multipliers": [0.6, 0.8, 1.2, 1.4, 0.9],
        "ssm_in_multiplier": 0.7, "ssm_out_multiplier": 1.2, "attention_in_multiplier": 0.8,
        "attention_out_multiplier": 1.3, "key_multiplier": 0.6, "embedding_multiplier": 2.0, "lm_head_multiplier": 0.5,
    },
    "minimax": {
        "num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2, "block_size": 8,
        "full_attn_alpha_factor": 1.4, "linear_attn_beta_factor": 0.8, "mlp_alpha_factor": 1.2,
    },
    "kimi_linear": {
        "n_group": 3, "topk_group": 2, "n_shared_experts": 2,
        "num_hidden_layers": 4, "layer_types": [*["linear_attention"] * 3, "full_attention"], "linear_num_heads": 4,
        "linear_head_dim": 8, "mlp_layer_types": ["dense", *["sparse"] * 3], "num_key_value_heads": 4,
    },
    "bailing_hybrid": {
        "num_hidden_layers": 4, "layer_group_size": 2, "head_dim": 8, "num_key_value_heads": 4,
        "first_k_dense_replace": 1, "num_local_experts": 6, "n_group": 3, "topk_group": 2, "num_experts_per_tok": 2,
        "kda_lower_bound": -2.5, "n_shared_experts": 2,
    },
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "ctrl": {"dff": 44},
    "xlm": {"causal": True, "emb_dim": 32, "n_heads": 4, "n_layers": 3, "n_words": 300, "max_position_embeddings": 64},
    "git": {"num_key_value_heads": 4, "max_position_embeddings": 40},
    "lfm3": {"num_hidden_layers": 5},
    "lfm2": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "modernbert-decoder": {"local_attention": 14},
    "laguna": {"num_attention_heads_per_layer": None},
    "diffllama": {"head_dim": 8},
    **{key: {"num_hidden_layers": 5} for key in ("afmoe", "exaone_moe", "mellum")},
    "granitemoeshared": {"shared_intermediate_size": 12},
    "hunyuan_v1_moe": {"head_dim": 8, "moe_intermediate_size": 20, "moe_topk": 2},
    "dots1": {"n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "solar_open": {"n_group": 1, "topk_group": 1},
    "codegen": {"rotary_dim": 4},
    "mpt": {"n_heads": 12, "d_model": 48, "n_layers": 3, "max_seq_len": 64},
    "bloom": {"n_head": 12, "hidden_size": 48},
    "falcon": {"ffn_hidden_size": 44, "bias": True},
    "starcoder2": {"sliding_window": 7},
    "opt": {"ffn_dim": 44, "word_embed_proj_dim": 32},
    "xglm": {"num_layers": 3, "attention_heads": 4, "ffn_dim": 44},
    "whisper": {**BART, "max_target_positions": 64},
    "marian": {**BART, "decoder_vocab_size": 300},
    **dict.fromkeys(("bart", "mvp", "plbart", "trocr", "blenderbot-small", "bigbird_pegasus"), BART),
    **dict.fromkeys(("mbart", "blenderbot", "pegasus"), BART),
    **dict.fromkeys(
        (
            "bert", "bert-generation", "camembert", "data2vec-text", "ernie", "megatron-bert", "roberta",
            "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl",
        ),
        BERT,
    ),
    "roc_bert": {**BERT, "pronunciation_embed_dim": 6, "shape_embed_dim": 5},
    "xmod": {**BERT, "languages": ["en_XX", "de_DE"], "default_language": "de_DE"},
    "electra": {**BERT, "embedding_size": 24},
    "rembert": {**BERT, "input_embedding_size": 20, "output_embedding_size": 28},
    "big_bird": {**BERT, "attention_type": "original_full", "use_bias": True},
    "roformer": {**BERT, "embedding_size": 32},
}  # fmt: skip
"""Settings of single types."""


AROUND = {
    "dots3_note": "dots3_note_text", "emu3": "emu3_text_model", "fuyu": "persimmon", "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text", "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text", "got_ocr2": "qwen2",
    "llama4": "llama4_text", "mllama": "mllama_text_model", "moss_transcribe_diarize": "qwen3",
    "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text", "qwen4_exp": "qwen4_exp_text",
}  # fmt: skip
"""The type within those that hold one."""
BARE = frozenset(["gemma3n"])
"""Types whose towers need further packages: they are built without them."""
INNER = {"emu3_text_model": "Emu3TextConfig", "mllama_text_model": "MllamaTextConfig"}
"""Configurations within others alone."""
TOWERS: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "depth": 1,
    "num_heads": 2, "d_model": 16, "encoder_layers": 1, "encoder_ffn_dim": 16, "encoder_attention_heads": 2,
    "out_hidden_size": 32, "num_global_layers": 1, "output_channels": 16, "global_attn_indexes": [0],
    "intermediate_layers_indices": [0], "image_size": 56, "patch_size": 14, "vision_output_dim": 32,
    "base_channels": 32, "mlp_layer_types": ["dense"], "adapter_in_dim": 16, "adapter_out_dim": 32,
    "adapter_input_size": 16, "num_blocks": 1, "ext_pw_out_channel": 16, "depthwise_separable_out_channel": 16,
    "nemo_conv_channels": 16,
}  # fmt: skip
"""Settings of towers, which no test reads."""


TABLES = ("tid2eid",)
"""Buffers that say which experts tokens meet."""
SHORT = {"qwen3_next": 14, "zamba2": 12}
"""Tokens of types whose float32 arithmetic inside adds up too much noise over more."""
DISTINCT = ("doge",)
"""Types that choose among tokens by what each is alone: of equal ones, torch.topk takes any."""
SINGLE = ("xglm",)
"""Types that fail in float64."""
UNMASKED = ("xlnet",)
"""Types that fail on a mask of padding where they are causal."""
FORMULAS = {
    "roformer": ("embed_positions",),
    "roc_bert": ("shape_embed", "pronunciation_embed"),
    "minimax": ("slope_rate", "query_decay", "key_decay", "diagonal_decay"),
    "qwen4_exp_text": ("layer_multipliers", "ngram_heads"),
}
"""Weights that follow from a formula, or whose padding is zero."""
