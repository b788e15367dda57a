#!/usr/bin/env bash
# DeepSeek-V3 on vLLM 0.32, as servesat planned it.
# 1 server of 8 × h200 (tp 1, experts over 8, 1 tokens ahead by mtp), deepseek-ai/DeepSeek-V3; up to 256 sequences, 2,064 tokens a step and group
# predicted  TPOT 42.51 ms ± 7.056, TTFT 1,683 ms ± 584.1, 5,591 output tokens/s in all; by the calibrated cost model
# price      $27.92 an hour, $20,381.60 a month: civo gpu-h200-sxm-xlarge on demand
#            $1.387 per million output tokens
# proof      no plan of the spec costs less
# memory     22.9 GB of KV cache are needed in a replica, and 227 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
set -euo pipefail
exec vllm serve deepseek-ai/DeepSeek-V3 \
  --tensor-parallel-size 1 \
  --data-parallel-size 8 \
  --enable-expert-parallel \
  --max-model-len 2500 \
  --max-num-seqs 32 \
  --max-num-batched-tokens 2064 \
  --speculative-config '{"method": "mtp", "num_speculative_tokens": 1}' \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port 8000
