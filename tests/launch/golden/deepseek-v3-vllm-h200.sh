#!/usr/bin/env bash
# DeepSeek-V3 on vLLM 0.32, as servesat planned it.
# 1 server of 8 × h200 (tp 1, experts over 8), deepseek-ai/DeepSeek-V3; up to 656 sequences, 2,082 tokens a step and group
# at best    TPOT 49.92 ms, TTFT 21.01 ms, 13,141 output tokens/s in all; by the ideal cost model
# expected   TPOT 86.06 ms, TTFT 4,596 ms, 6,900 output tokens/s; by the calibrated one, from vllm 0.19.0
# price      $63.30 an hour, $46,206.08 a month: aws us-east-1 on demand
#            $1.338 per million output tokens
# proof      no plan of the spec costs less
# memory     57.6 GB of KV cache are needed in a replica, and 206 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
set -euo pipefail
exec vllm serve deepseek-ai/DeepSeek-V3 \
  --tensor-parallel-size 1 \
  --data-parallel-size 8 \
  --enable-expert-parallel \
  --max-model-len 2500 \
  --max-num-seqs 82 \
  --max-num-batched-tokens 2082 \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port 8000
