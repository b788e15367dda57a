#!/usr/bin/env bash
# Qwen3 32B on vLLM 0.32, as servesat planned it.
# 1 server of 2 × h100-sxm (tp 2), Qwen/Qwen3-32B-FP8; up to 64 sequences, 320 tokens a step
# at best    TPOT 8.25 ms, TTFT 66 ms, 7,757 output tokens/s in all; by the ideal cost model
# expected   TPOT 21.6 ms, TTFT 737.9 ms, 2,779 output tokens/s; by the calibrated one, from vllm 0.19.0
# price      $13.76 an hour, $10,044.80 a month: aws us-east-1 on demand
#            $0.4927 per million output tokens
# proof      no plan of the spec costs less
# memory     21 GB of KV cache are needed in a replica, and 93.4 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
set -euo pipefail
exec vllm serve Qwen/Qwen3-32B-FP8 \
  --tensor-parallel-size 2 \
  --max-model-len 2500 \
  --max-num-seqs 64 \
  --max-num-batched-tokens 320 \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port 8000
