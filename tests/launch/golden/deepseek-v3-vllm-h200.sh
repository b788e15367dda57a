#!/usr/bin/env bash
# DeepSeek-V3 on vLLM 0.32, as servesat planned it.
# 1 server of 8 × h200 (tp 1, experts over 8, 1 token ahead by mtp), deepseek-ai/DeepSeek-V3; up to 296 sequences, 2,074 tokens a step and group
# predicted  TPOT 42.82 ms ± 6.808, TTFT 1,697 ms ± 548.2, 6,417 output tokens/s in all; by the calibrated cost model
# price      $27.92 an hour, $20,381.60 a month: civo gpu-h200-sxm-xlarge on demand
#            $1.209 per million output tokens
# proof      no plan of the spec costs less
# memory     26.4 GB of KV cache are needed in a replica, and 223 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
set -euo pipefail
exec vllm serve deepseek-ai/DeepSeek-V3 \
  --tensor-parallel-size 1 \
  --data-parallel-size 8 \
  --enable-expert-parallel \
  --max-model-len 2500 \
  --max-num-seqs 37 \
  --max-num-batched-tokens 2074 \
  --speculative-config '{"method": "mtp", "num_speculative_tokens": 1}' \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port 8000
