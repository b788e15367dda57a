#!/usr/bin/env bash
# Qwen3 32B on vLLM 0.32, as servesat planned it.
# 4 servers of 2 × h100-sxm (tp 2), Qwen/Qwen3-32B-FP8; up to 41 sequences, 2,041 tokens a step
# predicted  TPOT 17.03 ms ± 2.827, TTFT 366.8 ms ± 127.3, 9,251 output tokens/s in all; by the calibrated cost model
# price      $23.92 an hour, $17,461.60 a month: civo gpu-h100-sxm-xlarge on demand
#            $0.7182 per million output tokens
# proof      no plan of the spec costs less
# memory     13.4 GB of KV cache are needed in a replica, and 101 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
# usage: the number of the server on its machine, 0 to 3; default: 0
set -euo pipefail
server=${1:-0}
export CUDA_VISIBLE_DEVICES="$(seq -s, $((server * 2)) $((server * 2 + 1)))"
exec vllm serve Qwen/Qwen3-32B-FP8 \
  --tensor-parallel-size 2 \
  --max-model-len 2500 \
  --max-num-seqs 41 \
  --max-num-batched-tokens 2041 \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port "$((8000 + server * 1))"
