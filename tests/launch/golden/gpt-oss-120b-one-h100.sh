#!/usr/bin/env bash
# gpt-oss 120B on vLLM 0.32, as servesat planned it.
# 1 server of 1 × h100-sxm (tp 1), openai/gpt-oss-120b; up to 51 sequences, 2,051 tokens a step
# at best    TPOT 19.92 ms, TTFT 23.77 ms, 2,561 output tokens/s in all; by the ideal cost model
# expected   TPOT 24.56 ms, TTFT 324.2 ms, 2,027 output tokens/s; by the calibrated one, from vllm 0.19.0
# price      $6.880 an hour, $5,022.40 a month: aws us-east-1 on demand
#            $0.7463 per million output tokens
# proof      no plan of the spec costs less
# memory     2.47 GB of KV cache are needed in a replica, and 4.49 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
set -euo pipefail
exec vllm serve openai/gpt-oss-120b \
  --tensor-parallel-size 1 \
  --max-model-len 2500 \
  --max-num-seqs 51 \
  --max-num-batched-tokens 2051 \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port 8000
