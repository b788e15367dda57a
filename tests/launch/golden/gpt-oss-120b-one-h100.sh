#!/usr/bin/env bash
# gpt-oss 120B on vLLM 0.32, as servesat planned it.
# 1 server of 1 × h100-sxm (tp 1), openai/gpt-oss-120b; up to 20 sequences, 2,020 tokens a step
# predicted  TPOT 16.88 ms ± 2.633, TTFT 334.6 ms ± 107.1, 1,142 output tokens/s in all; by the calibrated cost model
# price      $2.290 an hour, $1,671.70 a month: verda FIN-02 1H100.80S.32V on demand
#            $0.5571 per million output tokens
# proof      no plan of the spec costs less
# memory     0.969 GB of KV cache are needed in a replica, and 6.09 GB more are free
# engine     decides which requests share a step, which are preempted and recomputed, and what of earlier prompts it reuses
#
set -euo pipefail
exec vllm serve openai/gpt-oss-120b \
  --tensor-parallel-size 1 \
  --max-model-len 2500 \
  --max-num-seqs 20 \
  --max-num-batched-tokens 2020 \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --host 0.0.0.0 \
  --port 8000
